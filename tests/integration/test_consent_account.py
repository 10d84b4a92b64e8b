"""Coming back with an account: the same one is let in, another one is refused, and nothing of it is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.accounts import ADA, BOB, event_types, everything_of_grants, register_telling
from tests.support.consenting import Browser, browser, expect_callback
from tests.support.database import execute, rows, value
from tests.support.sandbox_clients import SandboxClient, adopt
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.domain.grant import GrantState
from worker.sandbox.families import FamilyStatus, RevokedBecause
from worker.sandbox.misbehaviour import Misbehaviour, Order, Step
from worker.sandbox.server import RunningSandbox

pytestmark = pytest.mark.anyio

PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A client whose consents tell their account, an owner's browser, and a container to look into the database."""

    sandbox: RunningSandbox
    client: SandboxClient
    owner: Browser
    container: Container

    def consent(self, account: str, *, subject: str = "customer-42") -> httpx.Response:
        """Go the whole way, logged in as an account."""
        return self.owner.call_back(self.owner.allow(self.owner.connect(self.client.name, subject), account=account))

    async def grant_id(self, subject: str = "customer-42") -> UUID:
        """Return the id of a subject's grant."""
        found = await self.container.grants.find(self.client.name, subject)
        assert found is not None
        return found.id

    def families(self, account: str) -> list[tuple[FamilyStatus, RevokedBecause | None]]:
        """Return what became of an account's authorizations at the provider, in order."""
        found = self.sandbox.control.families(self.client.name)
        return [(family.status, family.revoked_because) for family in found if family.account == account]


SceneMaker = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture
def make_scene(sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker) -> SceneMaker:
    """Give a way to set everything up, with more of the provider's facts."""

    @asynccontextmanager
    async def make(**facts: Any) -> AsyncIterator[Scene]:
        client = register_telling(sandbox, **facts)
        async with make_container(client.toml, **client.environment) as container:
            with make_web(client.toml, **client.environment) as web, browser(web) as owner:
                expect_callback(sandbox, client, web.url)
                yield Scene(sandbox=sandbox, client=client, owner=owner, container=container)

    return make


ALIVE = (FamilyStatus.ALIVE, None)
GIVEN_BACK = (FamilyStatus.REVOKED, RevokedBecause.REVOKED_BY_CLIENT)


async def test_another_account_is_refused_and_nothing_is_stored(make_scene: SceneMaker) -> None:
    """The whole row, tokens included, stays as it was; the page says so without naming anybody; an event tells it."""
    async with make_scene(provider='revocation = "token"') as scene:
        assert scene.consent(ADA).status_code == 200
        before = await everything_of_grants(scene.container)

        page = scene.consent(BOB)

        assert (page.status_code, "Another account" in page.text) == (409, True)
        assert ADA not in page.text
        assert BOB not in page.text
        assert f'href="/connect/{scene.client.name}?subject=customer-42"' in page.text
        assert await everything_of_grants(scene.container) == before
        assert await event_types(scene.container) == ["grant.created", "grant.account_refused"]
        [event] = await rows(scene.container, "SELECT data FROM events WHERE type = 'grant.account_refused'")
        assert event.data == {"generation": 0, "reason": "another_account"}
        scrape = scene.owner.http.get("/metrics").text
        assert f'evergrant_consents_total{{client="{scene.client.name}",outcome="account_refused"}} 1.0' in scrape
        await until(lambda: scene.families(BOB) == [GIVEN_BACK], PATIENCE, "what was not stored is given back")
        assert scene.families(ADA) == [ALIVE]


@pytest.mark.parametrize(
    "state", [state for state in GrantState if state is not GrantState.REVOKED], ids=lambda state: state.value
)
async def test_another_account_is_refused_whatever_the_grants_state(make_scene: SceneMaker, state: GrantState) -> None:
    """Dead, paused, in doubt or healthy: the row stays as it was, and the right account is let in afterwards."""
    async with make_scene() as scene:
        scene.consent(ADA)
        lives = state in {GrantState.ACTIVE, GrantState.IN_DOUBT, GrantState.SUSPECT}
        due = "rotate_at" if lives else "NULL"
        await execute(scene.container, f"UPDATE grants SET state = '{state}', rotate_at = {due}")
        before = await everything_of_grants(scene.container)

        assert scene.consent(BOB).status_code == 409
        assert await everything_of_grants(scene.container) == before
        assert scene.consent(ADA).status_code == 200
        [row] = await rows(scene.container, "SELECT state, generation, account, account_source FROM grants")
        comes_back = GrantState.PAUSED if state is GrantState.PAUSED else GrantState.ACTIVE
        assert tuple(row) == (comes_back.value, 1, ADA, "userinfo:account")


