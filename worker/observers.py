"""What use cases tell the outside, as metrics and log lines."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from worker.domain.grant import ClaimedGrant
from worker.domain.mail_fate import Fate
from worker.domain.outcome import Dead, Outcome, Rotated, label
from worker.domain.reconsent import MailState
from worker.log_lines import FixedLine
from worker.log_sampling import Sampler
from worker.logging import get_logger
from worker.metrics import Metrics
from worker.storage.escrow import EscrowDrained
from worker.storage.rescue import Rescued
from worker.storage.webhook_deliveries import Claim
from worker.usecases.consent_results import ConsentEnd

log = get_logger("evergrant")

_ROTATED_FIELDS: Final[Mapping[str, type[str | int | UUID]]] = {
    "client": str,
    "subject": str,
    "grant": UUID,
    "generation": int,
    "lease": UUID,
    "took_ms": int,
    "late_ms": int,
}
_MEND_ENTRY: Final = (
    "It is kept, holds up no other entry, and is tried again. Run `evergrant db check`, for the schema may be behind, "
    "or start the version that wrote it; for UnknownKeyError put its key back into EVERGRANT_KEYS, behind the first. "
    "Where nothing helps, ask the grant's owner for a new consent; then remove "
    "the entry: the file of that name in EVERGRANT_HOME_DIR/escrow, and that field of the broker's hash "
    "evergrant:escrow."
)


class Observers:
    """Counts and logs; one for a process. It implements the use cases' observers.

    Args:
        metrics: count.
        tick: the monotonic clock, in seconds.
        count_refresh: counts one more by client and outcome, for the console's charts.

    """

    def __init__(
        self,
        metrics: Metrics,
        tick: Callable[[], float],
        count_refresh: Callable[[str, str], None] = lambda _client, _outcome: None,
    ) -> None:
        self._metrics = metrics
        self._count_refresh = count_refresh
        self._failures = Sampler(tick)
        # The one line that is written for each refresh, and costs less than half of what a line with free fields does.
        self._rotated = FixedLine(log.bind(), "grant_rotated", _ROTATED_FIELDS)

    def refreshed(self, grant: ClaimedGrant, outcome: Outcome, *, seconds: float, late: timedelta) -> None:
        """Count and log one refresh whose outcome is stored."""
        self._metrics.refreshed(grant, outcome, seconds=seconds, late=late)
        took_ms, late_ms = round(seconds * 1000), round(late.total_seconds() * 1000)
        if isinstance(outcome, Rotated):
            self._count_refresh(grant.client, "rotated")
            lease = grant.lease
            self._rotated.write(
                *(grant.client, grant.subject, lease.grant_id, lease.generation, lease.lease_id, took_ms, late_ms)
            )
            return
        self._count_refresh(grant.client, label(outcome))
        cause = outcome.cause
        # A death is told each time: somebody will ask for it. Of a provider that is down, a few tell as much as all.
        more = {} if isinstance(outcome, Dead) else self._sampled((grant.client, cause.reason))
        if more is None:
            return
        log.warning(
            "refresh_failed",
            **_identify(grant),
            took_ms=took_ms,
            late_ms=late_ms,
            outcome=label(outcome),
            reason=cause.reason.value,
            **({"status": cause.status} if cause.status is not None else {}),
            **({"error_code": cause.code} if cause.code is not None else {}),
            **more,
        )

    def refresh_raised(self, grant: ClaimedGrant, error: BaseException) -> None:
        """Log a bug of ours: its kind and place, and not its message, which may repeat what was read."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
        log.error("refresh_raised", **_identify(grant), error=type(error).__name__, place=place)

    def settled(self, grant: ClaimedGrant, *, seconds: float) -> None:
        """Observe the window between an answer and its commit."""
        self._metrics.settled(grant, seconds=seconds)

    def superseded(self, grant: ClaimedGrant, outcome: Outcome) -> None:
        """Count and log an outcome that was not stored."""
        self._metrics.outcome_superseded(grant, outcome)
        log.warning("outcome_superseded", **_identify(grant), outcome=label(outcome))

    def settle_failed(self, grant: ClaimedGrant, outcome: Outcome, error: BaseException, *, kept: bool) -> None:
        """Count and log an outcome that was not stored; tokens that the escrow keeps are not lost."""
        if not kept:
            self._metrics.settle_failed(outcome)
        fields = _identify(grant) | {"outcome": label(outcome), "kept_in_escrow": kept}
        log.error("settle_failed", **fields, error=type(error).__name__)

    def escrow_failed(self, asked: str, error: BaseException) -> None:
        """Log that a home of the escrow could not do what it was asked: an `OSError` is the folder's, and says why."""
        why = {"why": error.strerror} if isinstance(error, OSError) and error.strerror else {}
        log.error("escrow_failed", asked=asked, error=type(error).__name__, **why)

    def escrow_refused(self, entry: str, error: BaseException) -> None:
        """Log an entry of the escrow that cannot be stored as it is, and what an operator can do about it."""
        sqlstate = getattr(getattr(error, "orig", None), "sqlstate", None)
        log.error(
            "escrow_entry_refused",
            entry=entry,
            error=type(error).__name__,
            **({"sqlstate": sqlstate} if sqlstate is not None else {}),
            todo=_MEND_ENTRY,
        )

    def escrow_drained(self, drained: EscrowDrained, depth: int) -> None:
        """Show how much waits in the escrow, and log what was stored out of it."""
        self._metrics.escrow_depth.set(depth)
        self._metrics.escrow_refused.set(drained.refused)
        if drained.stored or drained.superseded:
            self._metrics.superseded.inc(drained.superseded)
            log.warning("escrow_drained", stored=drained.stored, superseded=drained.superseded, depth=depth)

    def presence_lost(self) -> None:
        """Log that the connection that vouches for this worker broke."""
        log.warning("presence_lost")

    def sealing_key_retired(self, key_id: str) -> None:
        """Log that this process, cut off from the database for a while, seals under a key that was retired."""
        log.error("sealing_key_retired", key=key_id, todo="Restart this process with the present EVERGRANT_KEYS.")

    def settle_retried(self, error: str, waiting: int) -> None:
        """Log that the database did not take a batch: while it is away, each settlement is tried again and again."""
        more = self._sampled(("settle_retried", error))
        if more is not None:
            log.warning("settle_retried", error=error, waiting=waiting, **more)

    def unreadable(self, client: str, grant_id: UUID, error: Exception) -> None:
        """Log a refresh token that cannot be opened; of many with the same error, some."""
        more = self._sampled(("unreadable", client, type(error)))
        if more is not None:
            todo = "Check EVERGRANT_KEYS: a key that has sealed tokens is missing there, or the row was damaged."
            fields = {"client": client, "grant": str(grant_id), "error": type(error).__name__}
            log.error("refresh_token_unreadable", **fields, **more, todo=todo)

    def died(self, client: str, reason: str) -> None:
        """Count a grant that now needs its owner."""
        self._metrics.grants_dead.labels(client, reason).inc()

    def braked(self, client: str) -> None:
        """Log that a death was taken for a suspicion."""
        log.error("grant_suspected", client=client)

    def doubt_ended(self, client: str, resolution: str) -> None:
        """Count how a doubt ended."""
        self._metrics.in_doubt.labels(client, resolution).inc()

    def revived(self, client: str) -> None:
        """Count a grant that its owner brought back."""
        self._metrics.grants_revived.labels(client).inc()

    def consent_ended(self, client: str, end: ConsentEnd, reason: str | None) -> None:
        """Count and log how a consent ended."""
        self._metrics.consents.labels(client, end.value).inc()
        fields = {"client": client, "outcome": end.value} | ({"reason": reason} if reason is not None else {})
        if end is ConsentEnd.FAILED:
            log.warning("consent_ended", **fields)
        else:
            log.info("consent_ended", **fields)

    def kept_consent_stored(self, client: str, *, refused: bool) -> None:
        """Log that a consent is out of the escrow."""
        log.warning("kept_consent_stored", client=client, outcome="account_refused" if refused else "connected")

    def id_token_refused(self, client: str, claim: str, found_issuer: str | None) -> None:
        """Log an ID token that was not made for its consent; a wrong issuer may be a wrong `issuer` of ours."""
        log.error(
            "id_token_refused",
            client=client,
            claim=claim,
            **({"found_issuer": found_issuer} if found_issuer is not None else {}),
        )

    def breaker_changed(self, client: str, *, is_open: bool, reason: str) -> None:
        """Log that a client's breaker opened or closed."""
        if is_open:
            log.error("breaker_opened", client=client, reason=reason)
        else:
            log.info("breaker_closed", client=client)

    def clock_skew(self, provider: str, seconds: float) -> None:
        """Show how far a provider's clock is ahead."""
        self._metrics.skewed(provider, seconds)

    def scanned(self, *, due: int, seconds: float) -> None:
        """Note a scan."""
        self._metrics.scanned(seconds)
        log.debug("scanned", due=due, took_ms=round(seconds * 1000))

    def rescued(self, rescued: Rescued) -> None:
        """Count and log leases that were ended for dead workers."""
        self._metrics.rescued(rescued)
        log.warning(
            "leases_rescued", leases=rescued.leases, in_doubt=len(rescued.in_doubt), given_up=len(rescued.given_up)
        )

    def webhook_sent(self, endpoint: str, outcome: str, *, seconds: float) -> None:
        """Count one attempt to deliver an event."""
        self._metrics.webhook_sent(endpoint, outcome, seconds=seconds)

    def webhook_failed(self, claim: Claim, error: str, *, dead: bool) -> None:
        """Log why an endpoint has not taken an event; the endpoint's address is not told, it may hold a secret."""
        fields = {"endpoint": claim.endpoint, "event_id": claim.event.id, "event_type": claim.event.type}
        if dead:
            log.error("webhook_dead", **fields, error=error)
        else:
            log.warning("webhook_failed", **fields, error=error, failures=claim.failures + 1)

    def webhook_gone(self, endpoint: str) -> None:
        """Log that an endpoint wants no events any more."""
        log.error("webhook_endpoint_gone", endpoint=endpoint)

    def mailed(self, clients: Sequence[str], fate: Fate) -> None:
        """Count and log what became of a mail; neither its address nor its link is shown."""
        self._metrics.mailed(clients, fate.outcome)
        fields = {"clients": sorted(set(clients)), "grants": len(clients)}
        if fate.state is MailState.SENT:
            log.info("mail_sent", **fields)
        else:
            told = {"status": fate.status} if fate.status is not None else {}
            log.warning("mail_not_sent", **fields, outcome=fate.outcome, why=fate.why, **told)

    def mails_given_back(self, clients: Sequence[str]) -> None:
        """Count and log mails whose worker ended while it sent them."""
        self._metrics.mailed(clients, "in_doubt")
        log.warning("mails_given_back", grants=len(clients))

    def audit_dropped(self, entries: int) -> None:
        """Log that entries of the audit log are lost: the database was away for longer than they can wait."""
        log.error("audit_entries_lost", entries=entries)

    def failed(self, event: str, error: BaseException) -> None:
        """Log what could not be done for one grant or event."""
        log.error(event, error=type(error).__name__, exc_info=error)

    def _sampled(self, kind: Hashable) -> dict[str, int] | None:
        """Return what a line of this kind says of those that were left out before it; None: it is left out itself."""
        left_out = self._failures.left_out(kind)
        if left_out is None:
            return None
        return {"left_out": left_out} if left_out else {}


def _identify(grant: ClaimedGrant) -> dict[str, object]:
    return {
        "client": grant.client,
        "subject": grant.subject,
        "grant": str(grant.lease.grant_id),
        "generation": grant.lease.generation,
        "lease": str(grant.lease.lease_id),
    }
