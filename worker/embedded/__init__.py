"""A real PostgreSQL and a real Valkey for `evergrant up`, where no service of one's own is configured.

The programs come from wheels of the package index, or from the machine. Each server listens on a free loopback port,
is bound to the process that started it (its death, SIGKILL included, is theirs), and keeps its data in a folder of its
own below `EVERGRANT_HOME_DIR`. Nothing here is used when `EVERGRANT_DATABASE_URL` and `EVERGRANT_BROKER_URL` are set.

Start with `services`, which puts the parts together; `bound` says how a child process is tied to its parent, and
`service_user` how PostgreSQL runs when `evergrant up` is started by root.
"""

from __future__ import annotations

from worker.embedded.bound import bind_to_parent, start_bound, stop_in_steps
from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.folder_lock import FolderLock
from worker.embedded.postgres import EmbeddedPostgres
from worker.embedded.services import EmbeddedServices, ServiceUrls, running_services
from worker.embedded.valkey import EmbeddedValkey

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedServiceError",
    "EmbeddedServices",
    "EmbeddedValkey",
    "FolderLock",
    "ServiceUrls",
    "bind_to_parent",
    "running_services",
    "start_bound",
    "stop_in_steps",
]
