"""Trying a client's connection without touching any grant: a refresh token that nobody has ever issued is presented.

A provider that knows us answers that it does not know the token (RFC 6749 section 5.2, `invalid_grant`): then its
address, its certificate and our client authentication are good.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from worker.domain.outcome import Dead, Misconfigured, Outcome, Reason, Rotated, reason
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.token_endpoint import TokenEndpoint

#: What is presented. It says to whoever reads the provider's log where it comes from.
MADE_UP: Final = Secret("evergrant-tries-its-connection")


class Tried(StrEnum):
    """What the try has shown."""

    GOOD = "good"  #: the provider knows us, and not the token
    ACCEPTED = "accepted"  #: the provider has answered with tokens: it does not look at what is presented
    MISCONFIGURED = "misconfigured"  #: our registration or the address is wrong
    UNCLEAR = "unclear"  #: the provider is not there, or does not say
    NOT_REFRESHED = "not_refreshed"  #: tokens of this provider are not refreshed: there is nothing to ask


async def try_client(token_endpoint: TokenEndpoint, client: Client) -> tuple[Tried, Reason]:
    """Present a made-up refresh token for a client, and return what that has shown and why."""
    if not client.provider.facts.is_refreshed or client.provider.presents_access_token:
        return Tried.NOT_REFRESHED, Reason.OK
    outcome = (await token_endpoint.refresh(client, MADE_UP)).outcome
    return _tried(outcome), reason(outcome)


def _tried(outcome: Outcome) -> Tried:
    match outcome:
        case Dead():
            return Tried.GOOD
        case Rotated():
            return Tried.ACCEPTED
        case Misconfigured():
            return Tried.MISCONFIGURED
        case _:
            return Tried.UNCLEAR
