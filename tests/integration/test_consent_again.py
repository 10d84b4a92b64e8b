"""Coming back to a grant that is alive, paused or being refreshed, and what becomes of the tokens of before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.accounts import ADA, event_types, register_telling
from tests.support.consenting import browser, expect_callback, query_of
from tests.support.database import execute, rows, value
from tests.support.sandbox_clients import adopt, make_due, register
from tests.support.scraping import sample
from tests.support.settling import drain
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.bootstrap import Container, monotonic
from worker.domain.account import ToldAccount
from worker.domain.grant import GrantState
from worker.domain.secret import Secret
from worker.embedded.startup import free_loopback_port
from worker.oauth.client import Client
from worker.oauth.token_endpoint import TokenAnswer, TokenEndpoint
from worker.sandbox import owner
from worker.sandbox.families import FamilyStatus
from worker.sandbox.server import RunningSandbox
from worker.storage.consents import Arrival, StoredConsent
from worker.storage.new_grants import NewGrant
from worker.usecases.access_token import FreshToken
from worker.usecases.consent_results import ConsentResult, GrantStored

pytestmark = pytest.mark.anyio

PATIENCE = 20.0
ALIVE, REVOKED = FamilyStatus.ALIVE, FamilyStatus.REVOKED


async def test_a_paused_grant_takes_the_new_tokens_and_stays_paused(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """What an operator has paused is not let go by its owner; resumed, it is refreshed with the new tokens."""
    client = register_telling(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as ada:
            expect_callback(sandbox, client, web.url)
            ada.consent(client.name, "customer-42")
            [grant_id] = [row.id for row in await rows(container, "SELECT id FROM grants")]
            await container.operations.pause(grant_id)
            sandbox.control.revoke_consent(client.name, ADA)

            page = ada.consent(client.name, "customer-42")

            assert (page.status_code, "Connected, and paused" in page.text) == (200, True)
            assert sample(ada.http.get("/metrics").text, "evergrant_grants_revived_total", client=client.name) == 0
        [row] = await rows(container, "SELECT state, state_reason, generation, rotate_at FROM grants")
        assert tuple(row) == ("paused", "operator", 1, None)
        assert (await event_types(container))[-1] == "grant.reconsented"

        await container.operations.resume(grant_id)
        await make_due(container)
        assert await drain(container, client) == 1
        view = await container.grants.show(grant_id)
        assert view is not None
        assert (view.state, view.generation, view.last_error) == (GrantState.ACTIVE, 2, None)


@pytest.mark.parametrize(
    ("revocation", "former"), [('revocation = "token"', REVOKED), ('revocation = "grant"', ALIVE), ("", ALIVE)]
)
async def test_the_former_tokens_are_given_back_where_the_new_ones_survive_it(
    sandbox: RunningSandbox,
    make_web: WebMaker,
    make_container: ContainerMaker,
    revocation: str,
    former: FamilyStatus,
) -> None:
    """A healthy grant is renewed in its row, which is no revival; a revocation that may end more is not tried."""
    client = register_telling(sandbox, provider=revocation)
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as ada:
            expect_callback(sandbox, client, web.url)
            ada.consent(client.name, "customer-42")
            before = await value(container, "SELECT id FROM grants")

            assert ada.consent(client.name, "customer-42").status_code == 200

            # Under way after the answer; once the application has ended, nothing is.
        families = [family.status for family in sandbox.control.families(client.name)]
        assert families == [former, ALIVE]
        [row] = await rows(container, "SELECT id, state, generation FROM grants")
        assert tuple(row) == (before, "active", 1)
        assert await event_types(container) == ["grant.created", "grant.reconsented"]
        await make_due(container)
        await drain(container, client)
        assert await value(container, "SELECT generation FROM grants WHERE last_error IS NULL") == 2


async def test_a_provider_that_does_not_take_the_former_tokens_back_fails_nobody(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """The owner reads that all is well: the new tokens are stored before the former ones are given back."""
    gone = f"http://127.0.0.1:{free_loopback_port()}/revoke"
    client = register_telling(sandbox)
    lines = [line for line in client.toml.splitlines() if not line.startswith("revocation_endpoint")]
    toml = "\n".join(lines).replace(
        "[providers.at-telling]", f'[providers.at-telling]\nrevocation = "token"\nrevocation_endpoint = "{gone}"'
    )
    async with make_container(toml, **client.environment) as container:
        with make_web(toml, **client.environment) as web, browser(web) as ada:
            expect_callback(sandbox, client, web.url)
            pages = [ada.consent(client.name, "customer-42") for _ in range(2)]

        assert [page.status_code for page in pages] == [200, 200]
        assert await value(container, "SELECT generation FROM grants") == 1


async def test_who_waits_for_an_access_token_gets_the_new_consents(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A caller whose refresh is under way while the owner comes back is answered with the token that was stored."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        direct = client.toml.replace(provider.url, sandbox.url)
        async with (
            make_container(client.toml, **client.environment) as container,
            make_container(direct, **client.environment) as other,
        ):
            [(grant_id, seeded)] = await adopt(container, sandbox, client)
            provider.hold()
            asked = asyncio.create_task(container.access_tokens.fresh(grant_id, timedelta(seconds=60)))
            await until(lambda: provider.held, PATIENCE, "the refresh is answered")

            consented = await consent(other, client.name, seeded.account, account=seeded.account)
            provider.release()

            assert isinstance(consented, GrantStored)
            found, held = await asked, await container.held_tokens.of_grant(grant_id)
            assert isinstance(found, FreshToken)
            assert held is not None
            assert (found.access_token, found.generation) == (held.access_token, 1)
            assert await rows(container, "SELECT * FROM rotations") == []


async def test_the_known_address_is_hinted_at(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """Where the provider's facts ask for it, an owner who comes back finds the account of before at hand."""
    client = register(sandbox, provider='authorize_params = { login_hint = "{email}" }')
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as ada:
            first = query_of(ada.connect(client.name, "customer-42"))
            await adopt(container, sandbox, client)
            await execute(container, "UPDATE grants SET subject = 'customer-42', email = 'ada@example.com'")
            second = query_of(ada.connect(client.name, "customer-42"))

    assert "login_hint" not in first
    assert second["login_hint"] == "ada@example.com"


