"""What can happen to a grant or a client, from a closed list: the types of events."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """What happened. Programs compare these; each is written in the transaction of the change that it tells of."""

    GRANT_CREATED = "grant.created"  #: adopted, or consented to for the first time
    GRANT_RECONSENT_REQUIRED = "grant.reconsent_required"  #: only its owner can bring it back
    GRANT_REVIVED = "grant.revived"  #: its owner came back, or a late answer saved it
    GRANT_RECONSENTED = "grant.reconsented"  #: its owner authorized again, and it had not ended
    GRANT_IN_DOUBT = "grant.in_doubt"  #: its refresh token was presented and no answer was read
    GRANT_EXPIRING = "grant.expiring"  #: refreshing will not move its end, which is near
    GRANT_REVOKED = "grant.revoked"  #: ended on purpose
    GRANT_PAUSED = "grant.paused"  #: by an operator
    GRANT_RESUMED = "grant.resumed"  #: by an operator
    GRANT_SCOPES_NARROWED = "grant.scopes_narrowed"  #: the provider has taken some of its scopes away
    GRANT_REFRESH_TOKEN_MISSING = "grant.refresh_token_missing"  # noqa: S105 -- the name of an event
    GRANT_ACCOUNT_REFUSED = "grant.account_refused"  #: its owner came back with another account
    GRANT_ACCOUNT_CHANGED = "grant.account_changed"  #: by an operator
    GRANT_ACCOUNT_SHARED = "grant.account_shared"  #: another grant is for the same account
    GRANT_RECONSENT_MAILED = "grant.reconsent_mailed"  #: its owner was sent a link
    GRANT_RECONSENT_MAIL_FAILED = "grant.reconsent_mail_failed"  #: the link could not be handed in
    CLIENT_PAUSED = "client.paused"  #: by an operator, or by its breaker
    CLIENT_RESUMED = "client.resumed"
    CLIENT_BRAKED = "client.braked"  #: abnormally many of its grants died at once


#: Instead of a type: every one that begins so.
ALL_OF_A_KIND: Final = ("grant.*", "client.*")


def chosen(patterns: Iterable[str]) -> frozenset[EventType]:
    """Return the types that are meant by types and by `grant.*` or `client.*`."""
    wanted = frozenset(patterns)
    return frozenset(found for found in EventType if found in wanted or f"{found.partition('.')[0]}.*" in wanted)
