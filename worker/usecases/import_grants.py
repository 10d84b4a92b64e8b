"""Importing grants from another system, a batch of lines at a time: one transaction each, and safe to repeat.

Whatever interrupts an import, what was committed stays, and the same file read again goes on behind it: the grants that
are there are left as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, assert_never

from worker.domain.adoption import Verdict
from worker.domain.first_refresh import turn
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.complaints import nearest
from worker.storage.adoptions import Adopted, OfferedGrant
from worker.storage.away import until_taken
from worker.storage.seen_lines import Repeated, SeenLine, SeenLines
from worker.usecases.adopt import Adoption, Refused
from worker.usecases.offer import Complaint
from worker.usecases.offer_fields import read_offer

#: Lines stored in one transaction: enough to share its cost, few enough that it takes a fraction of a second.
BATCH: Final = 1_000
#: How long a database that is away is waited for, seconds: a failover takes less.
STORE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line as it was read: its fields, or why they could not be told apart."""

    number: int
    fields: Mapping[str, object] | str
    end: int  #: bytes of the file up to its end


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that was not taken, and why, in words that repeat nothing secret."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLines:
    """A batch of lines: what they offer, each with its line's number, and which of them are bad."""

    offered: Sequence[tuple[int, OfferedGrant]]
    bad: Sequence[BadLine]
    lines: int
    end: int  #: bytes of the file up to its end


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has come of an import so far."""

    lines: int = 0
    created: int = 0  #: in a dry run: would be
    replaced: int = 0  #: dead ones that live on with the tokens of a later consent
    already_there: int = 0
    other_token: int = 0  #: there already, and offered with another refresh token than they were adopted with
    bad: int = 0
    first_refresh: datetime | None = None
    last_refresh: datetime | None = None

    @property
    def taken(self) -> int:
        """Return how many lines were taken."""
        return self.created + self.replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to import.

    Attributes:
        client: for lines that name none.
        spread: the time over which first refreshes are spread where a token's end is not known; None: by the rate.
        replace: whether dead grants live on with the tokens of a later consent.
        dry_run: whether to check only.

    """

    client: str | None = None
    spread: timedelta | None = None
    replace: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantImport:
    """One import under way. `now` is the database's clock, as it goes on from the beginning of the import."""

    adoption: Adoption
    seen: SeenLines
    now: Callable[[], datetime]
    options: ImportOptions
    tally: Tally = field(default_factory=Tally)
    _places: Counter[str] = field(default_factory=Counter)

    def check(self, lines: Sequence[Line]) -> CheckedLines:
        """Check a batch of lines without the database. Batches are checked one at a time, in order, in any thread."""
        bad: list[BadLine] = []
        offered: list[tuple[int, OfferedGrant]] = []
        now = self.now()
        for line in lines:
            prepared = self._prepared(line, now)
            if isinstance(prepared, OfferedGrant):
                offered.append((line.number, prepared))
            else:
                bad.append(BadLine(number=line.number, reason=prepared))
        fresh = self._not_repeated(offered, bad)
        return CheckedLines(offered=fresh, bad=bad, lines=len(lines), end=lines[-1].end)

    async def store(self, checked: CheckedLines) -> list[BadLine]:
        """Store what a batch offers, and return all of its lines that are bad.

        Raises:
            OperationalError: when the database stays away; no line of this batch was taken.

        """
        bad = list(checked.bad)
        adopted = await self._stored([one for _, one in checked.offered]) if checked.offered else []
        for (number, one), what in zip(checked.offered, adopted, strict=True):
            reason = self._count(one, what)
            if reason is not None:
                bad.append(BadLine(number=number, reason=reason))
        self.tally.lines += checked.lines
        self.tally.bad += len(bad)
        return sorted(bad, key=lambda line: line.number)

    def _prepared(self, line: Line, now: datetime) -> OfferedGrant | str:
        if isinstance(line.fields, str):
            return line.fields
        fields = line.fields
        if self.options.client is not None and fields.get("client") is None:
            fields = {**fields, "client": self.options.client}
        offer = read_offer(fields)
        if isinstance(offer, tuple):
            return _words(offer)
        client = self.adoption.registry.clients.get(offer.client)
        if client is None:
            return f"client is not configured{nearest(offer.client, self.adoption.registry.clients)}"
        prepared = self.adoption.prepare(client, offer, now=now, wait=self._wait(client))
        return _words(prepared.complaints) if isinstance(prepared, Refused) else prepared

    def _wait(self, client: Client) -> timedelta:
        if self.options.spread is not None:
            return self.options.spread * self.adoption.draw()
        place = self._places[client.name]
        self._places[client.name] += 1
        return turn(place, rate_per_second=client.limits.rate_per_second, draw=self.adoption.draw())

    def _not_repeated(
        self, offered: Sequence[tuple[int, OfferedGrant]], bad: list[BadLine]
    ) -> list[tuple[int, OfferedGrant]]:
        repeated = self.seen.add([_seen(number, one) for number, one in offered])
        fresh = []
        for (number, one), before in zip(offered, repeated, strict=True):
            if before is None:
                fresh.append((number, one))
            else:
                bad.append(BadLine(number=number, reason=_repeats(before)))
        return fresh

    async def _stored(self, offered: Sequence[OfferedGrant]) -> list[Adopted]:
        return await until_taken(
            lambda: self.adoption.adoptions.adopt(offered, replace=self.options.replace, dry_run=self.options.dry_run),
            seconds=STORE_SECONDS,
        )

    def _count(self, one: OfferedGrant, what: Adopted) -> str | None:
        """Count what became of a line; return the reason where it is a bad one."""
        tally = self.tally
        match what.verdict:
            case Verdict.CREATE:
                tally.created += 1
            case Verdict.REPLACE:
                tally.replaced += 1
            case Verdict.SAME:
                tally.already_there += 1
                return None
            case Verdict.OTHER_TOKEN:
                tally.already_there += 1
                tally.other_token += 1
                return None
            case Verdict.TAKEN:
                return f"refresh_token was adopted before, as grant {what.grant_id}: it cannot be kept alive twice"
            case Verdict.NOT_NEWER:
                return (
                    f"grant {what.grant_id} is dead, and is only replaced where consented_at is after its death: "
                    "an older token is spent"
                )
            case Verdict.OTHER_ACCOUNT:
                return f"account is not that of grant {what.grant_id}, which is dead and would be brought back"
            case _:
                assert_never(what.verdict)
        due = one.grant.rotate_at
        tally.first_refresh = min(due, tally.first_refresh or due)
        tally.last_refresh = max(due, tally.last_refresh or due)
        return None


def _seen(number: int, one: OfferedGrant) -> SeenLine:
    token: Secret | None = None if one.is_shareable else one.grant.refresh_token
    return SeenLine(number=number, client=one.grant.client, subject=one.grant.subject, refresh_token=token)


def _repeats(before: Repeated) -> str:
    if before.is_grant:
        return f"client and subject are those of line {before.first}"
    return f"refresh_token is that of line {before.first}, which names another grant: it cannot be kept alive twice"


def _words(complaints: Sequence[Complaint]) -> str:
    return "; ".join(str(complaint) for complaint in complaints)
