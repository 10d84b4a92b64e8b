"""Storing a consent: over an older grant of the same subject, against a refresh in flight, through a bad network."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.consenting import PATIENCE, browser, exchange_held_back, expect_callback
from tests.support.database import execute, rows
from tests.support.sandbox_clients import adopt, make_due, register
from tests.support.scraping import sample
from tests.support.settling import drain
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.domain.grant import GrantState
from worker.sandbox.server import RunningSandbox
from worker.usecases.access_token import FreshToken

pytestmark = pytest.mark.anyio


async def test_a_new_consent_revives_the_same_grant(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """A dead grant comes back under its id, one generation on, with strikes and doubt cleared, and rotates again."""
    client = register(sandbox, provider="strikes = 1")
    async with make_container(client.toml, **client.environment) as container:
        with make_web(client.toml, **client.environment) as web, browser(web) as owner:
            expect_callback(sandbox, client, web.url)
            owner.consent(client.name, "customer-42")
            sandbox.control.revoke_consent(client.name, "ada@example.com")
            await make_due(container)
            await drain(container, client)
            dead = await container.grants.find(client.name, "customer-42")
            assert dead is not None
            assert (dead.state, dead.strikes, dead.rotate_at) == (GrantState.RECONSENT_REQUIRED, 1, None)
            await execute(container, "UPDATE grants SET failures = 3, presentations = 2, doubt_since = now()")

            assert owner.consent(client.name, "customer-42").status_code == 200

            scrape = owner.http.get("/metrics").text
            assert sample(scrape, "evergrant_grants_revived_total", client=client.name) == 1
        [row] = await rows(container, "SELECT * FROM grants")
        assert (row.id, row.state, row.state_reason, row.generation) == (dead.id, "active", None, 1)
        assert (row.strikes, row.failures, row.presentations, row.doubt_since) == (0, 0, 0, None)
        assert (row.last_error, row.last_error_code, row.last_error_status, row.last_error_at) == (None,) * 4
        assert row.consented_at > dead.consented_at
        assert [event.type for event in await rows(container, "SELECT type FROM events ORDER BY id")] == [
            "grant.created",
            "grant.reconsent_required",
            "grant.revived",
        ]

        await make_due(container)
        assert await drain(container, client) == 1
        view = await container.grants.show(dead.id)
        assert view is not None
        assert (view.state, view.generation) == (GrantState.ACTIVE, 2)


async def test_a_refresh_in_flight_cannot_overwrite_a_new_consent(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker
) -> None:
    """The answer of a refresh that began before the consent is superseded: the consent's tokens stay."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        direct = client.toml.replace(provider.url, sandbox.url)
        async with make_container(client.toml, **client.environment) as container:
            with make_web(direct, **client.environment) as web, browser(web) as owner:
                expect_callback(sandbox, client, web.url)
                [(grant_id, seeded)] = await adopt(container, sandbox, client)
                provider.hold()
                draining = asyncio.create_task(drain(container, client))
                await until(lambda: provider.held, PATIENCE, "the refresh is answered")

                page = owner.call_back(owner.allow(owner.connect(client.name, seeded.account), account=seeded.account))
                consented = await container.held_tokens.of_grant(grant_id)
                provider.release()
                await draining

                assert page.status_code == 200
                assert consented is not None
                assert await container.held_tokens.of_grant(grant_id) is not None
                [row] = await rows(container, "SELECT id, generation, state, lease_id, leased_until FROM grants")
                assert tuple(row) == (grant_id, 1, "active", None, None)
                kept = await container.access_tokens.fresh(grant_id, timedelta(seconds=60))
                assert isinstance(kept, FreshToken)
                assert kept.access_token == consented.access_token
                assert sandbox.control.account_of(kept.access_token) == seeded.account
                assert await rows(container, "SELECT * FROM rotations") == []
                refreshed = await container.access_tokens.refresh(grant_id)
                assert isinstance(refreshed, FreshToken), "the refresh token is the consent's too"
    assert sandbox.control.report().presented_more_than_once == 0


async def test_a_short_absence_of_the_database_costs_no_consent(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker, database_url: str
) -> None:
    """When the database goes away while the code is exchanged, what it brought is stored as soon as it is back."""
    with TcpProxy(database_url) as database, TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        async with make_container(client.toml, **client.environment) as container:
            with make_web(client.toml, database=database.url, **client.environment) as web, browser(web) as owner:
                expect_callback(sandbox, client, web.url)
                answered = await exchange_held_back(owner, client, provider)
                database.refuse()
                provider.release()
                await until(lambda: database.refused, PATIENCE, "the grant could not be stored")
                database.accept()
                page = await answered

            assert (page.status_code, "Connected" in page.text) == (200, True)
            [row] = await rows(container, "SELECT state, generation FROM grants")
            assert tuple(row) == ("active", 0)


async def test_a_consent_whose_commit_was_not_acknowledged_is_stored_once(
    sandbox: RunningSandbox, make_web: WebMaker, make_container: ContainerMaker, database_url: str
) -> None:
    """When the connection breaks after the commit, trying again finds the grant and changes it no more."""
    with TcpProxy(database_url) as database, TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        async with make_container(client.toml, **client.environment) as container:
            with make_web(client.toml, database=database.url, **client.environment) as web, browser(web) as owner:
                expect_callback(sandbox, client, web.url)
                answered = await exchange_held_back(owner, client, provider)
                database.lose_reply_to(b"COMMIT")
                provider.release()
                page = await answered

                assert database.replies_lost == 1
                assert (page.status_code, "Connected" in page.text) == (200, True)
                scrape = owner.http.get("/metrics").text
                assert sample(scrape, "evergrant_grants_revived_total", client=client.name) == 0
            [row] = await rows(container, "SELECT state, generation FROM grants")
            assert tuple(row) == ("active", 0)
            assert [event.type for event in await rows(container, "SELECT type FROM events")] == ["grant.created"]
