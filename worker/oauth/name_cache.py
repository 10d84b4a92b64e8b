"""Addresses of servers, looked up by the system and kept for a short while."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from aiohappyeyeballs import AddrInfoType

from worker.oauth.addresses import is_literal

#: Addresses are looked up again after this many seconds, so that a provider's failover is followed within a minute.
DNS_CACHE_SECONDS: Final = 30.0
#: Hosts that are remembered; where each grant has a host of its own, the oldest are looked up again.
MOST_HOSTS: Final = 1_000
#: Look-ups at once. A resolver that hangs holds its thread for half a minute, and these threads alone: the escrow's
#: files must not wait behind names.
LOOK_UPS: Final = 16


class NameCache:
    """Looks up a name once, however many connections to it are wanted at the same time."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}
        self._threads = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="names")

    def close(self) -> None:
        """End the threads; one that waits for a resolver ends when that does."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def addresses(self, host: str, port: int) -> list[AddrInfoType]:
        """Return a host's addresses, another one first each time, so that connections spread over them.

        Raises:
            OSError: when there is no such host, or no answer.
            UnicodeError: when it is no name that could be asked for.

        """
        loop = asyncio.get_running_loop()
        until, found = self._known.get((host, port), (0.0, []))
        if not found or until < loop.time():
            asked = self._asked.get((host, port))
            if asked is None:
                asked = self._asked[host, port] = asyncio.create_task(self._look_up(host, port))
            found = await asyncio.shield(asked)  # others wait for the same answer
        found.append(found.pop(0))
        return list(found)

    async def _look_up(self, host: str, port: int) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        # Only names are a question of what this machine has addresses for; a literal is what it is.
        flags = socket.AI_NUMERICHOST if is_literal(host) else socket.AI_ADDRCONFIG
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=flags)
        try:
            found: list[AddrInfoType] = list(await loop.run_in_executor(self._threads, look_up))
        except OSError:
            _, known = self._known.get((host, port), (0.0, []))
            if not known:
                raise
            return known  # where a host was a moment ago is more than no answer
        finally:
            del self._asked[host, port]
        self._known.pop((host, port), None)
        self._known[host, port] = (loop.time() + DNS_CACHE_SECONDS, found)
        if len(self._known) > MOST_HOSTS:
            del self._known[next(iter(self._known))]
        return found
