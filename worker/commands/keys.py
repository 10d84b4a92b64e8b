"""`evergrant keys …`: the key ring, and sealing everything anew under its first key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from worker.bootstrap import Container, monotonic
from worker.commands.acting import Acting
from worker.commands.console import AsJson, fail, print_json, print_table, settings, with_container
from worker.commands.key_file import key_file, read_keys, write_keys
from worker.commands.key_obstacles import escrows_need, remains, would_not_open, would_seal_otherwise
from worker.commands.reseal_progress import ResealProgress
from worker.domain.audit import Act
from worker.domain.errors import ConfigurationError
from worker.domain.ring_holder import EscrowReport, RingHolder, lacking
from worker.keys_bootstrap import create_key_records, create_key_ring, create_resealing
from worker.storage.ring_holders import live_holders
from worker.storage.sealing import KeyRing, check_key_id, generate_key, parse_keys
from worker.usecases.reseal import Resealed

keys = typer.Typer(no_args_is_help=True, help="The key ring that seals tokens in the database.")

KeyId = Annotated[str, typer.Argument(help="The key's id.")]
File = Annotated[Path | None, typer.Option("--file", help="The file with the keys; else that of EVERGRANT_KEYS_FILE.")]
Force = Annotated[bool, typer.Option("--force", help="Whatever runs with an older ring, or waits in the escrow.")]
_RESTART: Final = "restart every worker and web process"


@keys.command()
def generate(
    *, key_id: Annotated[str, typer.Option("--id", help="The key's id: it is stored with what the key seals.")] = "k1"
) -> None:
    """Make a key and print it in the form that EVERGRANT_KEYS takes. Whoever has it can open every token.

    Example: (umask 077; evergrant keys generate --id 2026-11 > evergrant.keys)
    """
    typer.echo(generate_key(key_id, os.urandom).reveal())


@keys.command(name="list")
def list_keys(*, as_json: AsJson = False) -> None:
    """List the keys of the ring, the one that seals first, and how much each has sealed.

    Example: evergrant keys list
    """

    async def work(container: Container) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        async with aclosing(create_resealing(container.settings, container.engine)) as resealing:
            for key_id in resealing.keys.key_ids:
                seals = key_id == resealing.keys.sealing_id
                rows.append({"id": key_id, "seals": seals, "rows": None if seals else await resealing.rows(key_id)})
        return rows

    found = with_container(work)
    if as_json:
        print_json(found)
        return
    print_table(
        ["KEY", "SEALS", "ROWS"],
        [[one["id"], "yes" if one["seals"] else "no", "all others" if one["seals"] else one["rows"]] for one in found],
    )


@keys.command()
def add(key_id: KeyId, *, file: File = None) -> None:
    """Make a key and put it behind the others: it opens, and seals nothing until `keys promote`.

    Example: evergrant keys add 2026-12
    """
    path = _file(file)
    held = read_keys(path)
    check_key_id(key_id)
    if key_id in held:
        raise ConfigurationError(f"{path} has a key {key_id!r} already; choose another id")
    write_keys(path, {**held, **parse_keys(generate_key(key_id, os.urandom))})
    typer.echo(f"{path} has the key {key_id}: {_RESTART}, and then run `evergrant keys promote {key_id}`")


@keys.command()
def promote(key_id: KeyId, *, file: File = None, force: Force = False) -> None:
    """Let a key of the ring seal from now on, after seeing that every process has it: each must open what it seals.

    Example: evergrant keys promote 2026-12
    """
    path = _file(file)
    held = read_keys(path)
    if key_id not in held:
        raise ConfigurationError(f"{path} has no key {key_id!r} (it has {', '.join(held)})")
    if not force:
        without = with_container(lambda container: _running_without(container, key_id))
        if without:
            fail(would_not_open(without, key_id))
    write_keys(path, {key_id: held.pop(key_id), **held})
    typer.echo(f"{key_id} seals: {_RESTART}, and then run `evergrant keys rotate`")


@keys.command()
def rotate(*, force: Force = False, as_json: AsJson = False) -> None:
    """Seal everything anew under the first key of the ring, while everything goes on.

    It may be stopped or killed at any time and run again: what is sealed anew stays, and the rest is found.

    Example: evergrant keys rotate
    """

    async def work(container: Container) -> tuple[Sequence[RingHolder], Resealed | None, str]:
        async with aclosing(create_resealing(container.settings, container.engine)) as resealing:
            others = await resealing.in_the_way()
            if others and not force:
                return others, None, resealing.keys.sealing_id
            with ResealProgress(await resealing.total(), monotonic) as progress:
                return others, await resealing.run(progress.show), resealing.keys.sealing_id

    others, done, key_id = with_container(work, Acting(act=Act.KEYS_ROTATED))
    if done is None:
        fail(would_seal_otherwise(others, key_id))
    if as_json:
        print_json(done)
    else:
        typer.echo(f"{done.rows:,} rows and {done.entries:,} entries of the escrow are sealed anew under {key_id}")
    if not done.is_whole:
        fail("; ".join(remains(done)))


@keys.command()
def retire(key_id: KeyId, *, file: File = None, force: Force = False) -> None:
    """Take a key out of the ring, after seeing that nothing is sealed under it any more.

    Links in mails that it has signed, and its fingerprints of tokens that were adopted, end with it.

    Example: evergrant keys retire 2026-11
    """
    path = key_file(os.environ, file)
    ring = create_key_ring(settings())
    _check_retirable(key_id, ring)

    found = with_container(lambda container: _look(container, key_id))
    if found.others and not force:
        fail(would_seal_otherwise(found.others, ring.sealing_id))
    if found.uses:
        used = ", ".join(f"{table} ({count:,})" for table, count in found.uses.items())
        fail(f"{key_id} seals {used} still: run `evergrant keys rotate` first")
    if not found.escrow_is_clear and not force:
        fail("the escrow holds what cannot be read, or did not answer: see what the log of a worker says of it")
    if found.escrows and not force:
        fail(escrows_need(found.escrows, key_id))
    if path is not None:
        write_keys(path, {held: key for held, key in read_keys(path).items() if held != key_id})
    create_key_records(settings()).forget(key_id)
    where = f"it is out of {path}" if path is not None else "take it out of EVERGRANT_KEYS"
    typer.echo(f"nothing is sealed under {key_id} any more, {where}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    others: Sequence[RingHolder]
    uses: dict[str, int]
    escrow_is_clear: bool
    escrows: Sequence[EscrowReport]


async def _look(container: Container, key_id: str) -> _Found:
    async with aclosing(create_resealing(container.settings, container.engine)) as resealing:
        before = await resealing.in_the_way()
        clear = await resealing.escrow_is_clear()
        await container.ring_note.write()  # what this machine's folder holds now, sealed anew
        uses = await resealing.uses(key_id)
        return _Found(
            # Once more: counting takes a while, and what has started since may have sealed something uncounted.
            others=before or await resealing.in_the_way(),
            uses=uses,
            escrow_is_clear=clear,
            escrows=await resealing.escrows_needing(key_id),
        )


async def _running_without(container: Container, key_id: str) -> Sequence[RingHolder]:
    return lacking(await live_holders(container.engine), key_id)


def _check_retirable(key_id: str, ring: KeyRing) -> None:
    if key_id == ring.sealing_id:
        raise ConfigurationError(f"{key_id} is the key that seals; `evergrant keys promote` puts another one first")
    if key_id not in ring.key_ids:
        raise ConfigurationError(f"EVERGRANT_KEYS has no key {key_id!r} (it has {', '.join(ring.key_ids)})")


def _file(given: Path | None) -> Path:
    path = key_file(os.environ, given)
    if path is None:
        raise ConfigurationError(
            "there is no file to change: set EVERGRANT_KEYS_FILE or give --file; where EVERGRANT_KEYS itself holds the "
            "ring, `evergrant keys generate` makes a key to put into it"
        )
    return path
