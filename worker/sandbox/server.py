"""Runs the sandbox: as a process of its own, or in a thread for as long as a `with` block."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

import uvicorn

from worker.domain.secret import Secret
from worker.sandbox.application import make_application
from worker.sandbox.authorization_server import DEFAULT_RETENTION_S, open_authorization_server
from worker.sandbox.connection import DroppableConnection
from worker.sandbox.control import SandboxControl
from worker.sandbox.world import World, real_world

_BACKLOG: Final = 2048  # connections waiting to be accepted: a burst of a whole worker's window fits
_KEEP_ALIVE_S: Final = 75  # longer than clients keep idle connections, so that they close first and never race it
_START_LIMIT_S: Final = 30.0  # starting takes 0.1 s; this only turns a hang into an error


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it listens and hangs up on waiting clients when it stops."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A stalled answer could take minutes; a server that stops breaks its connections off.
        for connection in list(self.server_state.connections):
            connection.transport.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        # uvicorn would raise the signal once more after the shutdown; a sandbox that was told to stop has succeeded.
        self.should_exit = True


def serve(
    *,
    host: str,
    port: int,
    state_path: Path | None,
    control_token: Secret,
    world: World,
    on_ready: Callable[[str], None],
    retention: float = DEFAULT_RETENTION_S,
) -> None:
    """Run a sandbox in this process until SIGTERM or SIGINT.

    Args:
        host: the address to listen on; keep it on loopback, for the control token is its only guard.
        port: the port, 0 for a free one.
        state_path: the file that keeps the state, made when missing; None keeps it in memory.
        control_token: the bearer token of the control API.
        world: time, tokens and chance.
        on_ready: called once with the sandbox's address when it accepts connections.
        retention: seconds for which a revoked or expired family keeps its refresh tokens.

    Raises:
        OSError: the port cannot be had.
        StateFileError: the state file is in use or of another version.
    """
    with closing(_listen(host, port)) as listener:
        origin = _origin(listener)
        server = _make_server(
            origin=origin,
            state_path=state_path,
            control_token=control_token,
            world=world,
            retention=retention,
            on_ready=lambda: on_ready(origin),
        )
        server.run(sockets=[listener])


class RunningSandbox:
    """A sandbox in a thread of this process, on a free loopback port, for the length of a `with` block.

    Args:
        state_path: the file that keeps the state; None keeps it in memory.
        world: time, tokens and chance; the machine's own unless given.
        retention: seconds for which a revoked or expired family keeps its refresh tokens.

    Attributes:
        url: the sandbox's address, `http://127.0.0.1:port`.
        control: drives it.
    """

    url: str
    control: SandboxControl

    def __init__(
        self, *, state_path: Path | None = None, world: World | None = None, retention: float = DEFAULT_RETENTION_S
    ) -> None:
        self._state_path = state_path
        self._world = real_world() if world is None else world
        self._retention = retention

    def __enter__(self) -> Self:
        ready = threading.Event()
        control_token = Secret(real_world().new_token())
        self._listener = _listen("127.0.0.1", 0)
        self.url = _origin(self._listener)
        try:
            self._server = _make_server(
                origin=self.url,
                state_path=self._state_path,
                control_token=control_token,
                world=self._world,
                retention=self._retention,
                on_ready=ready.set,
            )
        except BaseException:
            self._listener.close()
            raise
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="sandbox", daemon=True
        )
        self._thread.start()
        if not ready.wait(_START_LIMIT_S):
            message = f"the sandbox did not start within {_START_LIMIT_S} s; its log says why"
            raise TimeoutError(message)
        self.control = SandboxControl(self.url, control_token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.control.close()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


def _make_server(
    *,
    origin: str,
    state_path: Path | None,
    control_token: Secret,
    world: World,
    retention: float,
    on_ready: Callable[[], None],
) -> _Server:
    server = open_authorization_server(origin=origin, state_path=state_path, world=world, retention=retention)
    config = uvicorn.Config(
        make_application(server, control_token),
        http=DroppableConnection,
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,  # the loggers belong to whoever runs the sandbox in a thread
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=_BACKLOG,
    )
    return _Server(config, on_ready=on_ready)


def _listen(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    # With its protocol named, asyncio turns Nagle's delay off; without, each small answer waits 40 ms for an ACK.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _origin(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
