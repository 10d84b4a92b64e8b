"""A settlement made ready to be stored: its tokens are sealed for the row of their grant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from worker.domain.grant import Lease
from worker.domain.outcome import Cause, Tokens
from worker.domain.secret import Secret
from worker.domain.settlement import (
    AddStrike,
    EnterDoubt,
    HandBack,
    MarkSuspect,
    Postpone,
    RequireReconsent,
    Settlement,
    StoreTokens,
)
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSettlement:
    """One settlement ready to be stored: its tokens are sealed, and sealed once, so that a repeat is the same bytes."""

    kind: type[Settlement]
    lease: Lease
    columns: Mapping[str, Any]
    if_braked: datetime | None = None  #: of a death that the brake may turn into a suspicion


def seal_settlement(
    lease: Lease, settlement: Settlement, keys: KeyRing, presented: Secret | None = None
) -> SealedSettlement:
    """Seal a settlement's tokens for the row of its grant.

    Args:
        lease: under which it was made.
        settlement: what is to be stored.
        keys: seals the tokens.
        presented: the refresh token that was presented; the lineage keeps its fingerprint.

    """
    guard = {"id": lease.grant_id, "lease_id": lease.lease_id, "generation": lease.generation}
    if isinstance(settlement, StoreTokens) and settlement.tokens.refresh_token == presented:
        # An answer that repeats the token has not spent it: it stays, and so does its generation.
        settlement = replace(settlement, tokens=replace(settlement.tokens, refresh_token=None))
    columns = {**guard, **_columns(lease.grant_id, settlement, keys)}
    match settlement:
        case StoreTokens(tokens=Tokens(refresh_token=None)):
            columns["fingerprint"] = None
        case StoreTokens() | RequireReconsent():
            columns["fingerprint"] = keys.fingerprint(presented) if presented is not None else None
        case _:
            pass
    if_braked = settlement.if_braked if isinstance(settlement, RequireReconsent) else None
    return SealedSettlement(kind=type(settlement), lease=lease, columns=columns, if_braked=if_braked)


def _columns(row: UUID, settlement: Settlement, keys: KeyRing) -> dict[str, Any]:
    match settlement:
        case StoreTokens():
            return _token_columns(row, settlement, keys)
        case AddStrike() | MarkSuspect() | Postpone() | EnterDoubt():
            return {**_cause_columns(settlement.cause), "rotate_at": settlement.rotate_at}
        case RequireReconsent():
            return _cause_columns(settlement.cause)
        case HandBack():
            return {**_cause_columns(settlement.cause), "if_again": settlement.if_again}


def _token_columns(row: UUID, settlement: StoreTokens, keys: KeyRing) -> dict[str, Any]:
    tokens, bound = settlement.tokens, str(row)
    refresh_token, drift = tokens.refresh_token, settlement.drift
    return {
        "access_token": keys.seal(tokens.access_token, ACCESS_TOKEN, bound),
        "refresh_token": keys.seal(refresh_token, REFRESH_TOKEN, bound) if refresh_token is not None else None,
        "issued_at": settlement.issued_at,
        "access_expires_at": settlement.access_expires_at,
        "refresh_expires_at": settlement.refresh_expires_at,
        "rotate_at": settlement.rotate_at,
        "scopes": " ".join(tokens.scopes) if tokens.scopes is not None else None,
        "lost_scopes": None if drift.scopes is None else " ".join(drift.scopes),
        "newly_lost_scopes": " ".join(drift.new_scopes),
        "lacks_refresh_token": drift.lacks_refresh_token,
        "captured": json.dumps(dict(tokens.captured)) if tokens.captured else None,
        "account": tokens.account,
        "account_source": tokens.account_source if tokens.account is not None else None,
    }


def _cause_columns(cause: Cause) -> dict[str, Any]:
    return {"reason": cause.reason.value, "code": cause.code, "status": cause.status}
