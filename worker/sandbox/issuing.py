"""Issuing tokens: the start of a family, and the access token that every refresh renews."""

from __future__ import annotations

import math

from worker.domain.secret import Secret
from worker.sandbox.access_tokens import AccessClaims
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.clients import Client
from worker.sandbox.token_answer import TokenAnswer
from worker.sandbox.token_meaning import token_hash


def start_family(
    server: AuthorizationServer,
    *,
    client: Client,
    account: str,
    scope: str,
    now: float,
    access_lifetime: int | None = None,
) -> tuple[int, TokenAnswer]:
    """Start a family within the caller's transaction.

    Args:
        server: the sandbox.
        client: whom the account grants.
        account: the resource owner's name.
        scope: what is granted, separated by spaces.
        now: epoch seconds.
        access_lifetime: seconds of the first access token; None for the client's.

    Returns:
        The family's id and its first tokens.
    """
    refresh_token = Secret(server.world.new_token())
    family_id = server.families.create(
        client_id=client.client_id,
        account=account,
        scope=scope,
        behaviour=client.behaviour,
        refresh_hash=token_hash(refresh_token),
        now=now,
    )
    lifetime = client.behaviour.access_lifetime if access_lifetime is None else access_lifetime
    access_token = new_access_token(
        server, client=client, family_id=family_id, account=account, scope=scope, now=now, lifetime=lifetime
    )
    answer = TokenAnswer(access_token=access_token, refresh_token=refresh_token, expires_in=lifetime, scope=scope)
    return family_id, answer


def new_access_token(
    server: AuthorizationServer, *, client: Client, family_id: int, account: str, scope: str, now: float, lifetime: int
) -> Secret:
    """Return an access token that is valid for `lifetime` seconds."""
    return server.access_tokens.mint(
        AccessClaims(
            issuer=server.issuer(client.profile),
            token_id=server.world.new_token(),
            client_id=client.client_id,
            family_id=family_id,
            account=account,
            scope=scope,
            issued_at=int(now),
            expires_at=math.ceil(now) + lifetime,  # rounded up: the promise of expires_in is kept in full
        ),
    )
