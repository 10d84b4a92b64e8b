"""Why a key cannot be put first or retired yet, in words: what is in the way, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from worker.domain.ring_holder import UNREADABLE, EscrowReport, RingHolder
from worker.storage.ring_holders import GONE_AFTER
from worker.usecases.reseal import Resealed

_KILLED = f"one that was killed counts for {GONE_AFTER.total_seconds():.0f} s more"


def would_not_open(holders: Sequence[RingHolder], key_id: str) -> str:
    """Say which processes lack a key that is to seal."""
    return (
        f"these run without {key_id} and could not open what it seals: {_named(holders)}; restart them with the ring "
        f"that has it ({_KILLED}), or say --force if they are about to end"
    )


def would_seal_otherwise(holders: Sequence[RingHolder], key_id: str) -> str:
    """Say which processes go on sealing under another key than the one that seals here."""
    return (
        f"these run with another ring and do not seal under {key_id}: {_named(holders)}; restart them with the ring "
        f"of this command ({_KILLED}), or say --force if they are about to end"
    )


def escrows_need(reports: Sequence[EscrowReport], key_id: str) -> str:
    """Say on which machines something waits that only a key opens which is to be retired."""
    found = "; ".join(
        f"{one.host}:{one.home}/escrow ({_entries(one, key_id)}, seen {one.at:%Y-%m-%d %H:%M:%SZ})" for one in reports
    )
    return (
        f"entries of the escrow need {key_id}: {found}; a worker that runs there with this ring stores them in a "
        "moment, so start one, or see what its log says of them; --force leaves them behind"
    )


def remains(done: Resealed) -> list[str]:
    """Say what `keys rotate` has left, and why."""
    lacked = [
        f"{count:,} rows are sealed under {key_id!r}, which the ring lacks: add it behind the first"
        for key_id, count in done.lacking.items()
    ]
    said = [
        (done.left, "rows are still sealed under an older key, or again: restart what has the older ring, and repeat"),
        (done.broken, "rows do not open with the key that they name: they were altered"),
        (done.unreadable_entries, "entries of the escrow cannot be read"),
        (done.homes_away, "homes of the escrow did not answer: run it again when they do"),
    ]
    return lacked + [f"{count:,} {what}" for count, what in said if count]


def _named(holders: Sequence[RingHolder]) -> str:
    return ", ".join(
        f"{one.role} on {one.host} (pid {one.pid}, since {one.since:%Y-%m-%d %H:%M:%SZ}, ring {','.join(one.key_ids)})"
        for one in holders
    )


def _entries(report: EscrowReport, key_id: str) -> str:
    counts = [(report.entries.get(key_id, 0), f"under {key_id}"), (report.entries.get(UNREADABLE, 0), "unreadable")]
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)
