"""`[sign_in]`: the OpenID provider by which people sign in, and what their groups make of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, Field

from worker.domain.errors import ConfigurationError
from worker.domain.roles import Role
from worker.domain.secret import Secret
from worker.oauth.provider_values import STRICT, check_endpoint
from worker.oauth.references import resolve
from worker.oauth.validation import validated

#: Stands for everybody whom the provider signs in.
ANYBODY: Final = "*"


class GroupEntry(BaseModel):
    """`[[sign_in.groups]]` as written: what a group's members may do."""

    model_config = STRICT

    group: Annotated[str, Field(min_length=1)]
    role: Role
    client: str | None = None  #: the one client that they see; None: all


class SignInEntry(BaseModel):
    """`[sign_in]` as written."""

    model_config = STRICT

    issuer: Annotated[str, Field(min_length=1)]
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: str | None = None  #: a reference, `env:NAME` or `file:/path`; None: a public client
    display_name: Annotated[str, Field(min_length=1)] = "your organization"
    scopes: Annotated[tuple[str, ...], Field(min_length=1)] = ("openid", "profile", "email")
    groups_claim: Annotated[str, Field(min_length=1)] = "groups"
    groups: tuple[GroupEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInRules:
    """How people sign in; the secret is resolved."""

    issuer: str
    client_id: str
    client_secret: Secret | None
    display_name: str
    scopes: tuple[str, ...]
    groups_claim: str
    groups: tuple[GroupEntry, ...]

    def role_of(self, groups: Iterable[str]) -> GroupEntry | None:
        """Return what somebody's groups make of them: the first entry that one of them fits; None: they may not in."""
        theirs = frozenset(groups)
        return next((entry for entry in self.groups if entry.group == ANYBODY or entry.group in theirs), None)


def build_sign_in(
    table: object | None, *, clients: Collection[str], environment: Mapping[str, str] | None
) -> SignInRules | None:
    """Validate `[sign_in]` and resolve its reference; None where there is no such table.

    Args:
        table: as written.
        clients: names of the configured clients.
        environment: where `env:NAME` is looked up; with None nothing is.

    Raises:
        ConfigurationError: one line naming the table and key.

    """
    if table is None:
        return None
    entry = validated(SignInEntry, "sign_in", table)
    try:
        check_endpoint(entry.issuer)
    except ValueError as error:
        message = f"[sign_in] issuer {error}"
        raise ConfigurationError(message) from None
    if "openid" not in entry.scopes:
        message = "[sign_in] scopes must hold 'openid' (OpenID Connect Core, section 3.1.2.1)"
        raise ConfigurationError(message)
    if not entry.groups:
        message = "[sign_in] groups are missing, and nobody could sign in: add [[sign_in.groups]] with group and role"
        raise ConfigurationError(message)
    for group in entry.groups:
        if group.client is not None and group.client not in clients:
            message = f"[[sign_in.groups]] of {group.group!r}: there is no client {group.client!r}"
            raise ConfigurationError(message)
    secret = entry.client_secret
    return SignInRules(
        issuer=entry.issuer,
        client_id=entry.client_id,
        client_secret=resolve(secret, "[sign_in] client_secret", environment) if secret is not None else None,
        display_name=entry.display_name,
        scopes=entry.scopes,
        groups_claim=entry.groups_claim,
        groups=entry.groups,
    )
