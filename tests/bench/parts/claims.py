"""Claim and scan time while the table grows, each size in turns with a table of 10,000 grants beside it."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from tests.bench import filling, population
from tests.bench.contenders.contender import database_now
from tests.bench.findings import Findings, Table, spread
from tests.bench.options import Options
from tests.bench.world import CLIENT, World
from worker.bootstrap import monotonic
from worker.domain.allowance import ClientLimits
from worker.domain.secret import Secret
from worker.storage.claim import Claims
from worker.storage.database import create_claim_engine, create_engine
from worker.storage.scan import count_due

_SMALL_NAME: Final = "claims_small"
_GROWN_NAME: Final = "claims_grown"
_SMALL: Final = 10_000
_SIZES: Final = (100_000, 1_000_000, 5_000_000)
_QUICK_SIZES: Final = (100_000,)
#: Due grants, of every size: claimed one thousand after the other without a settle, and the rest fifty by fifty. What
#: comes after the first claim must not be slower for the entries that it has left in the index.
_DUE: Final = 10_000
_LARGE_CLAIMS: Final = (1_000,) * 9
_LITTLE_CLAIMS: Final = (50,) * 20
_SCANS: Final = 15
#: Bytes of disk for one grant, with indexes and write-ahead log, and some to spare.
_BYTES_PER_GRANT: Final = 2_500
_LEASE: Final = timedelta(minutes=10)
_UNLIMITED: Final = ClientLimits(rate_per_second=None, max_in_flight=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One turn at one size; all times in milliseconds.

    Attributes:
        size: grants in the table.
        beside: the larger table that this one took turns with; its own size for that one itself.
        scans: while grants are due.
        large: claims of 1,000 in a row.
        little: claims of 50 in a row.
        idle: scans when everything that is due has been claimed.

    """

    size: int
    beside: int
    scans: list[float]
    large: list[float]
    little: list[float]
    idle: list[float]


def measure(world: World, options: Options) -> Findings:
    """Grow a table, and at each size scan and claim what is due in it and in the small one, in turns."""
    small, grown = world.migrated_database(_SMALL_NAME), world.migrated_database(_GROWN_NAME)
    found: list[Timed] = []
    filled = 0
    for size in _QUICK_SIZES if options.quick else _SIZES:
        free = shutil.disk_usage(world.folder).free
        if free < (size - filled) * _BYTES_PER_GRANT:
            world.say(f"  {size:,} grants are left out: {free / 2**30:.0f} GiB of disk are too little for them")
            break
        began = time.monotonic()
        with world.connect(grown) as connection:
            filling.grow(connection, world.key_ring(), filled, size - _DUE, world.say)
        filled = size - _DUE
        world.say(f"  {size:,} grants are in the table ({time.monotonic() - began:.0f} s)")
        for _ in range(options.rounds):
            for url, its_size in ((small, _SMALL), (grown, size)):
                _make_due(world, url)
                timed = asyncio.run(_time(world, url, its_size, beside=size))
                found.append(timed)
                world.say(f"  {its_size:9,} grants: claim of 1,000 {statistics.median(timed.large):6.1f} ms")
    for name in (_SMALL_NAME, _GROWN_NAME):
        world.drop_database(name)
    return _findings(found)


def _make_due(world: World, url: str) -> None:
    """Exchange what the turn before has claimed for fresh grants that are due, and let nothing else be left of it."""
    with world.connect(url) as connection:
        connection.execute("DELETE FROM grants WHERE subject LIKE 'owner-%'")
        due = database_now(connection) - timedelta(seconds=10)
        numbered = ((number, due + timedelta(milliseconds=number % 5_000)) for number in range(_DUE))
        population.seed(connection, world.key_ring(), numbered)
        connection.execute("VACUUM (ANALYZE, INDEX_CLEANUP ON) grants")


async def _time(world: World, url: str, size: int, *, beside: int) -> Timed:
    engine = create_engine(Secret(url), connections=2, name="bench")
    claim_engine = create_claim_engine(Secret(url), connections=1, name="bench")
    claims = Claims(claim_engine, world.key_ring(), monotonic)
    reached: datetime | None = None

    async def scan() -> float:
        began = time.perf_counter()
        await count_due(engine, [CLIENT])
        return 1000 * (time.perf_counter() - began)

    async def claim(free: int) -> float:
        nonlocal reached  # a drain too goes on where its last claim had come to
        began = time.perf_counter()
        claimed = await claims.claim_due(CLIENT, limits=_UNLIMITED, free=free, lease=_LEASE, since=reached)
        taken = 1000 * (time.perf_counter() - began)
        assert len(claimed.grants) == free, f"{len(claimed.grants)} of {free} grants were claimed"
        reached = claimed.reached
        return taken

    try:
        await scan()  # the first one connects
        return Timed(
            size=size,
            beside=beside,
            scans=[await scan() for _ in range(_SCANS)],
            large=[await claim(free) for free in _LARGE_CLAIMS],
            little=[await claim(free) for free in _LITTLE_CLAIMS],
            idle=[await scan() for _ in range(_SCANS)],
        )
    finally:
        claims.close()
        claim_engine.dispose()
        await engine.dispose()


def _findings(found: Sequence[Timed]) -> Findings:
    rows, facts = [], {}
    for size in dict.fromkeys(timed.beside for timed in found):
        large = [timed for timed in found if timed.beside == size == timed.size]
        small = [timed for timed in found if timed.beside == size != timed.size]
        rows += [_row(small), _row(large)]
        facts[f"claim_ratio:{size}"] = _median(large) / _median(small)
        facts[f"claim_ms:{size}"], facts[f"claim_ms:{_SMALL}"] = _median(large), _median(small)
    return Findings(
        part="claims",
        tables=(
            Table(
                title="Scan and claim while the table grows, ms (each size in turns with the small table above it)",
                headings=("grants", "scan", "claim of 1,000", "the last of 9", "claim of 50", "idle scan"),
                rows=tuple(rows),
            ),
        ),
        facts=facts,
        data={"turns": [asdict(timed) for timed in found]},
    )


def _median(turns: Sequence[Timed]) -> float:
    return statistics.median(value for timed in turns for value in timed.large)


def _row(turns: Sequence[Timed]) -> tuple[str, ...]:
    def middle(kind: str) -> str:
        return f"{statistics.median(value for timed in turns for value in getattr(timed, kind)):.1f}"

    return (
        f"{turns[0].size:,}",
        middle("scans"),
        spread([value for timed in turns for value in timed.large], 1),
        spread([timed.large[-1] for timed in turns], 1),
        middle("little"),
        middle("idle"),
    )
