"""What each server in Python agrees to with `child_server.py`, for an application that speaks WSGI.

Nothing but the standard library is imported, for each server waits for it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

#: Seconds between looks at whether the parent is still there: a forked copy of it may hold the other end of stdin open.
_PARENT_CHECK_S: Final = 1.0


def serve(build: Callable[[dict[str, Any], str], WSGIApplication]) -> NoReturn:
    """Read the configuration from stdin, listen on a free loopback port, say so on stdout, and serve until stdin ends.

    Requests are answered one after the other in this thread, so that a database in memory is the same for all of them.

    Args:
        build: makes the application of the configuration and the issuer.

    """
    threading.Thread(target=_end_with_parent, args=[os.getppid()], name="end with parent", daemon=True).start()
    wanted = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, name="end with stdin", daemon=True).start()
    server = WSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    issuer = f"http://127.0.0.1:{server.server_port}"
    server.set_app(build(wanted, issuer))
    print(json.dumps({"issuer": issuer, "port": server.server_port}), flush=True)
    server.serve_forever()
    raise AssertionError  # serve_forever ends with the process


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)
