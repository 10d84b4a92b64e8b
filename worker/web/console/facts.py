"""A provider's facts in a few plain lines, for the pages of its clients and their grants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from worker.domain.facts import Keep, OldToken, Rotation
from worker.domain.reconsent import MailMode
from worker.oauth.client import Client
from worker.web.words import lasting

_ROTATIONS: Final[Mapping[Rotation | None, str]] = {
    Rotation.ALWAYS: "replaced by every refresh",
    Rotation.SOMETIMES: "replaced by some refreshes",
    Rotation.NEVER: "stays the same",
    None: "not known; taken for replaced",
}
_OLD: Final[Mapping[OldToken | None, str]] = {
    OldToken.INVALIDATED: "dead at once; presenting it again may end the grant",
    OldToken.GRACE: "accepted for a while more",
    OldToken.UNTIL_NEW_USED: "accepted until the new one is used",
    OldToken.STAYS_VALID: "stays valid",
    None: "not known; never presented again",
}

_MAILS: Final[Mapping[MailMode, str]] = {
    MailMode.AUTO: "by themselves, soon after a grant has died",
    MailMode.DIGEST: "by themselves, once a day",
    MailMode.MANUAL: "when an operator says so",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line."""

    name: str
    value: str


def provider_facts(client: Client) -> tuple[Fact, ...]:
    """Return what matters for keeping a client's grants alive; what nobody knows is said so."""
    return tuple(Fact(name=name, value=value) for name, value in _facts(client))


def registration_facts(client: Client) -> tuple[Fact, ...]:
    """Return what a client is at its provider, and its limits."""
    limits = client.limits
    rate = f"{limits.rate_per_second:g} a second" if limits.rate_per_second is not None else "no limit"
    named = (
        ("Client id", client.client_id),
        ("Token endpoint", client.provider.token_endpoint or client.provider.refresh.endpoint or "not known"),
        ("Authenticates with", str(client.provider.client_auth)),
        ("Redirect URI", client.redirect_uri),
        ("Scopes", " ".join(client.scopes) or "the provider's own"),
        ("Refreshes at most", f"{rate}, {limits.max_in_flight} at once"),
        ("Owners are mailed", _MAILS[client.reconsent_mails]),
        ("Without an address", ", ".join(client.fallback_recipients) or "nobody is mailed"),
    )
    return tuple(Fact(name=name, value=value) for name, value in named)


def _facts(client: Client) -> Iterator[tuple[str, str]]:
    provider, facts = client.provider, client.provider.facts
    yield "Refresh token", _ROTATIONS[facts.rotation]
    old = _OLD[facts.old_token]
    yield "The old one", f"accepted for {_length(facts.reuse_grace)} more" if facts.reuse_grace is not None else old
    yield "Access token lives", _length(facts.access_lifetime) or "as each answer says"
    if facts.refresh_lifetime is not None:
        yield "Consent ends", f"{_length(facts.refresh_lifetime)} after it was given"
    if facts.refresh_idle_timeout is not None:
        yield "Unused, it ends after", _length(facts.refresh_idle_timeout)
    yield (
        "Dead after",
        f"{facts.strikes} refusals, {_length(facts.strike_interval)} apart" if facts.strikes > 1 else ("one refusal"),
    )
    kept = (
        "the access token is always fresh" if client.keep is Keep.ACCESS else "only the grant; it is refreshed rarely"
    )
    yield "Kept alive", kept
    if provider.checked is not None:
        yield "Facts checked", provider.checked.isoformat()


def _length(length: timedelta | None) -> str:
    return lasting(length.total_seconds()) if length is not None else ""
