"""What the figures come to: the findings, worst first, and the tiles of the first page. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from worker.domain.facts import Keep
from worker.domain.grant import ROTATED_STATES, GrantState
from worker.domain.reconsent import MailMode
from worker.exposition import SandboxCounts
from worker.oauth.client import Client
from worker.storage.client_figures import ClientFigures
from worker.storage.overview import Overview
from worker.web.words import lasting, number, plain_reason, plain_state

#: Seconds. Tickets come every second and work for 20 s at most: what is due for longer, nobody is working on.
OVERDUE_CONCERN: Final = 30.0
_WANTED_ALIVE: Final = (*ROTATED_STATES, GrantState.RECONSENT_REQUIRED)


class Tone(StrEnum):
    """How much a figure or finding asks of its reader; names a class of the style sheet."""

    GOOD = "good"
    WATCH = "watch"  #: somebody should look at it today
    BAD = "bad"  #: somebody should look at it now
    QUIET = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where something can be done about a finding."""

    label: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know, in a headline, and what to do about it."""

    tone: Tone
    headline: str
    advice: str
    way: Way | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure over all clients."""

    name: str
    value: int
    note: str
    tone: Tone


def findings(
    overview: Overview, clients: Mapping[str, Client], sandbox: SandboxCounts | None, *, sends: bool
) -> Sequence[Finding]:
    """Return what there is to know, worst first; where nothing is wrong, that.

    Args:
        overview: the figures.
        clients: the configured clients, by name.
        sandbox: the demo's authorization server's own counts, where it runs.
        sends: whether there is a mail server.

    """
    found = [*_promise_broken(sandbox), *_not_refreshed(overview, clients), *_late(overview, clients)]
    if owners := _count(overview, GrantState.RECONSENT_REQUIRED):
        need = f"{_grants(owners)} {plain_state(GrantState.RECONSENT_REQUIRED, owners)}"
        advice = (
            _who_mails(overview, clients)
            if sends
            else "Nobody is mailed: set EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM."
        )
        link = Way(label="Show them", href=f"/grants?state={GrantState.RECONSENT_REQUIRED}&sort=-since")
        found.append(Finding(tone=Tone.WATCH, headline=need, advice=advice, way=link))
    return sorted(found, key=lambda finding: finding.tone is not Tone.BAD) or [_all_well(overview)]


def _who_mails(overview: Overview, clients: Mapping[str, Client]) -> str:
    needing = [found.client for found in overview.clients if found.states.get(GrantState.RECONSENT_REQUIRED)]
    manual = [name for name in needing if name in clients and clients[name].reconsent_mails is MailMode.MANUAL]
    automatic = "Owners are mailed automatically when their grant has just died. See who has not come back."
    if not manual:
        return automatic
    names = ", ".join(manual)
    by_hand = f'Owners of {names} are mailed only when you say so (reconsent_mails is "manual"): mail them.'
    return by_hand if len(manual) == len(needing) else f"{automatic} {by_hand}"


def _promise_broken(sandbox: SandboxCounts | None) -> Iterator[Finding]:
    if sandbox is not None and sandbox.double_spends:
        headline = f"Double spends counted by the authorization server: {number(sandbox.double_spends)}"
        yield Finding(tone=Tone.BAD, headline=headline, advice="This is a bug in Evergrant. Please keep the logs.")


def _not_refreshed(overview: Overview, clients: Mapping[str, Client]) -> Iterator[Finding]:
    for found in overview.clients:
        headline = f"Client {found.client} is not refreshed"
        if found.breaker_opened_at is not None:
            advice = plain_reason(found.breaker_reason)
            yield Finding(tone=Tone.BAD, headline=headline, advice=advice, way=_to_client(found))
        elif found.client not in clients and any(found.states.get(state) for state in ROTATED_STATES):
            advice = f"It has grants and is not configured. Add [clients.{found.client}] to the configuration."
            yield Finding(tone=Tone.BAD, headline=headline, advice=advice)
        elif found.braked_at is not None:
            headline = f"Client {found.client}: abnormally many grants died at once"
            advice = (
                "Its further deaths count as suspicions and are tried again. It releases itself; look at the provider."
            )
            yield Finding(tone=Tone.BAD, headline=headline, advice=advice, way=_to_client(found))
        elif found.paused_by_operator:
            advice = "An operator has paused it."
            yield Finding(tone=Tone.WATCH, headline=headline, advice=advice, way=_to_client(found))


