"""Who may do what: four roles, each of which may do all that the one before it may, and one bound to a client or none.

reader ── looks at grants, clients and events
token ─── and gets access tokens
operator ─ and acts on grants and clients: adopt, refresh, pause, resume, revoke
admin ─── and everything else: API tokens, sessions, the audit log
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias
from uuid import UUID


class Role(StrEnum):
    """What somebody may do: the holder of an API token, or a person who has signed in."""

    READER = "reader"
    TOKEN = "token"  # noqa: S105 -- the name of a role
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, needed: Role) -> bool:
        """Tell whether whoever has this role may do what needs the other."""
        return _LADDER.index(self) >= _LADDER.index(needed)


class Everybody(StrEnum):
    """What a route declares that needs no role: it is open to whoever can reach it."""

    PUBLIC = "public"


#: What a route declares: the role that it needs, or that it is public.
Needed: TypeAlias = Role | Everybody

_LADDER: Final = tuple(Role)


class CallerKind(StrEnum):
    """How somebody has shown who they are."""

    API_TOKEN = "api_token"  # noqa: S105 -- the name of a kind
    PERSON = "person"  #: signed in, in a browser
    COMMAND_LINE = "command_line"  #: whoever can run commands on the database


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: an API token that was found good, or a person with a session.

    `id` is the token's or the session's. `client` is the one client whose grants this caller may see and touch; None:
    every client's.
    """

    id: UUID
    name: str | None
    role: Role
    client: str | None
    kind: CallerKind = CallerKind.API_TOKEN

    def may(self, needed: Needed) -> bool:
        """Tell whether this caller's role is enough."""
        return needed is Everybody.PUBLIC or self.role.includes(Role(needed))

    def sees(self, client: str) -> bool:
        """Tell whether a client, and everything of it, is this caller's business."""
        return self.client is None or self.client == client
