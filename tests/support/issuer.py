"""An issuer on loopback that publishes metadata (OpenID Connect Discovery, RFC 8414) and notes what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Issuer(ThreadingHTTPServer):
    """Publishes `metadata` wherever it is looked for; without any it answers 404."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.metadata: dict[str, Any] | None = None
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Return the issuer's identifier."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, **changes: object) -> Mapping[str, Any]:
        """Publish metadata that names this issuer and endpoints of its own, with some members changed."""
        self.metadata = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            **changes,
        }
        return self.metadata


class _Handler(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        metadata = self.server.metadata
        found = metadata is not None and "/.well-known/" in self.path
        body = json.dumps(metadata).encode() if found else b"{}"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name in the standard library
        """Say nothing: a test looks at `asked`."""


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Run one for as long as a `with` block."""
    with Issuer() as issuer:
        thread = threading.Thread(target=issuer.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield issuer
        finally:
            issuer.shutdown()
            thread.join()