def _to_client(found: ClientFigures) -> Way:
    return Way(label="See the client", href=f"/clients/{quote(found.client, safe='')}")


def _late(overview: Overview, clients: Mapping[str, Client]) -> Iterator[Finding]:
    for found in overview.clients:
        if found.oldest_overdue_seconds > OVERDUE_CONCERN and not _held_back(found) and found.client in clients:
            late = lasting(found.oldest_overdue_seconds)
            headline = f"Client {found.client}: {_grants(found.overdue)} overdue, the oldest by {late}"
            advice = "Workers are at it." if overview.rotations_last_minute else "Are a worker and a beat running?"
            yield Finding(tone=Tone.BAD, headline=headline, advice=f"{advice} /readyz and the logs tell more.")
    if expired := _expired(overview, clients):
        advice = "Whoever uses them is refused by the provider until the next rotation."
        yield Finding(tone=Tone.WATCH, headline=f"Expired access tokens: {number(expired)}", advice=advice)


def _held_back(found: ClientFigures) -> bool:
    return found.breaker_opened_at is not None or found.paused_by_operator or found.throttled_until is not None


def _all_well(overview: Overview) -> Finding:
    wanted = sum(_count(overview, state) for state in _WANTED_ALIVE)
    alive = _count(overview, GrantState.ACTIVE)
    if not overview.clients:
        return Finding(tone=Tone.QUIET, headline="No client is configured yet", advice="")
    if not wanted:
        return Finding(tone=Tone.QUIET, headline="There is no grant to keep alive yet", advice="")
    if alive == wanted:
        headline = "The only grant is kept alive" if wanted == 1 else f"All {_grants(wanted)} are kept alive"
        return Finding(tone=Tone.GOOD, headline=headline, advice="")
    headline = f"{number(alive)} of {_grants(wanted)} are kept alive, {number(wanted - alive)} in doubt"
    return Finding(tone=Tone.GOOD, headline=headline, advice="Nothing to do: workers settle a doubt by themselves.")


def tiles(overview: Overview, clients: Mapping[str, Client]) -> Sequence[Tile]:
    """Return the figures over all clients, in the order in which they are shown."""
    total = sum(found.total for found in overview.clients)
    alive, doubt, owners = (
        _count(overview, state) for state in (GrantState.ACTIVE, GrantState.IN_DOUBT, GrantState.RECONSENT_REQUIRED)
    )
    overdue = sum(found.overdue for found in overview.clients)
    oldest = max((found.oldest_overdue_seconds for found in overview.clients), default=0.0)
    late = f"the oldest by {lasting(oldest)}" if overdue else "all on time"
    expired = _expired(overview, clients)
    figures = (
        ("Kept alive", alive, f"of {number(total)}", Tone.GOOD if alive else Tone.QUIET),
        ("In doubt", doubt, "spent, no answer read", _tone(doubt)),
        ("Need their owner", owners, "to authorize again", _tone(owners)),
        ("Overdue", overdue, late, Tone.BAD if oldest > OVERDUE_CONCERN else Tone.QUIET),
        ("Expired access tokens", expired, "of grants kept alive", _tone(expired)),
        ("Rotations", overview.rotations_last_minute, "in the last minute", Tone.QUIET),
    )
    return [Tile(name=name, value=value, note=note, tone=tone) for name, value, note, tone in figures]


def _tone(value: int) -> Tone:
    return Tone.WATCH if value else Tone.QUIET


def _grants(count: int) -> str:
    return "1 grant" if count == 1 else f"{number(count)} grants"


def _count(overview: Overview, state: GrantState) -> int:
    return sum(found.states.get(state, 0) for found in overview.clients)


def _expired(overview: Overview, clients: Mapping[str, Client]) -> int:
    """Count access tokens that ran out, but for clients that ask for the grant alone to be kept alive."""
    return sum(
        found.expired_access_tokens
        for found in overview.clients
        if found.client not in clients or clients[found.client].keep is Keep.ACCESS
    )
