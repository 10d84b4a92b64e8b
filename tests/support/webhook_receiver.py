"""A receiver of webhooks on loopback: it verifies them with the Standard Webhooks library, and answers by script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from standardwebhooks import Webhook

from tests.secrecy.told import tell

_LIMIT_S: Final = 30.0  # a held answer is let go at the latest then, so that a failed test ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message whose signature was verified."""

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]
    headers: Mapping[str, str]  #: lower-case names
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a message is answered with."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


TAKEN: Final = Reply()


class WebhookReceiver:
    """A receiver, for as long as a `with` block.

    Args:
        secret: `whsec_…`, by which messages must be signed; others are answered with 401.
        answer: says what a message is answered with; it may block, and then the answer waits.

    Attributes:
        received: every message that was verified, in the order of arrival.
        taken: those of them that were answered 2xx, in the order of the answers.
        refused: how many were not signed by the secret.

    """

    def __init__(
        self, secret: str, answer: Callable[[Received], Reply] = lambda _message: TAKEN, port: int = 0
    ) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self.taken: list[Received] = []
        self.refused = 0
        self._webhook = Webhook(secret)
        self._released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._reply(self, body)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.port}/hooks"

    def hold(self) -> None:
        """Let answers wait until `release`."""
        self._released.clear()
        self.answer = self._held

    def release(self) -> None:
        """Let held answers go."""
        self._released.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _held(self, _message: Received) -> Reply:
        self._released.wait(_LIMIT_S)
        return TAKEN

    def _reply(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        tell("webhooks", body)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        try:
            payload = self._webhook.verify(body, headers)
        except Exception:  # noqa: BLE001 -- the library raises several kinds; each means that it is not ours
            self.refused += 1
            self._send(handler, Reply(status=401))
            return
        message = Received(id=headers["webhook-id"], headers=headers, body=body, **payload)
        self.received.append(message)
        reply = self.answer(message)
        if reply.status // 100 == 2:
            self.taken.append(message)
        self._send(handler, reply)

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        try:
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            if reply.status != 204 and "content-length" not in reply.headers:
                handler.send_header("content-length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
        except OSError:
            handler.close_connection = True  # whoever sent it is gone
