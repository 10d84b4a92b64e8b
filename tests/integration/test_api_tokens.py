"""API tokens: made once, stored as a hash, recognized while they are good, and handled from the command line."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import everything_in, execute, value
from tests.support.installation import Installation, installed
from tests.support.sandbox_clients import register
from worker.domain.errors import ConfigurationError
from worker.domain.roles import Caller, Role
from worker.domain.secret import Secret
from worker.sandbox.server import RunningSandbox
from worker.storage.api_tokens import ApiTokens, FoundToken
from worker.usecases.api_access import KNOWN_SECONDS

TOKEN = re.compile(r"evg_[A-Za-z0-9_-]{43}")


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Give one installation to all tests of this file; each works on tokens of its own."""
    with installed(tmp_path_factory.mktemp("installation"), database_server, migrated_template) as found:
        yield found


@pytest.mark.anyio
async def test_a_token_is_recognized_and_not_stored(sandbox: RunningSandbox, make_container: ContainerMaker) -> None:
    """Whoever shows the token is who it was made for; the database holds its SHA-256 and nothing of itself."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        token_id, token = await container.api_access.create(Role.TOKEN, client=client.name, name="billing")

        found = await container.api_access.recognize(token)

        assert found == Caller(id=token_id, name="billing", role=Role.TOKEN, client=client.name)
        assert TOKEN.fullmatch(token.reveal())
        stored = await everything_in(container, "api_tokens")
        assert hashlib.sha256(token.reveal().encode()).hexdigest() in stored
        assert token.reveal() not in stored


@pytest.mark.anyio
async def test_what_is_not_a_good_token_is_nobody(make_container: ContainerMaker) -> None:
    """Unknown, altered, expired and revoked tokens are all the same: nobody's, within two seconds at the latest."""
    clock = [0.0]
    async with make_container("") as container:
        access = replace(container.api_access, tick=lambda: clock[0])
        _, good = await access.create(Role.ADMIN)
        _, short_lived = await access.create(Role.ADMIN, lifetime=timedelta(hours=1))
        revoked_id, revoked = await access.create(Role.ADMIN)
        for known in (short_lived, revoked):
            assert await access.recognize(known) is not None
        await execute(container, "UPDATE api_tokens SET expires_at = now() WHERE expires_at IS NOT NULL")
        assert await access.tokens.revoke(revoked_id) is True
        assert await access.tokens.revoke(revoked_id) is False

        clock[0] += KNOWN_SECONDS
        text = good.reveal()
        for wrong in ("", "evg_", text[:-1], text + "A", text[4:], text.upper(), "evg_" + "A" * 5000, "evg_\ud800\x00"):
            assert await access.recognize(Secret(wrong)) is None, wrong
        assert await access.recognize(short_lived) is None
        assert await access.recognize(revoked) is None
        assert await access.recognize(good) is not None
        await access.close()  # that it was used is noted beside the answer


@pytest.mark.anyio
async def test_the_last_use_is_written_once_a_minute(make_container: ContainerMaker) -> None:
    """The first use is noted, the ones in the minute after it are not, and one that comes later is again."""
    clock = [0.0]
    async with make_container("") as container:
        access = replace(container.api_access, tick=lambda: clock[0])
        _, token = await access.create(Role.READER)

        async def noted_after_use() -> datetime | None:
            clock[0] += KNOWN_SECONDS
            assert await access.recognize(token) is not None
            await access.close()  # it is noted beside the answer
            found: datetime | None = await value(container, "SELECT last_used_at FROM api_tokens")
            return found

        first = await noted_after_use()
        assert first is not None
        assert await noted_after_use() == first
        await execute(container, "UPDATE api_tokens SET last_used_at = now() - interval '61 seconds'")
        later = await noted_after_use()

    assert later is not None
    assert later > first


@pytest.mark.anyio
async def test_a_good_token_is_looked_up_every_two_seconds_only(make_container: ContainerMaker) -> None:
    """In between nothing is asked of the database; then what has become of the token is heeded."""
    clock = [0.0]
    async with make_container("") as container:
        access = replace(container.api_access, tick=lambda: clock[0])
        _, token = await access.create(Role.READER)
        caller = await access.recognize(token)
        await access.close()
        await execute(container, "DELETE FROM api_tokens")
        clock[0] += KNOWN_SECONDS / 2
        assert await access.recognize(token) == caller is not None
        clock[0] += KNOWN_SECONDS / 2
        assert await access.recognize(token) is None


