"""The key ring over its years: a key added, put first, everything sealed anew under it, and the old one retired."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute
from tests.support.installation import Installation, installed
from worker.domain.grant import Lease
from worker.domain.secret import Secret
from worker.domain.settlement import StoreTokens
from worker.keys_bootstrap import create_resealing
from worker.storage.escrow_entry import dump, load
from worker.storage.escrow_homes import FileEscrow
from worker.storage.sealed_settlement import SealedSettlement
from worker.storage.sealed_tables import SEALED_TABLES
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing, generate_key, key_id_of, parse_keys
from worker.storage.tables import Base

pytestmark = pytest.mark.slow

#: Columns of bytes that are no ciphertext: hashes of what only its bearer has.
HASHES = {
    "authorization_requests.state_hash",
    "authorization_requests.browser_hash",
    "api_tokens.token_hash",
    "idempotent_requests.key_hash",
    "idempotent_requests.request_hash",
    "sessions.secret_hash",
    "sign_in_links.secret_hash",
}


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Set up one client, a database and a key ring."""
    with installed(tmp_path_factory.mktemp("keys"), database_server, migrated_template) as ready:
        yield ready


def in_file(installation: Installation, path: Path) -> Installation:
    """Return the same with its key ring in a file."""
    path.write_text(installation.keys.reveal() + "\n", encoding="utf-8")
    path.chmod(0o600)
    return installation.having(EVERGRANT_KEYS=None, EVERGRANT_KEYS_FILE=str(path))


