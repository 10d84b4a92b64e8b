"""Who may do what: four roles, each of which may do all that the one before it may, and one bound to a client or none.

reader ── looks at grants, clients and events
token ─── and gets access tokens
operator ─ and acts on grants and clients: adopt, refresh, pause, resume, revoke
admin ─── and everything else
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID


class Role(StrEnum):
    """What the holder of an API token may do."""

    READER = "reader"
    TOKEN = "token"  # noqa: S105 -- the name of a role
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, needed: Role) -> bool:
        """Tell whether whoever has this role may do what needs the other."""
        return _LADDER.index(self) >= _LADDER.index(needed)


_LADDER: Final = tuple(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: an API token that was found good.

    `client` is the one client whose grants this caller may see and touch; None: every client's.
    """

    id: UUID
    name: str | None
    role: Role
    client: str | None

    def may(self, needed: Role) -> bool:
        """Tell whether this caller's role is enough."""
        return self.role.includes(needed)

    def sees(self, client: str) -> bool:
        """Tell whether a client, and everything of it, is this caller's business."""
        return self.client is None or self.client == client
