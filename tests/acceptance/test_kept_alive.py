"""Grants on short lifetimes are kept alive for a while by real workers and beats.

The gate runs each for half a minute; EVERGRANT_TEST_SECONDS=600 makes it the ten minutes that README speaks of.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest

from tests.authorization_servers.oidc_provider import ClientRegistration, OidcProvider, walk_consent
from tests.authorization_servers.plain_client import open_http
from tests.conftest import ContainerMaker
from tests.support.deployment import Deployment, deployed
from tests.support.sandbox_clients import SECRET, adopt, register
from tests.support.waiting import until
from worker.bootstrap import Container
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.server import RunningSandbox
from worker.usecases.consent_results import GrantStored

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SECONDS = float(os.environ.get("EVERGRANT_TEST_SECONDS", "30"))
GRANTS = int(os.environ.get("EVERGRANT_TEST_GRANTS", "1000"))
LIFETIME = 20  # seconds
OIDC_GRANTS = 50
_LOOK_EVERY = 0.5  # seconds

OIDC_PROVIDER = """
[providers.oidc]
issuer = "{server.issuer}"
authorization_endpoint = "{server.authorization_endpoint}"
token_endpoint = "{server.token_endpoint}"
pkce = "required"
rotation = "always"
old_token = "invalidated"
authorize_params = {{ prompt = "consent" }}

[clients.oidc]
provider = "oidc"
client_id = "evergrant"
client_secret = "env:CLIENT_SECRET"
scopes = ["openid", "offline_access"]
"""

_FIGURES = """
    SELECT count(*), count(*) FILTER (WHERE state <> 'active'),
           count(*) FILTER (WHERE access_expires_at <= now()), sum(generation)
      FROM grants
"""

#: Whether every grant is active with an access token that outlives the workers' margin: none is about to run out.
_LATEST = "SELECT bool_and(state = 'active' AND access_expires_at > now() + interval '4 s') FROM grants"


def watch(database_url: str, deployment: Deployment, grants: int) -> int:
    """Watch for SECONDS that every grant is active and no access token has expired; return the rotations."""
    deadline = time.monotonic() + SECONDS
    rotations = 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(_FIGURES).fetchone()
            assert row is not None
            total, not_active, expired, rotations = row
            left = deadline - time.monotonic()
            assert (total, not_active, expired) == (grants, 0, 0), f"with {left:.0f} s of {SECONDS:.0f} s to go"
            assert deployment.ended() == []
            time.sleep(_LOOK_EVERY)
    return int(rotations)


async def test_a_thousand_askara_grants(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """With two beats and three workers no access token ever expires and no refresh token is presented twice."""
    client = register(sandbox, behaviour=Behaviour(access_lifetime=LIFETIME))
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration=client.toml,
        workers=3,
        beats=2,
        CLIENT_SECRET=SECRET,
    ) as deployment:
        # Adopted over some seconds, with what is left of each token's life, while everything is running.
        async with make_container(client.toml, **client.environment) as container:
            for first in range(1, GRANTS, GRANTS // 10):
                await adopt(container, sandbox, client, GRANTS // 10, due=False, first_number=first)
        await _all_fresh(database_url)
        rotations = watch(database_url, deployment, GRANTS)

    report = sandbox.control.report()
    print(f"{GRANTS} grants, {SECONDS:g} s: {rotations} rotations, presented twice: {report.presented_more_than_once}")
    assert rotations >= GRANTS * (SECONDS / LIFETIME - 1)
    assert (report.presented_more_than_once, report.double_spends) == (0, 0)


@pytest.mark.node
async def test_fifty_grants_at_oidc_provider(
    *,
    oidc_provider_installed: Path,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """At an authorization server that nobody here wrote, with reuse detection, all grants are alive at the end."""
    del oidc_provider_installed
    registration = ClientRegistration(
        client_id="evergrant", client_secret=Secret(SECRET), redirect_uris=("http://127.0.0.1:8080/oauth/callback",)
    )
    lifetime = timedelta(seconds=LIFETIME)
    with OidcProvider(clients=[registration], access_token_lifetime=lifetime) as server:
        configuration = OIDC_PROVIDER.format(server=server)
        with deployed(
            tmp_path,
            database_url=database_url,
            broker_url=broker_url,
            keys=keys,
            configuration=configuration,
            workers=2,
            CLIENT_SECRET=SECRET,
        ) as deployment:
            async with make_container(configuration, CLIENT_SECRET=SECRET) as container:
                for number in range(OIDC_GRANTS):
                    await _consent(container, f"customer-{number}")
            await _all_fresh(database_url)
            rotations = watch(database_url, deployment, OIDC_GRANTS)
        seen = server.seen()
    print(
        f"{OIDC_GRANTS} grants, {SECONDS:g} s: {rotations} rotations, presented twice: {seen.presented_more_than_once}"
    )
    assert (seen.grants_alive, seen.presented_more_than_once) == (OIDC_GRANTS, 0)


async def _consent(container: Container, subject: str) -> None:
    """Walk one owner through the real forms, from our own /connect to our own callback."""
    started = await container.consent.begin("oidc", subject, None, None)
    with open_http() as browser:
        location = await asyncio.to_thread(walk_consent, browser, started.location.reveal(), subject)
    parameters = dict(parse_qsl(urlsplit(location).query))
    assert isinstance(await container.consent.finish(parameters, started.browser), GrantStored)


async def _all_fresh(database_url: str) -> None:
    """Wait until the workers have caught up with what ran out while the owners walked."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        async def fresh() -> bool:
            row = connection.execute(_LATEST).fetchone()
            return row == (True,)

        await until(fresh, 20.0, "every access token is fresh")
