"""How PostgreSQL keeps each table tidy: storage parameters, and what they are for.

Autovacuum's defaults wait until a fifth of a table is dead. Claims walk the front of an index, and every dead entry
there is passed over again and again until it is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: At 300 to 2,000 rotations a second, claim and settle leave 600 to 4,000 dead rows a second. A fiftieth of a million
#: is reached in 5 to 30 s, so a vacuum runs each time autovacuum looks, once a minute, and finds little each time.
GRANTS: Final[Mapping[str, object]] = {
    "fillfactor": 70,  # room for the new version of a row on its own page
    "autovacuum_vacuum_scale_factor": 0.02,
    # After an import: the visibility map is what lets counts and vacuums skip pages.
    "autovacuum_vacuum_insert_scale_factor": 0.05,
    # `rotate_at` moves on all the time, and plans need to know to where.
    "autovacuum_analyze_scale_factor": 0.05,
    # Ten times the default budget: about 100 MB/s of dirtied pages, so that a vacuum ends before the next is due.
    "autovacuum_vacuum_cost_delay": 2,  # milliseconds
    "autovacuum_vacuum_cost_limit": 2_000,
}
#: A few rows that are changed with nearly every claim: what share of them is dead says nothing, their number does.
CLIENT_STATUS: Final[Mapping[str, object]] = {
    "fillfactor": 50,  # most changes are HOT: they stay on their page and touch no index
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 200,
    "autovacuum_vacuum_cost_delay": 0,  # it is a page or two
}
#: Appended to and folded, never changed in place, so full pages do no harm. A fold leaves all of it dead at once.
GRANT_COUNTS: Final[Mapping[str, object]] = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 200,
    "autovacuum_vacuum_cost_delay": 0,
}
#: Appended to at the end and pruned at the front: pages at the end are marked as all visible, those at the front freed,
#: a little at a time instead of a fifth of many millions at once.
APPENDED: Final[Mapping[str, object]] = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_insert_scale_factor": 0.02,
    "autovacuum_vacuum_cost_limit": 2_000,
}