async def test_scopes_that_are_not_given_again_are_told(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A consent that leaves out a scope it was asked for marks the grant; one that gives all clears the mark."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        subject = await value(container, "SELECT subject FROM grants")
        consents = container.consent_store.consents
        for scopes in (("profile",), ("profile",), ("profile", "organization")):
            now = await container.grants.now()
            stored = await consents.store_consent(
                await value(container, "SELECT gen_random_uuid()"),
                NewGrant(
                    client=client.name,
                    subject=subject,
                    refresh_token=Secret("rt"),
                    access_token=Secret("at"),
                    issued_at=now,
                    access_expires_at=now,
                    refresh_expires_at=None,
                    rotate_at=now,
                    scopes=scopes,
                    email=None,
                    account=ToldAccount(),
                    requested=("profile", "organization"),
                ),
                now,
            )
            assert isinstance(stored, StoredConsent)
            assert stored.arrival is Arrival.RENEWED
            lost = None if "organization" in scopes else ["organization"]
            assert await value(container, "SELECT lost_scopes FROM grants") == lost

        [told] = await rows(container, "SELECT data FROM events WHERE type = 'grant.scopes_narrowed'")
        assert told.data == {"generation": 1, "lost": ["organization"]}


async def test_an_older_consent_that_is_stored_late_changes_nothing(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Of two consents the newer one stays, in whatever order they reach the database; a repetition is recognised."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        consents, now = container.consent_store.consents, await container.grants.now()
        newer = NewGrant(
            client=client.name,
            subject="customer-42",
            refresh_token=Secret("newer"),
            access_token=None,
            issued_at=None,
            access_expires_at=None,
            refresh_expires_at=None,
            rotate_at=now,
            scopes=None,
            email=None,
        )
        new_id = await value(container, "SELECT gen_random_uuid()")
        await consents.store_consent(new_id, newer, now)
        before = await rows(container, "SELECT * FROM grants")

        again = await consents.store_consent(new_id, newer, now)
        older = replace(newer, refresh_token=Secret("older"))
        late = await consents.store_consent(new_id, older, now - timedelta(seconds=5))

        assert isinstance(again, StoredConsent)
        assert isinstance(late, StoredConsent)
        assert (again.arrival, late.arrival) == (Arrival.CREATED, Arrival.OUTDATED)
        assert await rows(container, "SELECT * FROM grants") == before
        assert await event_types(container) == ["grant.created"]


async def test_an_exchange_that_did_not_leave_is_sent_again(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """A provider that is not there for a moment costs the owner nothing: the code was not sent, and is still good."""
    port = free_loopback_port()
    client = register(sandbox, token_endpoint_at=f"http://127.0.0.1:{port}")
    proxy = TcpProxy(sandbox.url, port=port)

    class Reviving(TokenEndpoint):
        """The token endpoint, which comes up when it was asked in vain for the first time."""

        unanswered = 0

        async def exchange_code(
            self,
            client: Client,
            code: Secret,
            code_verifier: Secret | None,
            *,
            captured: Mapping[str, str] | None = None,
        ) -> TokenAnswer:
            answer = await super().exchange_code(client, code, code_verifier, captured=captured)
            if answer.did_not_leave and self.unanswered == 0:
                proxy.__enter__()
                self.unanswered += 1
            return answer

    async with make_container(client.toml, **client.environment) as container:
        endpoint = Reviving(container.http, monotonic)
        flow = replace(container.consent, exchange=replace(container.consent.exchange, token_endpoint=endpoint))
        try:
            result = await consent(container, client.name, "customer-42", finish=flow.finish)
        finally:
            proxy.__exit__(None, None, None)

    assert isinstance(result, GrantStored)
    assert endpoint.unanswered == 1
    assert sandbox.control.report().codes_exchanged == 1


async def consent(
    container: Container,
    client: str,
    subject: str,
    *,
    account: str = ADA,
    finish: Callable[..., Awaitable[ConsentResult]] | None = None,
) -> ConsentResult:
    """Go the whole way without the web application."""
    started = await container.consent.begin(client, subject, None, None)
    callback = await asyncio.to_thread(owner.allow, started.location.reveal(), account=account)
    parameters = dict(parse_qsl(urlsplit(callback).query, strict_parsing=True))
    return await (finish or container.consent.finish)(parameters, started.browser)


async def test_a_lost_acknowledgement_of_a_revival_is_still_a_revival(
    sandbox: RunningSandbox, make_container: ContainerMaker
) -> None:
    """Stored again with the same arguments, a consent says what it said before."""
    client = register(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        await adopt(container, sandbox, client)
        await execute(container, "UPDATE grants SET state = 'reconsent_required', rotate_at = NULL")
        now = await container.grants.now()
        grant = NewGrant(
            client=client.name,
            subject=await value(container, "SELECT subject FROM grants"),
            refresh_token=Secret("rt"),
            access_token=None,
            issued_at=None,
            access_expires_at=None,
            refresh_expires_at=None,
            rotate_at=now,
            scopes=None,
            email=None,
        )
        new_id = await value(container, "SELECT gen_random_uuid()")
        stored = [await container.consent_store.consents.store_consent(new_id, grant, now) for _ in range(2)]

        assert [found.arrival for found in stored if isinstance(found, StoredConsent)] == [Arrival.REVIVED] * 2
        assert (await event_types(container)).count("grant.revived") == 1
