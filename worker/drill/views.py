"""The views on one drill, as values: our database's, the provider's, the workers' metrics, and what all have told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OurGrant:
    """One grant as our database has it.

    Attributes:
        client: its client.
        subject: its subject, which is the account at the sandbox.
        state: its state, and why.
        state_reason: a reason, where the state has one.
        generation: how often its refresh token was replaced.
        token_sha256: of the refresh token that is stored, in hex.
        doubts: for each doubt, the generation in doubt and when it was stored, as seconds since the epoch.

    """

    client: str
    subject: str
    state: str
    state_reason: str | None
    generation: int
    token_sha256: str
    doubts: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirToken:
    """One refresh token as the sandbox has recorded it; instants are seconds since the epoch."""

    sha256: str
    presented: int
    consumed_at: float | None
    delivery: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirFamily:
    """One grant as the sandbox has it: whether it is alive, and its refresh tokens from the first to the newest."""

    client: str
    account: str
    is_alive: bool
    revoked_because: str | None
    tokens: tuple[TheirToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounts:
    """What the workers counted, those that were killed included.

    Attributes:
        tokens_lost: `evergrant_rotated_tokens_lost_total`.
        superseded_tokens: answers with tokens that were not stored, for their grant had changed.
        leases_rescued: `evergrant_leases_rescued_total`.
        doubts_ended: `evergrant_in_doubt_total` by resolution.

    """

    tokens_lost: int
    superseded_tokens: int
    leases_rescued: int
    doubts_ended: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxCounts:
    """What the sandbox reports of one client.

    Attributes:
        is_resend_safe: whether this client's facts allow a refresh token again after any failure, doubt or not.
        rotations: refresh tokens that it replaced.
        double_spends: presentations of a refresh token whose answer had been delivered or was on its way.
        replays_after_withheld_answer: the same where the answer never reached a client.

    """

    is_resend_safe: bool
    rotations: int
    double_spends: int
    replays_after_withheld_answer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """All of them."""

    rotations: int
    ours: tuple[OurGrant, ...]
    theirs: tuple[TheirFamily, ...]
    sandbox: Mapping[str, SandboxCounts]  #: by client
    workers: WorkerCounts
    told: tuple[str, ...]  #: where a secret stands in what was written: file, line and kind
