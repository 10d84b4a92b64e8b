"""A client at the sandbox, registered there and configured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from worker.bootstrap import Container
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.control import SeededGrant
from worker.sandbox.profiles import ASKARA, Profile
from worker.sandbox.server import RunningSandbox

SECRET = "the sandbox's client secret: 100 % & +"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxClient:
    """One client, as configuration and as the sandbox's registration."""

    name: str
    toml: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment that the configuration refers to."""
        return {"CLIENT_SECRET": SECRET}


def register(
    sandbox: RunningSandbox,
    *,
    name: str = "askara-test",
    profile: Profile = ASKARA,
    behaviour: Behaviour | None = None,
    provider: str = "",
    client: str = "",
    secret: str = SECRET,
    token_endpoint_at: str | None = None,
) -> SandboxClient:
    """Register a client at the sandbox and return its configuration.

    Args:
        sandbox: where.
        name: of the client, here and there.
        profile: which authorization server is imitated.
        behaviour: lifetimes, rotation, grace, latency.
        provider: further lines of the provider's table.
        client: further lines of the client's table.
        secret: what the sandbox accepts; the configuration always has SECRET.
        token_endpoint_at: where the configuration has the token endpoint, such as a proxy's URL; else the sandbox's.

    """
    sandbox.control.register_client(
        client_id=name,
        client_secret=Secret(secret),
        redirect_uris=("http://127.0.0.1:8080/oauth/callback",),
        profile=profile,
        behaviour=behaviour,
    )
    facts = (
        'token_request_encoding = "json"\nclient_auth = "client_secret_post"\nold_token = "invalidated"'
        if profile is ASKARA
        else 'client_auth = "client_secret_basic"\npkce = "supported"'
    )
    base = f"{sandbox.url}{profile.prefix}"
    toml = f"""
[providers.at-{name}]
authorization_endpoint = "{base}/authorize"
token_endpoint = "{token_endpoint_at or sandbox.url}{profile.prefix}{profile.token_path}"
rotation = "always"
{facts if "old_token" not in provider else facts.replace('old_token = "invalidated"', "")}
{provider}

[clients.{name}]
provider = "at-{name}"
client_id = "{name}"
client_secret = "env:CLIENT_SECRET"
scopes = ["profile", "organization"]
{client}
"""
    return SandboxClient(name=name, toml=toml)


async def adopt(
    container: Container,
    sandbox: RunningSandbox,
    client: SandboxClient,
    count: int = 1,
    *,
    due: bool = True,
    first_number: int = 1,
) -> list[tuple[UUID, SeededGrant]]:
    """Make grants at the sandbox and adopt them, due at once or by their lifetime."""
    seeded: Sequence[SeededGrant] = sandbox.control.seed_grants(client.name, count, first_number=first_number)
    adopted = []
    for grant in seeded:
        grant_id, _arrival = await container.adoption.adopt(
            client.name,
            grant.account,
            refresh_token=grant.refresh_token,
            access_token=grant.access_token,
            expires_in=None if due else timedelta(seconds=grant.expires_in),
        )
        adopted.append((grant_id, grant))
    return adopted


async def make_due(container: Container) -> None:
    """Make every grant that is kept alive due now, as if its time had passed."""
    async with container.engine.begin() as connection:
        await connection.execute(text("UPDATE grants SET rotate_at = now() WHERE rotate_at IS NOT NULL"))
