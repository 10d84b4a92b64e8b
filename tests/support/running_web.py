"""The web application on a real socket, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import uvicorn
from prometheus_client import CollectorRegistry

from tests.secrecy.answers import kept_answers
from tests.support.waiting import wait_until
from worker.bootstrap import Container
from worker.web.app import create_web_app

_LIMIT_S: Final = 60.0  # starting takes a tenth of a second; this only turns a hang into an error

T = TypeVar("T")


class RunningWeb:
    """What `evergrant web` serves, on a free loopback port, for as long as a `with` block.

    Args:
        create: makes the container when it is given the URL that the server will have.
        port: where it listens; 0: on a free one.

    Attributes:
        url: where it listens, `http://127.0.0.1:port`.
        container: the one that serves; it belongs to the server's loop, so work with it through `run`.

    """

    container: Container

    def __init__(self, create: Callable[[str, CollectorRegistry], Container], port: int = 0) -> None:
        self._create = create
        self._listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._registry = CollectorRegistry()
        config = uvicorn.Config(
            kept_answers(create_web_app(self._create_container, self._registry)),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="web", daemon=True
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT_S)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), _LIMIT_S, "the web server listens")
        assert self._server.started, "the web server did not start; the log says why"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_LIMIT_S)
        self._listener.close()

    def _create_container(self) -> Container:
        self._loop = asyncio.get_running_loop()
        self.container = self._create(self.url, self._registry)
        return self.container
