"""A token endpoint that costs next to nothing: `python -m tests.bench.token_endpoint --grants N`.

HTTP/1.1 is read by hand, on uvloop where it is installed. Each refresh token is accepted once. Latency and tail are set
while it runs (`Behaviour`), and `GET /control` tells what it counted and what CPU time it has cost.
It is for a benchmark on loopback: a request's body must be a form, with a length, and nothing in it is decoded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random  # noqa: TID251 -- a program of its own; the tail of its answers is drawn from a seed
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final, cast

from tests.bench.issuer import Issuer

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_FIELD: Final = b"refresh_token="
_REFUSED: Final = b'{"error":"invalid_grant"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the endpoint answers; all times in seconds.

    Attributes:
        latency: before an ordinary answer.
        jitter: the latency is drawn between 1 - jitter and 1 + jitter times as much.
        tail_share: which share of the answers takes `tail_latency` instead.
        tail_latency: before such an answer.
        seed: of the draws for jitter and tail.
        close_idle_after: a connection without a request for so long is closed; 0: never.
        closing_takes: so long before the close is seen, a request is not read any more: as if the server's FIN and the
            request had crossed on the way, with a round trip of that length.

    """

    latency: float = 0.0
    jitter: float = 0.0
    tail_share: float = 0.0
    tail_latency: float = 0.0
    seed: int = 1
    close_idle_after: float = 0.0
    closing_takes: float = 0.0


class Endpoint:
    """What all connections share."""

    def __init__(self, grants: int, expires_in: int) -> None:
        self.expires_in = expires_in
        self.connections = 0  #: accepted so far
        self.unread = 0  #: requests that came into a connection that was being closed
        self.undelivered = 0  #: answers whose connection was gone when they were due
        self.reset(grants)
        self.behave(Behaviour())

    def reset(self, grants: int) -> None:
        """Begin with new grants, and count from nothing."""
        self.issuer = Issuer(grants, self.expires_in)
        self.connections = self.unread = self.undelivered = 0

    def behave(self, behaviour: Behaviour) -> None:
        """Answer like this from now on."""
        self.behaviour = behaviour
        self._chance = random.Random(behaviour.seed)

    def delay(self) -> float:
        """Return the seconds before the next answer."""
        its = self.behaviour
        if its.tail_share and self._chance.random() < its.tail_share:
            return its.tail_latency
        return its.latency * self._chance.uniform(1 - its.jitter, 1 + its.jitter) if its.jitter else its.latency

    def told(self) -> dict[str, float]:
        """Return what was counted, and the CPU seconds of this process since its start."""
        counts = asdict(self.issuer.counts)
        return {
            **counts,
            "connections": self.connections,
            "unread": self.unread,
            "undelivered": self.undelivered,
            "cpu_seconds": time.process_time(),
        }


class Connection(asyncio.Protocol):
    """One client's connection: one request at a time, kept alive."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._closing = False
        self._last_used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast("asyncio.Transport", transport)
        self._endpoint.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer once a request is whole."""
        if self._closing:
            self._endpoint.unread += not self._received  # once, in however many pieces it comes
            self._received += data
            return
        self._received += data
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        head = self._received[:end]
        length = _content_length(head)
        if len(self._received) < end + 4 + length:
            return
        body = self._received[end + 4 : end + 4 + length]
        self._received = self._received[end + 4 + length :]
        if head.startswith(b"POST /token "):
            self._refresh(body)
        else:
            self._control(head.split(b" ", 2), body)

    def _refresh(self, body: bytes) -> None:
        start = body.find(_FIELD) + len(_FIELD)
        end = body.find(b"&", start)
        answer = self._endpoint.issuer.present(body[start:] if end < 0 else body[start:end])
        reply = _reply(b"400 Bad Request", _REFUSED) if answer is None else _reply(b"200 OK", answer)
        delay = self._endpoint.delay()
        if delay:
            self._loop.call_later(delay, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: bytes) -> None:
        if self._transport.is_closing():
            self._endpoint.undelivered += 1
            return
        self._transport.write(reply)
        idle = self._endpoint.behaviour.close_idle_after
        if idle:
            self._last_used = now = self._loop.time()
            until = max(idle - self._endpoint.behaviour.closing_takes, 0.0)
            self._loop.call_later(until, self._close_if_idle_since, now)

    def _close_if_idle_since(self, instant: float) -> None:
        if self._last_used == instant and not self._received:
            self._closing = True
            self._loop.call_later(self._endpoint.behaviour.closing_takes, self._transport.abort)

    def _control(self, line: list[bytes], body: bytes) -> None:
        endpoint, answer = self._endpoint, b"{}"
        match line[:2]:
            case [b"GET", b"/control"]:
                answer = json.dumps(endpoint.told()).encode()
            case [b"GET", b"/control/generations"]:
                answer = endpoint.issuer.generations.tobytes()
            case [b"POST", b"/control/reset"]:
                endpoint.reset(int(json.loads(body)["grants"]))
            case [b"POST", b"/control/behaviour"]:
                endpoint.behave(Behaviour(**json.loads(body)))
            case _:
                self._transport.write(_reply(b"404 Not Found", answer))
                return
        self._transport.write(_reply(b"200 OK", answer))


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(_LENGTH)
    if start < 0:
        return 0
    start += len(_LENGTH)
    end = lowered.find(b"\r\n", start)
    return int(lowered[start:] if end < 0 else lowered[start:end])


def _reply(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def serve(endpoint: Endpoint, stop: asyncio.Event) -> None:
    """Listen on a free port of the loopback, print the address, and serve until told to stop."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    try:
        await stop.wait()
    finally:
        server.close()


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.token_endpoint", description=__doc__)
    parser.add_argument("--grants", type=int, default=10_000, help="how many grants there are, numbered from 0")
    parser.add_argument("--expires-in", type=int, default=3600, help="an access token's life, seconds")
    given = parser.parse_args()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(Endpoint(given.grants, given.expires_in), stop)

    try:
        import uvloop  # noqa: PLC0415 -- of the group `bench`; without it everything works, at twice the cost
    except ImportError:
        asyncio.run(run())
    else:
        uvloop.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
