"""Consents that the database does not take: kept in the escrow and stored later, or given back at the provider."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from tests.conftest import ContainerMaker, WebMaker
from tests.support.accounts import event_types, register_telling
from tests.support.consenting import PATIENCE, browser, exchange_held_back, expect_callback
from tests.support.database import rows
from tests.support.sandbox_clients import make_due, register
from tests.support.settling import drain
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from worker.bootstrap import create_container
from worker.domain.account import ToldAccount
from worker.domain.secret import Secret
from worker.embedded.startup import free_loopback_port
from worker.sandbox.families import FamilyStatus
from worker.sandbox.server import RunningSandbox
from worker.storage.consent_escrow import KEY, SUFFIX, ConsentEscrow, KeptConsent
from worker.storage.escrow_homes import escrow_homes
from worker.storage.escrow_shelf import EscrowShelf
from worker.storage.new_grants import NewGrant
from worker.storage.sealing import KeyRing, parse_keys

pytestmark = pytest.mark.anyio


async def test_a_consent_that_cannot_be_stored_waits_in_the_escrow(
    *,
    sandbox: RunningSandbox,
    make_web: WebMaker,
    make_container: ContainerMaker,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the database stays away the consent is kept, sealed, and the owner told; it is stored once it is back."""
    monkeypatch.setattr("worker.usecases.store_consent.STORE_SECONDS", 0.2)
    with TcpProxy(database_url) as database, TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        async with make_container(client.toml, **client.environment) as container:
            with make_web(client.toml, database=database.url, **client.environment) as web, browser(web) as owner:
                expect_callback(sandbox, client, web.url)
                answered = await exchange_held_back(owner, client, provider)
                database.refuse()
                provider.release()
                page = await answered

                assert (page.status_code, "Almost connected" in page.text) == (202, True)
                [entry] = (tmp_path / "home" / "escrow").glob("*.consent")
                assert entry.stat().st_mode & 0o777 == 0o600
                assert "customer-42" not in entry.read_text(encoding="utf-8")
                assert await rows(container, "SELECT * FROM grants") == []

                database.accept()
                await until(lambda: rows(container, "SELECT * FROM grants"), PATIENCE, "the web process stores it")
                await until(lambda: not entry.exists(), PATIENCE, "and lets the escrow forget it")
            [row] = await rows(container, "SELECT state, generation FROM grants")
            assert tuple(row) == ("active", 0)
            assert await event_types(container) == ["grant.created"]
            await make_due(container)
            assert await drain(container, client) == 1
            assert await rows(container, "SELECT 1 FROM grants WHERE generation = 1 AND last_error IS NULL")


async def test_a_workers_tick_stores_what_waits_in_the_broker(
    sandbox: RunningSandbox, make_container: ContainerMaker, broker_url: str, keys: Secret
) -> None:
    """Another process finds a kept consent beside the broker's messages; whose account it is for still counts."""
    client = register_telling(sandbox)
    async with make_container(client.toml, **client.environment) as container:
        now = await container.grants.now()
        grant = NewGrant(
            client=client.name,
            subject="customer-42",
            refresh_token=Secret("rt"),
            access_token=Secret("at"),
            issued_at=now,
            access_expires_at=now,
            refresh_expires_at=None,
            rotate_at=now + timedelta(hours=1),
            scopes=("profile",),
            email="ada@example.com",
            account=ToldAccount(source="userinfo:account", id="ada"),
            captured={"realm": "7"},
            requested=("profile",),
        )
        kept = KeptConsent(new_id=uuid4(), grant=grant, consented_at=now)
        another = replace(grant, account=ToldAccount(source="userinfo:account", id="bob"))
        refused = KeptConsent(new_id=uuid4(), grant=another, consented_at=now + timedelta(seconds=1))
        settings = container.settings.model_copy(
            update={"broker_url": Secret(broker_url), "home_dir": container.settings.home_dir / "elsewhere"}
        )
        for consent in (kept, refused):
            sealed = KeyRing(parse_keys(keys), os.urandom)
            homes = escrow_homes(container.settings.home_dir / "gone", settings.broker_url, suffix=SUFFIX, key=KEY)
            shelf = EscrowShelf(homes, lambda *_told: None, lambda *_told: None)
            assert await ConsentEscrow(shelf, sealed).put(consent)
            await shelf.close()

            worker = create_container(
                settings, name="worker", environment=client.environment, registry=CollectorRegistry()
            )
            try:
                await worker.dispatch.drain_escrow()
                assert await worker.consent_store.escrow.depth() == 0
            finally:
                await worker.close()

        [row] = await rows(container, "SELECT id, subject, email, account, scopes, captured, consented_at FROM grants")
        stored = (kept.new_id, "customer-42", "ada@example.com", "ada", ["profile"], {"realm": "7"}, now)
        assert tuple(row) == stored
        assert await event_types(container) == ["grant.created", "grant.account_refused"]


async def test_a_consent_that_nothing_keeps_is_begun_again(
    *,
    sandbox: RunningSandbox,
    make_web: WebMaker,
    make_container: ContainerMaker,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nothing takes it the owner reads that, the orphan is given back at the provider, and a new one works."""
    monkeypatch.setattr("worker.usecases.store_consent.STORE_SECONDS", 0.2)
    (tmp_path / "home").write_text("no folder", encoding="utf-8")
    with TcpProxy(database_url) as database, TcpProxy(sandbox.url) as provider:
        client = register_telling(sandbox, token_endpoint_at=provider.url, provider='revocation = "token"')
        nowhere = f"redis://127.0.0.1:{free_loopback_port()}/0"
        async with make_container(client.toml, **client.environment) as container:
            with (
                make_web(client.toml, database=database.url, broker=nowhere, **client.environment) as web,
                browser(web) as owner,
            ):
                expect_callback(sandbox, client, web.url)
                answered = await exchange_held_back(owner, client, provider)
                database.refuse()
                provider.release()
                page = await answered

                assert (page.status_code, "Not connected yet" in page.text) == (503, True)
                database.accept()
                assert owner.consent(client.name, "customer-42").status_code == 200
                ended = [family.status for family in sandbox.control.families(client.name)]
            assert ended == [FamilyStatus.REVOKED, FamilyStatus.ALIVE]
            assert len(await rows(container, "SELECT * FROM grants")) == 1
