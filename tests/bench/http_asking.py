"""Asking an HTTP server over one connection, and nothing around it: what is measured is the server's time."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

_LIMIT_S: Final = 60.0
_CHUNK: Final = 65_536


class Connection:
    """One connection that is kept.

    Args:
        url: the server's, `http://host:port`.
        headers: sent with every request.

    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        lines = {"Host": parts.netloc, **headers}
        self._rest = "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address, _LIMIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def get(self, path: str) -> tuple[int, float]:
        """Ask for a path; return the status, and the seconds from the first byte sent to the last byte read."""
        request = f"GET {path} HTTP/1.1\r\n{self._rest}".encode("latin-1")
        began = time.perf_counter()
        self._socket.sendall(request)
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._more()
        head, _, body = read.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":", 1)[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += self._more()
        return int(head[9:12]), time.perf_counter() - began

    def _more(self) -> bytes:
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionError("the server has closed the connection in the middle of an answer")
        return chunk


def ask_all(url: str, headers: dict[str, str], paths: Sequence[str], connections: int) -> list[float]:
    """Ask for every path, over so many connections at once; return the seconds of each answer.

    Raises:
        RuntimeError: when an answer has another status than 200.
        OSError: when a connection cannot be made, or breaks.

    """

    def ask(share: Sequence[str]) -> list[float]:
        with Connection(url, headers) as connection:
            answers = [connection.get(path) for path in share]
        wrong = [status for status, _took in answers if status != 200]
        if wrong:
            raise RuntimeError(f"{len(wrong)} of {len(share)} answers have not the status 200 but {sorted(set(wrong))}")
        return [took for _status, took in answers]

    with ThreadPoolExecutor(connections) as pool:
        return [
            took
            for found in pool.map(ask, (paths[number::connections] for number in range(connections)))
            for took in found
        ]
