"""What is removed when it is past its age, and that removing keeps up with what is added."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute, rows, value
from tests.support.sandbox_clients import adopt, register
from worker.sandbox.server import RunningSandbox
from worker.storage import prune as pruning
from worker.storage.prune import prune

pytestmark = pytest.mark.anyio

_ADD = """
    INSERT INTO rotations (at, grant_id, client, subject, generation)
    SELECT now() - n * interval '1 minute', gen_random_uuid(), 'a', 's', n FROM generate_series(:last, 1, -1) AS n
"""


@pytest.mark.parametrize(("configured", "kept"), [("", 24 * 60), ('[worker]\nkeep_rotations = "2h"', 120)])
async def test_lineage_is_kept_as_long_as_configured(
    make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch, configured: str, kept: int
) -> None:
    """A day or what is configured stays, older rotations go however many, and a second call finds none."""
    monkeypatch.setattr(pruning, "LIMIT", 100)
    async with make_container(configured) as container:
        await execute(container, _ADD, last=kept + 350)

        assert await container.dispatch.prune() == 351, "what became that old this very minute, too"

        found = await rows(container, "SELECT generation FROM rotations ORDER BY id")
        assert [row.generation for row in found] == list(range(kept - 1, 0, -1))
        assert await container.dispatch.prune() == 0


async def test_what_came_out_of_order_goes_with_the_next_call(make_container: ContainerMaker) -> None:
    """A rotation that is younger than those after it keeps nothing else from going, and goes when its time has come."""
    async with make_container("") as container:
        await execute(
            container,
            """
            INSERT INTO rotations (at, grant_id, client, subject, generation)
            SELECT now() - age * interval '1 minute', gen_random_uuid(), 'a', 's', age
              FROM unnest(ARRAY[90, 30, 80, 20]) AS age
            """,
        )

        assert await prune(container.engine, keep_rotations=timedelta(minutes=60), keep_audit=timedelta(days=30)) == 2
        assert await prune(container.engine, keep_rotations=timedelta(minutes=25), keep_audit=timedelta(days=30)) == 1
        assert await value(container, "SELECT generation FROM rotations") == 20


_ADD_ORPHANS = """
    INSERT INTO adopted_tokens (fingerprint, grant_id)
    SELECT 'k1:' || repeat(md5(CAST(n AS text)), 4), gen_random_uuid() FROM generate_series(1, 2000) AS n
"""


async def test_fingerprints_of_grants_that_are_gone_go_a_part_at_a_time(
    sandbox: RunningSandbox, make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call looks at some parts of the table only, several at all of it, and those of grants that are there stay."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await execute(container, _ADD_ORPHANS)
        await adopt(container, sandbox, client, 3, due=False)
        await execute(
            container,
            "INSERT INTO adopted_tokens (fingerprint, grant_id) SELECT 'k1:' || CAST(id AS text), id FROM grants"
            " ON CONFLICT DO NOTHING",
        )
        kept = await value(container, "SELECT count(*) FROM adopted_tokens JOIN grants ON grants.id = grant_id")
        assert kept >= 3

        monkeypatch.setattr(pruning, "ADOPTED_PAGES", 1)
        monkeypatch.setattr(pruning, "ADOPTED_PARTS", 2)
        at_once = await container.dispatch.prune()
        assert 0 < at_once < 200, "two pages of some fifty"

        monkeypatch.setattr(pruning, "ADOPTED_PARTS", 1_000)
        assert await container.dispatch.prune() == 2000 - at_once
        assert await value(container, "SELECT count(*) FROM adopted_tokens") == kept
        assert await container.dispatch.prune() == 0