async def test_an_adopted_grant_takes_the_first_account_it_is_told(
    make_scene: SceneMaker, sandbox: RunningSandbox
) -> None:
    """Where no account is known, whoever comes is let in and is the account from then on."""
    async with make_scene() as scene:
        [(grant_id, seeded)] = await adopt(scene.container, sandbox, scene.client)
        assert scene.consent(BOB, subject=seeded.account).status_code == 200

        assert await value(scene.container, "SELECT account FROM grants") == BOB
        assert scene.consent(ADA, subject=seeded.account).status_code == 409
        assert await scene.grant_id(seeded.account) == grant_id


async def test_who_cannot_be_compared_is_refused(make_scene: SceneMaker) -> None:
    """Where the provider does not say this time whose account it was, nothing is stored; a first consent is taken."""
    # Each access token has ended by the time that it is asked with.
    untold = Order(kind=Misbehaviour.REVOKED_CONSENT, times=1, step=Step.CODE_EXCHANGE)
    async with make_scene() as scene:
        scene.consent(ADA)
        before = await everything_of_grants(scene.container)

        scene.sandbox.control.order(untold)
        page = scene.consent(ADA)

        assert (page.status_code, "Whose account is this?" in page.text) == (502, True)
        assert await everything_of_grants(scene.container) == before
        told = "SELECT data ->> 'reason' FROM events WHERE type = 'grant.account_refused'"
        assert await value(scene.container, told) == "account_not_told"

        scene.sandbox.control.order(untold)
        assert scene.consent(ADA, subject="customer-43").status_code == 200
        assert await value(scene.container, "SELECT account FROM grants WHERE subject = 'customer-43'") is None


async def test_an_operator_may_allow_another_account(make_scene: SceneMaker) -> None:
    """Once the account is forgotten the next consent may bring any; and once the grant was ended on purpose, too."""
    async with make_scene() as scene:
        scene.consent(ADA)
        grant_id = await scene.grant_id()
        acts = scene.container.operations.acts

        assert await acts.set_account(grant_id, None)
        assert not await acts.set_account(grant_id, None)
        assert scene.consent(BOB).status_code == 200
        assert scene.consent(ADA).status_code == 409
        await scene.container.operations.revoke(grant_id)
        assert scene.consent(ADA).status_code == 200

        row = await scene.container.grants.show(grant_id)
        assert row is not None
        assert (row.account, row.state, row.generation) == (ADA, GrantState.ACTIVE, 2)
        assert await event_types(scene.container) == [
            "grant.created",
            "grant.account_changed",
            "grant.reconsented",
            "grant.account_refused",
            "grant.revoked",
            "grant.revived",
        ]


async def test_a_refused_account_keeps_its_tokens_where_a_grant_of_ours_may_need_them(make_scene: SceneMaker) -> None:
    """Where a revocation ends all that an account has given, it waits until no grant of ours is for that account."""
    async with make_scene(provider='revocation = "grant"') as scene:
        scene.consent(ADA)
        scene.consent(BOB, subject="customer-43")
        scene.consent(BOB)
        await execute(scene.container, "UPDATE grants SET account = NULL WHERE subject = 'customer-43'")
        scene.consent(BOB)
        assert scene.families(BOB) == [ALIVE, ALIVE, ALIVE]

        await execute(scene.container, "UPDATE grants SET account = 'carol' WHERE subject = 'customer-43'")
        scene.consent(BOB)
        wanted = [ALIVE, ALIVE, ALIVE, GIVEN_BACK]
        await until(lambda: scene.families(BOB) == wanted, PATIENCE, "nobody needs it, and it is given back")


async def test_an_account_of_two_grants_is_told(make_scene: SceneMaker) -> None:
    """A second subject with the same account is connected, and an event names the grants that may suffer from it."""
    async with make_scene() as scene:
        scene.consent(ADA)
        first = await scene.grant_id()

        assert scene.consent(ADA, subject="customer-43").status_code == 200

        second = await scene.grant_id("customer-43")
        [event] = await rows(scene.container, "SELECT grant_id, data FROM events WHERE type = 'grant.account_shared'")
        assert (event.grant_id, event.data) == (second, {"generation": 0, "count": 1, "grants": [str(first)]})
        assert scene.families(ADA) == [ALIVE, ALIVE]
