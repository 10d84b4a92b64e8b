"""What the sandbox has seen: the figures by which a client that keeps grants alive is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from worker.sandbox.families import FamilyStatus
from worker.sandbox.misbehaviour import Misbehaviour
from worker.sandbox.refusal import ErrorCode
from worker.sandbox.tallies import Tally, errors, faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Counts since the state began, of one client or of all.

    - `families`: how many are alive, revoked and expired now.
    - `refreshes_presented`: refresh requests of an authenticated client, whatever became of them.
    - `rotations`: refresh tokens consumed and replaced.
    - `grace_replays`: answers given again inside the reuse grace.
    - `presented_more_than_once`: refresh tokens that came twice or more, for good reasons or bad.
    - `double_spends`: presentations of a consumed token whose answer had been delivered in full, or was on its way.
    - `replays_after_withheld_answer`: presentations of a consumed token whose answer never reached the client.
    - `errors`: answered error codes. `faults`: misbehaviours committed on order.
    """

    families: Mapping[FamilyStatus, int]
    grants_seeded: int
    codes_exchanged: int
    refreshes_presented: int
    rotations: int
    grace_replays: int
    presented_more_than_once: int
    double_spends: int
    replays_after_withheld_answer: int
    errors: Mapping[ErrorCode, int]
    faults: Mapping[Misbehaviour, int]


REPORT: Final = TypeAdapter(Report)
"""Reads a report from JSON and writes it."""


def make_report(*, families: Mapping[FamilyStatus, int], counts: dict[str, int]) -> Report:
    """Return the report that these counts make; what was never counted is 0."""
    return Report(
        families=families,
        grants_seeded=counts.get(Tally.GRANTS_SEEDED, 0),
        codes_exchanged=counts.get(Tally.CODES_EXCHANGED, 0),
        refreshes_presented=counts.get(Tally.REFRESHES_PRESENTED, 0),
        rotations=counts.get(Tally.ROTATIONS, 0),
        grace_replays=counts.get(Tally.GRACE_REPLAYS, 0),
        presented_more_than_once=counts.get(Tally.PRESENTED_MORE_THAN_ONCE, 0),
        double_spends=counts.get(Tally.DOUBLE_SPENDS, 0),
        replays_after_withheld_answer=counts.get(Tally.REPLAYS_AFTER_WITHHELD_ANSWER, 0),
        errors=errors(counts),
        faults=faults(counts),
    )
