"""The escrow: the second durable home of a rotated token whose settle did not go through.

The database was away when the answer came. The sealed settlement is put into a file that is flushed to the disk, and
beside the broker's messages, so that neither this process nor this machine has to survive until the database is back.
What lies here is ciphertext under the same key ring, bound to the same row, as in the table.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.grant import Lease
from worker.domain.secret import Secret
from worker.domain.settlement import StoreTokens
from worker.storage.away import AWAY
from worker.storage.settle import SealedSettlement, already_stored, settle

_SUFFIX: Final = ".settlement"
_KEY: Final = "evergrant:escrow"
#: Seconds for the broker's server to take or give an entry; the file is the first home, this the second.
_BROKER_SECONDS: Final = 2.0
#: Connections for entries at once; the others wait for one, a millisecond each.
_BROKER_CONNECTIONS: Final = 16
_INSTANTS: Final = ("issued_at", "access_expires_at", "refresh_expires_at", "rotate_at")
_SEALED: Final = ("access_token", "refresh_token")
_IDS: Final = ("id", "lease_id")


class EscrowHome(Protocol):
    """One place where settlements can wait."""

    async def put(self, sealed: SealedSettlement) -> None:
        """Keep a settlement; returns once it is durable. Raises OSError or RedisError when it cannot be kept."""

    async def remove(self, sealed: SealedSettlement) -> None:
        """Forget a settlement that is stored or superseded."""

    def entries(self) -> AsyncIterator[SealedSettlement]:
        """Give every settlement that waits."""

    async def depth(self) -> int:
        """Return how many wait."""

    async def close(self) -> None:
        """Close what it holds open."""


class FileEscrow:
    """Settlements as files of one folder, each flushed to the disk before it counts.

    Args:
        folder: below EVERGRANT_HOME_DIR; made when first needed, for its user only.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, sealed: SealedSettlement) -> None:
        """Write a settlement beside its final name, flush it, and rename it into place."""
        await asyncio.to_thread(self._write, _name(sealed), dump(sealed))

    async def remove(self, sealed: SealedSettlement) -> None:
        """Remove a settlement's file."""
        await asyncio.to_thread((self._folder / _name(sealed)).unlink, missing_ok=True)

    async def entries(self) -> AsyncIterator[SealedSettlement]:
        """Give what the folder holds; another process may take an entry away meanwhile."""
        for path in await asyncio.to_thread(self._paths):
            try:
                yield load(await asyncio.to_thread(path.read_text, encoding="utf-8"))
            except FileNotFoundError:
                continue
            except UNREADABLE as error:
                # Set aside, not removed: whoever can read it may still want it.
                await asyncio.to_thread(path.rename, path.with_suffix(".unreadable"))
                raise UnreadableEntryError(path.name) from error

    async def depth(self) -> int:
        """Return how many files wait."""
        return len(await asyncio.to_thread(self._paths))

    async def close(self) -> None:
        """Do nothing: files need no closing."""

    def _paths(self) -> Sequence[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    def _write(self, name: str, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._folder / f".{name}.{os.getpid()}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
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
    """Settlements in a hash of the broker's server, where another machine's tick finds them.

    Args:
        url: EVERGRANT_BROKER_URL of a Redis or Valkey.

    """

    def __init__(self, url: Secret) -> None:
        # The client's own pool refuses the 101st entry of a burst, and a burst is what an outage brings.
        pool = BlockingConnectionPool.from_url(
            url.reveal(),
            max_connections=_BROKER_CONNECTIONS,
            timeout=_BROKER_SECONDS,
            socket_timeout=_BROKER_SECONDS,
            socket_connect_timeout=_BROKER_SECONDS,
            decode_responses=True,
        )
        self._broker: Redis = Redis.from_pool(pool)

    async def put(self, sealed: SealedSettlement) -> None:
        """Keep a settlement under its lease."""
        await self._broker.hset(_KEY, _name(sealed), dump(sealed))

    async def remove(self, sealed: SealedSettlement) -> None:
        """Remove a settlement."""
        await self._broker.hdel(_KEY, _name(sealed))

    async def entries(self) -> AsyncIterator[SealedSettlement]:
        """Give what the hash holds."""
        async for _name_of, text in self._broker.hscan_iter(_KEY):
            yield load(text)

    async def depth(self) -> int:
        """Return how many wait."""
        return int(await self._broker.hlen(_KEY))

    async def close(self) -> None:
        """Close the connections."""
        await self._broker.aclose()


#: What reading an entry raises that another version wrote, or that is damaged.
UNREADABLE: Final = (KeyError, ValueError, TypeError, AttributeError)


class UnreadableEntryError(Exception):
    """An entry of the escrow could not be read; the message is its name."""


#: What a home answers when it cannot keep or give: the disk is full, the broker is away.
HOME_AWAY: Final = (OSError, RedisError)


def dump(sealed: SealedSettlement) -> str:
    """Write a settlement of tokens as JSON; the tokens in it are sealed.

    Raises:
        ValueError: for any other settlement, for only tokens are worth keeping.

    """
    if sealed.kind is not StoreTokens:
        raise ValueError("only tokens go into the escrow")
    return json.dumps({name: _plain(value) for name, value in sealed.columns.items()})


def load(text: str) -> SealedSettlement:
    """Read what `dump` wrote."""
    columns = {name: _value(name, value) for name, value in json.loads(text).items()}
    lease = Lease(grant_id=columns["id"], lease_id=columns["lease_id"], generation=columns["generation"])
    return SealedSettlement(kind=StoreTokens, lease=lease, columns=columns)


def _name(sealed: SealedSettlement) -> str:
    return f"{sealed.lease.lease_id}{_SUFFIX}"


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 -- a column's value has the column's type
    if value is None:
        return None
    if name in _SEALED:
        return base64.b64decode(value)
    if name in _INSTANTS:
        return datetime.fromisoformat(value)
    return UUID(value) if name in _IDS else value


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowDrained:
    """What became of settlements that waited."""

    stored: int = 0
    superseded: int = 0


class Escrow:
    """All homes together: a settlement is kept when one of them has it.

    Args:
        homes: where settlements can wait.
        on_failure: told when a home could not keep, give or forget, with what it was asked and the error.

    """

    def __init__(self, homes: Sequence[EscrowHome], on_failure: Callable[[str, BaseException], None]) -> None:
        self._homes = homes
        self._on_failure = on_failure
        self._kept: set[UUID] = set()

    def is_kept(self, lease: Lease) -> bool:
        """Tell whether this process has brought the tokens of a lease into a home and not yet taken them out."""
        return lease.lease_id in self._kept

    async def put(self, several: Iterable[SealedSettlement]) -> None:
        """Keep the tokens among these settlements in every home that takes them."""
        tokens = [sealed for sealed in several if sealed.kind is StoreTokens and not self.is_kept(sealed.lease)]
        await asyncio.gather(*(self._put(home, sealed) for sealed in tokens for home in self._homes))

    async def remove(self, several: Iterable[SealedSettlement]) -> None:
        """Forget settlements that are stored or superseded; those that were never kept cost nothing."""
        kept = [sealed for sealed in several if self.is_kept(sealed.lease)]
        await asyncio.gather(*(self._remove(sealed) for sealed in kept))

    async def drain(self, engine: AsyncEngine) -> EscrowDrained:
        """Store what waits through the same guarded settle; what the database does not take yet goes on waiting."""
        stored = superseded = 0
        for home in self._homes:
            try:
                async for sealed in home.entries():
                    if await self._settle(engine, sealed):
                        stored += 1
                    else:
                        superseded += 1
                    await self._remove(sealed)
            except (*HOME_AWAY, *AWAY, *UNREADABLE, DBAPIError, UnreadableEntryError) as error:
                self._on_failure("drain", error)  # the other homes are drained all the same
        return EscrowDrained(stored=stored, superseded=superseded)

    async def depth(self) -> int:
        """Return how many settlements wait; one that waits in two homes counts once."""
        depths = [0]
        for home in self._homes:
            try:
                depths.append(await home.depth())
            except HOME_AWAY as error:
                self._on_failure("depth", error)
        return max(depths)

    async def close(self) -> None:
        """Close the homes' connections."""
        for home in self._homes:
            await home.close()

    async def _put(self, home: EscrowHome, sealed: SealedSettlement) -> None:
        try:
            await home.put(sealed)
            self._kept.add(sealed.lease.lease_id)
        except HOME_AWAY as error:
            self._on_failure("put", error)

    async def _remove(self, sealed: SealedSettlement) -> None:
        for home in self._homes:
            try:
                await home.remove(sealed)
            except HOME_AWAY as error:
                self._on_failure("remove", error)
        self._kept.discard(sealed.lease.lease_id)

    async def _settle(self, engine: AsyncEngine, sealed: SealedSettlement) -> bool:
        async with engine.begin() as connection:
            changed = await settle(connection, [sealed]) | await already_stored(connection, [sealed])
        return sealed.lease.grant_id in changed


def escrow_homes(folder: Path, broker_url: Secret | None) -> tuple[EscrowHome, ...]:
    """Return the homes there are: the folder, and the broker's server where it is a Redis or Valkey."""
    homes: list[EscrowHome] = [FileEscrow(folder)]
    if broker_url is not None and broker_url.reveal().startswith(("redis://", "rediss://", "unix://")):
        homes.append(BrokerEscrow(broker_url))
    return tuple(homes)