@pytest.mark.anyio
async def test_a_token_is_bound_to_configured_clients_only(make_container: ContainerMaker) -> None:
    """A slip in the client's name is refused, and leaves no token that would be good for nothing."""
    async with make_container("") as container:
        with pytest.raises(ConfigurationError, match="client 'askarra' is not configured"):
            await container.api_access.create(Role.TOKEN, client="askarra")

        assert await value(container, "SELECT count(*) FROM api_tokens") == 0


def test_tokens_are_made_listed_and_revoked_from_the_command_line(installation: Installation) -> None:
    """`create` prints the token alone, `list` everything but the token, and `revoke` ends it once."""
    created = installation.run(
        "api-tokens",
        "create",
        "--role",
        "token",
        "--client",
        installation.client,
        "--name",
        "billing",
        "--expires",
        "90d",
    )
    assert (created.code, created.err) == (0, "")
    assert TOKEN.fullmatch(created.out.strip())

    listed = installation.run_quickly("api-tokens", "list", "--json")
    [token] = [found for found in json.loads(listed.out) if found["name"] == "billing"]
    shown = installation.run_quickly("api-tokens", "list")
    revoked = installation.run_quickly("api-tokens", "revoke", token["id"])
    again = installation.run_quickly("api-tokens", "revoke", token["id"])

    assert (token["role"], token["client"], token["last_used_at"]) == ("token", installation.client, None)
    assert set(token) == {"id", "name", "role", "client", "created_at", "expires_at", "last_used_at", "revoked_at"}
    assert installation.query(f"SELECT expires_at - created_at FROM api_tokens WHERE id = '{token['id']}'") == [
        (timedelta(days=90),)
    ]
    [line] = [line for line in shown.out.splitlines() if line.startswith(token["id"])]
    assert line.split()[1:4] == ["billing", "token", installation.client]
    assert created.out.strip() not in listed.out + shown.out
    assert (revoked.code, revoked.out, revoked.err) == (0, f"{token['id']} is revoked\n", "")
    assert (again.code, again.out) == (1, "")
    assert again.err == f"evergrant: there is no API token {token['id']} that is not revoked already\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option '--role'"),
        (("--role", "owner"), "'owner' is not one of"),
        (("--role", "token", "--expires", "soon"), "'soon' is not a duration"),
        (("--role", "token", "--expires", "0s"), "must be longer than 0s"),
        (("--role", "token", "--name", "a\nb"), "printable characters"),
        (("--role", "token", "--client", "nobody's"), 'client "nobody\'s" is not configured'),
    ],
    ids=["no role", "unknown role", "no duration", "no time", "unprintable name", "unknown client"],
)
def test_wrong_use_makes_no_token(installation: Installation, arguments: tuple[str, ...], said: str) -> None:
    """What is wrong is said, with exit code 2, and nothing is stored."""
    before = installation.query("SELECT count(*) FROM api_tokens")

    ended = installation.run_quickly("api-tokens", "create", *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split()), ended.err
    assert installation.query("SELECT count(*) FROM api_tokens") == before


@pytest.mark.anyio
async def test_a_crowd_with_one_token_looks_once(
    make_container: ContainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests come at once with a token that is not known yet, the database is asked once."""
    async with make_container("") as container:
        _, token = await container.api_access.create(Role.READER)
        looked: list[bytes] = []
        find = ApiTokens.find

        async def counted(tokens: ApiTokens, which: bytes) -> FoundToken | None:
            looked.append(which)
            return await find(tokens, which)

        monkeypatch.setattr(ApiTokens, "find", counted)
        callers = await asyncio.gather(*(container.api_access.recognize(token) for _ in range(50)))

    assert {caller.role for caller in callers if caller is not None} == {Role.READER}
    assert (len(callers), len(looked)) == (50, 1)
