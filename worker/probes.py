"""What a worker or beat says of itself on EVERGRANT_METRICS_PORT: `/healthz`, `/readyz` and `/metrics`.

The web process says the same there, by its own application (`worker.web.own_port`). This runs in threads of its own, so
that it answers while everything else is busy, or stuck.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry

from worker.domain.errors import ConfigurationError
from worker.exposition import exposition
from worker.readiness import is_ready

#: Seconds for a prober to say what it wants; a connection that says nothing holds a thread no longer.
_REQUEST_SECONDS: Final = 5.0
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status and what is said in JSON."""

    status: int
    body: dict[str, Any]


def alive_answer(complaints: Sequence[str]) -> Answer:
    """Return what `/healthz` says: 200, or 503 and what does not run any more; then only a restart helps."""
    if complaints:
        return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body={"status": "failing", "reasons": list(complaints)})
    return Answer(status=HTTPStatus.OK, body={"status": "ok"})


def ready_answer(checks: dict[str, str]) -> Answer:
    """Return what `/readyz` says: 200, or 503 and which dependency does not answer, and how."""
    if is_ready(checks):
        return Answer(status=HTTPStatus.OK, body={"status": "ok", "checks": checks})
    return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body={"status": "unavailable", "checks": checks})


def port_in_use(port: int, error: OSError) -> ConfigurationError:
    """Return what is said of EVERGRANT_METRICS_PORT where nothing can listen on it."""
    return ConfigurationError(
        f"EVERGRANT_METRICS_PORT: cannot listen on port {port}: {error.strerror}; "
        "give each process of a machine a port of its own"
    )


class Probes:
    """Serves probes and metrics in threads of its own.

    Args:
        port: where it listens, on all addresses; 0 takes a free one.
        registry: what this process counts.
        complaints: what of this process does not run any more; empty while it lives.
        checks: each dependency with `ok` or what is wrong with it.

    Raises:
        OSError: the port is in use.

    """

    def __init__(
        self,
        port: int,
        registry: CollectorRegistry,
        *,
        complaints: Callable[[], Sequence[str]],
        checks: Callable[[], dict[str, str]],
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_SECONDS

            def do_GET(self) -> None:
                match self.path.split("?", 1)[0]:
                    case "/healthz":
                        self._say(alive_answer(complaints()))
                    case "/readyz":
                        self._say(ready_answer(checks()))
                    case "/metrics":
                        body, content_type = exposition(registry, self.headers.get("Accept", ""))
                        self._send(HTTPStatus.OK, content_type, body)
                    case _:
                        self._say(Answer(status=HTTPStatus.NOT_FOUND, body={"status": "not found"}))

            def _say(self, answer: Answer) -> None:
                self._send(answer.status, _JSON, json.dumps(answer.body).encode())

            def _send(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Log nothing: probes come every few seconds."""

        self._server = ThreadingHTTPServer(("", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
