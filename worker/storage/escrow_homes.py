"""Where the escrow's entries lie: files of a folder, and a hash of the broker's server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from worker.domain.secret import Secret

T = TypeVar("T")

#: Files that are written at once: more of them would only wait for the same disk.
_FILE_THREADS: Final = 4
#: Seconds for the broker's server to take or give an entry; the file is the first home, this the second.
_BROKER_SECONDS: Final = 2.0
#: Connections for entries at once; the others wait for one, a millisecond each.
_BROKER_CONNECTIONS: Final = 16


class EscrowHome(Protocol):
    """One place where entries can wait."""

    async def put(self, name: str, entry: str) -> None:
        """Keep an entry; returns once it is durable. Raises OSError or RedisError when it cannot be kept."""

    async def names(self) -> Sequence[str]:
        """Return the names of all entries that wait. Raises OSError or RedisError when the home is away."""

    async def read(self, name: str) -> str | None:
        """Return an entry, or None where another process has taken it away meanwhile.

        Raises:
            RedisError: when the home is away; any other error is the entry's own.

        """

    async def remove(self, name: str) -> None:
        """Forget an entry that is stored or superseded."""

    async def depth(self) -> int:
        """Return how many wait."""

    async def close(self) -> None:
        """Close what it holds open."""


class FileEscrow:
    """Entries as files of one folder, each flushed to the disk before it counts.

    Args:
        folder: below EVERGRANT_HOME_DIR; made when first needed, for its user only.
        suffix: what the names of this kind of entry end with.

    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder = folder
        self._suffix = suffix
        # Their own: what waits here are tokens, and must not stand in line behind whatever else threads are used for.
        self._threads = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="escrow")

    async def put(self, name: str, entry: str) -> None:
        """Write an entry beside its final name, flush it, and rename it into place."""
        await self._aside(self._write, name, entry)

    async def names(self) -> Sequence[str]:
        """Return the names of the folder's entries, in order."""
        return await self._aside(self._names)

    async def read(self, name: str) -> str | None:
        """Read an entry's file."""
        try:
            return await self._aside(partial((self._folder / name).read_text, encoding="utf-8"))
        except FileNotFoundError:
            return None

    async def remove(self, name: str) -> None:
        """Remove an entry's file."""
        await self._aside(partial((self._folder / name).unlink, missing_ok=True))

    async def depth(self) -> int:
        """Return how many files wait."""
        return len(await self.names())

    async def close(self) -> None:
        """End the threads, when what they write is written."""
        self._threads.shutdown(wait=False)

    async def _aside(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _names(self) -> Sequence[str]:
        return sorted(path.name for path in self._folder.glob(f"*{self._suffix}"))

    def _write(self, name: str, entry: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._folder / f".{name}.{os.getpid()}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(entry)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._folder / name)
        # The name is durable only when its folder is.
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class BrokerEscrow:
    """Entries in a hash of the broker's server, where another machine's tick finds them.

    Args:
        url: EVERGRANT_BROKER_URL of a Redis or Valkey.
        key: of the hash that holds this kind of entry.

    """

    def __init__(self, url: Secret, key: str) -> None:
        self._key = key
        # The client's own pool refuses the 101st entry of a burst, and a burst is what an outage brings.
        pool = BlockingConnectionPool.from_url(
            url.reveal(),
            max_connections=_BROKER_CONNECTIONS,
            timeout=_BROKER_SECONDS,
            socket_timeout=_BROKER_SECONDS,
            socket_connect_timeout=_BROKER_SECONDS,
        )
        self._broker: Redis = Redis.from_pool(pool)

    async def put(self, name: str, entry: str) -> None:
        """Keep an entry under its name."""
        await self._broker.hset(self._key, name, entry)

    async def names(self) -> Sequence[str]:
        """Return the names in the hash, in order."""
        return sorted(_text(name, "replace") for name in await self._broker.hkeys(self._key))

    async def read(self, name: str) -> str | None:
        """Return what the hash holds under a name."""
        entry = await self._broker.hget(self._key, name)
        return None if entry is None else _text(entry)

    async def remove(self, name: str) -> None:
        """Remove an entry."""
        await self._broker.hdel(self._key, name)

    async def depth(self) -> int:
        """Return how many wait."""
        return int(await self._broker.hlen(self._key))

    async def close(self) -> None:
        """Close the connections."""
        await self._broker.aclose()


def _text(value: bytes | str, errors: str = "strict") -> str:
    return value if isinstance(value, str) else value.decode("utf-8", errors)


#: What a home answers when it cannot keep or give: the disk is full, the broker is away.
HOME_AWAY: Final = (OSError, RedisError)


def escrow_homes(folder: Path, broker_url: Secret | None, *, suffix: str, key: str) -> tuple[EscrowHome, ...]:
    """Return the homes there are for one kind of entry: the folder, and the broker's server where it is a Redis.

    Args:
        folder: below EVERGRANT_HOME_DIR.
        broker_url: EVERGRANT_BROKER_URL; a Valkey will do.
        suffix: what the names of the entries end with.
        key: of the broker's hash.

    """
    homes: list[EscrowHome] = [FileEscrow(folder, suffix)]
    if broker_url is not None and broker_url.reveal().startswith(("redis://", "rediss://", "unix://")):
        homes.append(BrokerEscrow(broker_url, key))
    return tuple(homes)