def sealed_under(database_url: str) -> set[str]:
    """Return the ids of all keys that a token of a grant is sealed under."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT refresh_token, access_token FROM grants").fetchall()
    return {key_id_of(held) for row in rows for held in row if held is not None}


def test_every_column_of_bytes_is_resealed_or_a_hash() -> None:
    """No table has a column of ciphertext that `keys rotate` would pass over."""
    columns = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.type.python_type is bytes
    }
    assert columns - HASHES == {f"{one.table}.{one.column}" for table in SEALED_TABLES for one in table.columns}


def test_a_key_is_replaced_by_the_next(installation: Installation, tmp_path: Path) -> None:
    """From one key to the next by four commands: the tokens open, the file keeps its mode, the old key is gone."""
    path = tmp_path / "keys"
    ours = in_file(installation, path)
    granted = ours.adopt(ours.seed())

    said = [ours.run_quickly("keys", *words) for words in (["add", "k2"], ["promote", "k2"], ["rotate"])]
    assert [one.code for one in said] == [0, 0, 0], said
    assert "run `evergrant keys promote k2`" in said[0].out
    assert sealed_under(ours.database_url) == {"k2"}
    assert ours.run_quickly("keys", "retire", "k2").code == 2  # it seals
    retired = ours.run_quickly("keys", "retire", "k1")

    assert (retired.code, retired.out) == (0, f"nothing is sealed under k1 any more, it is out of {path}\n")
    assert list(parse_keys(Secret(path.read_text().strip()))) == ["k2"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert ours.run_quickly("token", granted).code == 0
    assert json.loads(ours.run_quickly("keys", "list", "--json").out) == [{"id": "k2", "seals": True, "rows": None}]


def test_a_mounted_ring_is_replaced_by_way_of_a_copy(installation: Installation, tmp_path: Path) -> None:
    """As the runbook says: `--file` alone is changed, and the checks go by the ring that is mounted."""
    mounted, copy = tmp_path / "mounted", tmp_path / "copy"
    ours = in_file(installation.on_a_database_of_its_own(), mounted)
    granted = ours.adopt(ours.seed())
    copy.write_bytes(mounted.read_bytes())

    assert ours.run_quickly("keys", "add", "k2", "--file", str(copy)).code == 0
    assert list(_ring(mounted)) == ["k1"]
    early = ours.run_quickly("keys", "promote", "k2", "--file", str(copy))
    assert (early.code, "these run without k2" in early.err) == (1, True)
    mounted.write_bytes(copy.read_bytes())

    assert ours.run_quickly("keys", "promote", "k2", "--file", str(copy)).code == 0
    assert (list(_ring(copy)), list(_ring(mounted))) == (["k2", "k1"], ["k1", "k2"])
    assert ours.run_quickly("keys", "retire", "k1", "--file", str(copy)).code == 2  # in the mounted ring it seals
    mounted.write_bytes(copy.read_bytes())

    for words in (["rotate"], ["retire", "k1", "--file", str(copy)]):
        assert ours.run_quickly("keys", *words).code == 0
    assert (list(_ring(copy)), list(_ring(mounted))) == (["k2"], ["k2", "k1"])
    assert ours.run_quickly("token", granted).code == 0  # the mounted one may stay for a while
    mounted.write_bytes(copy.read_bytes())
    assert ours.run_quickly("token", granted).code == 0


def _ring(path: Path) -> dict[str, Secret]:
    return parse_keys(Secret(path.read_text().strip()))


def test_a_key_that_still_seals_is_not_retired(installation: Installation, tmp_path: Path) -> None:
    """Retiring a key too early changes nothing and says what it seals."""
    path = tmp_path / "keys"
    ours = in_file(installation.on_a_database_of_its_own(), path)
    ours.adopt(ours.seed())
    for words in (["add", "k2"], ["promote", "k2"]):
        assert ours.run_quickly("keys", *words).code == 0
    before = path.read_text()

    refused = ours.run_quickly("keys", "retire", "k1")

    assert refused.code == 1
    assert "k1 seals grants (1) still: run `evergrant keys rotate` first" in refused.err
    assert path.read_text() == before


def test_a_missing_key_and_another_key_are_found_at_the_start(installation: Installation) -> None:
    """Every command, the worker and the web process name the key and what it seals, and end with 2."""
    ours = installation.on_a_database_of_its_own()
    ours.adopt(ours.seed())
    assert ours.run_quickly("grants", "list").code == 0  # notes the key
    lacking = ours.at(ours.database_url, generate_key("k9", os.urandom))
    other = ours.at(ours.database_url, generate_key("k1", os.urandom))

    for command in (["grants", "list"], ["web", "--port", "0"]):
        said = lacking.command_line.run(*command)
        assert said.code == 2, said
        assert "EVERGRANT_KEYS lacks the key 'k1'" in said.err
        assert "seals grants.refresh_token (1 row), grants.access_token (1 row)" in said.err
    said = other.command_line.run("grants", "list")
    assert (said.code, "'k1' is another one than this database was sealed under" in said.err) == (2, True)


def test_a_key_that_seals_nothing_may_be_left_out(installation: Installation) -> None:
    """A key that was rotated away from and taken out by hand is no reason to refuse a start."""
    ours = installation.on_a_database_of_its_own()
    assert ours.run_quickly("grants", "list").code == 0
    assert ours.at(ours.database_url, generate_key("k9", os.urandom)).run_quickly("grants", "list").code == 0


@pytest.mark.anyio
async def test_what_waits_in_the_escrow_is_sealed_anew(
    make_container: ContainerMaker, keys: Secret, tmp_path: Path
) -> None:
    """An entry of the escrow does not outlive its key; a damaged one stays and is counted."""
    grant, lease = (UUID("00000000-0000-4000-8000-00000000000" + one) for one in "12")
    old = KeyRing(parse_keys(keys), os.urandom)
    columns = {
        "id": grant,
        "lease_id": lease,
        "generation": 3,
        "access_token": old.seal(Secret("the access token"), ACCESS_TOKEN, grant),
        "refresh_token": old.seal(Secret("the refresh token"), REFRESH_TOKEN, grant),
    }
    sealed = SealedSettlement(
        kind=StoreTokens, lease=Lease(grant_id=grant, lease_id=lease, generation=3), columns=columns
    )
    home = FileEscrow(tmp_path / "home" / "escrow", ".settlement")
    await home.put("one.settlement", dump(sealed))
    await home.put("damaged.settlement", "{")
    ring = Secret(f"{generate_key('next', os.urandom).reveal()},{keys.reveal()}")

    async with make_container("", key_ring=ring) as container:
        done = await create_resealing(container.settings, container.engine).run(lambda *_: None)

    assert (done.entries, done.unreadable_entries, done.is_whole) == (1, 1, False)
    held = load(await home.read("one.settlement") or "")
    opened = KeyRing(parse_keys(ring), os.urandom).open(held.columns["refresh_token"], REFRESH_TOKEN, grant)
    assert (key_id_of(held.columns["refresh_token"]), opened.reveal()) == ("next", "the refresh token")


@pytest.mark.anyio
async def test_what_is_locked_is_neither_waited_for_nor_missed(
    make_container: ContainerMaker, keys: Secret, database_url: str
) -> None:
    """A row that somebody holds is left, and told; the next run has it. A row that cannot be opened is told too."""
    old = KeyRing(parse_keys(keys), os.urandom)
    ring = Secret(f"{generate_key('next', os.urandom).reveal()},{keys.reveal()}")
    ids = [UUID(int=number + 1, version=4) for number in range(3)]
    async with make_container("", key_ring=ring) as container:
        for number, row in enumerate(ids):
            await execute(
                container,
                "INSERT INTO grants (id, client, subject, state, refresh_token) "
                "VALUES (:id, 'c', :subject, 'revoked', :t)",
                id=row,
                subject=str(number),
                t=old.seal(Secret("token"), REFRESH_TOKEN, row if number < 2 else ids[0]),
            )
        resealing = create_resealing(container.settings, container.engine)
        with psycopg.connect(database_url) as holder:
            holder.execute("SELECT 1 FROM grants WHERE id = %s FOR UPDATE", [ids[0]])
            held = await resealing.run(lambda *_: None)
        after = await resealing.run(lambda *_: None)

    assert (held.rows, held.left, held.broken) == (1, 1, 1)
    assert (after.rows, after.left, after.broken) == (1, 0, 1)
