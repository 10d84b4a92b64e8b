"""The settle: each outcome is stored by one guarded UPDATE, compared on id, lease and generation.

Every statement takes a whole batch and returns the grants it changed. A grant that is missing there was changed by
somebody else meanwhile: it is superseded, and nothing of it is overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from worker.domain.grant import GrantState
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
from worker.storage.arrays import array_literal
from worker.storage.sealed_settlement import SealedSettlement


def settle(connection: Connection, batch: Sequence[SealedSettlement]) -> frozenset[UUID]:
    """Store a batch in the connection's transaction and return the grants whose rows were still ours.

    Args:
        connection: inside a transaction, which the caller commits.
        batch: settlements of different grants.

    """
    by_kind: dict[type[Settlement], list[Mapping[str, Any]]] = {}
    for sealed in batch:
        by_kind.setdefault(sealed.kind, []).append(sealed.columns)
    changed: set[UUID] = set()
    for kind, rows in by_kind.items():
        changed.update(_TRANSITIONS[kind].execute(connection, rows))
    return frozenset(changed)


def already_stored(connection: Connection, batch: Sequence[SealedSettlement]) -> frozenset[UUID]:
    """Return the grants that got exactly these tokens: a commit whose acknowledgement was lost went through.

    They are known by the sealed bytes, or, where those have been sealed anew since, by the lineage: the very token that
    was presented was spent for the very next generation.
    """
    tokens = [sealed.columns for sealed in batch if sealed.kind is StoreTokens]
    names = ("id", "access_token", "generation", "fingerprint")
    parameters = {name: [row[name] for row in tokens] for name in names}
    return frozenset(connection.execute(_ALREADY_STORED, parameters).scalars())


_ALREADY_STORED: Final = text("""
    SELECT g.id FROM grants AS g
      JOIN unnest(CAST(:id AS uuid[]), CAST(:access_token AS bytea[]), CAST(:generation AS bigint[]),
                  CAST(:fingerprint AS text[])) AS s (id, access_token, generation, fingerprint)
        ON g.id = s.id
     WHERE g.access_token = s.access_token
        OR EXISTS (SELECT FROM rotations AS r
                    WHERE r.grant_id = s.id AND r.generation = s.generation + 1
                      AND r.spent_fingerprint = s.fingerprint)
""")


_OUR_LEASE: Final = "g.lease_id = s.lease_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transition:
    """One guarded UPDATE for a batch of any size."""

    statement: str  #: as the driver takes it
    columns: Mapping[str, str]  #: the SQL type of each of the batch's columns

    def execute(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> Iterable[UUID]:
        """Run it and return the grants that it changed."""
        batch = {name: array_literal(sql_type, [row[name] for row in rows]) for name, sql_type in self.columns.items()}
        # Given as the driver's own text: to have a statement compiled and its parameters looked at costs as much again.
        return connection.exec_driver_sql(self.statement, batch).scalars()


def _transition(
    arrays: dict[str, str],
    update: str,
    after: str = "SELECT id FROM changed",
    *,
    ours: str = _OUR_LEASE,
    also: str = "true",
) -> _Transition:
    """Build `UPDATE grants … FROM unnest(arrays) … WHERE the lease is still ours`, for a batch of any size.

    Args:
        arrays: the batch's further columns and their SQL types.
        update: the SET list; `g` is the row, `s` the settlement.
        after: what follows in the same statement; it reads `changed` and returns grant ids.
        ours: by what the row is known to wait for this settlement, beside id and generation.
        also: a further condition on the row.

    """
    types = {"id": "uuid", "lease_id": "uuid", "generation": "bigint", **arrays}
    unnested = ", ".join(f"CAST(%({name})s AS {sql_type}[])" for name, sql_type in types.items())
    statement = f"""
        WITH s AS (SELECT * FROM unnest({unnested}) AS s ({", ".join(types)})),
        changed AS (
            UPDATE grants AS g
               SET leased_until = NULL, spend_started_at = NULL, {update}
              FROM s
             WHERE g.id = s.id AND g.generation = s.generation AND {ours} AND {also}
            RETURNING g.id, g.client, g.subject, g.generation, g.state, g.state_reason)
        {after}
    """  # noqa: S608 -- every inserted part is a constant of this module
    return _Transition(statement=statement, columns=types)


_LAST_ERROR: Final = (
    "last_error = s.reason, last_error_code = s.code, last_error_status = s.status, last_error_at = now()"
)
_CAUSE: Final = {"reason": "text", "code": "text", "status": "bigint"}
_KEPT_ALIVE: Final = "g.state IN ('active', 'in_doubt', 'suspect')"
#: And what the rescue has given up: of all that is dead, only there the lease still waits for its worker's late answer.
_WAITED_FOR: Final = "g.state IN ('active', 'in_doubt', 'suspect', 'reconsent_required')"


# The lineage may tell that the token which was refused had been spent already, and for which generation: by a copy of
# this database, by whoever had the token before, or by us.
_SPENT_BEFORE: Final = """ || coalesce((
                   SELECT jsonb_build_object('spent_for_generation', max(r.generation)) FROM rotations AS r, s
                    WHERE s.id = changed.id AND r.grant_id = s.id AND r.spent_fingerprint = s.fingerprint
                   HAVING max(r.generation) IS NOT NULL), '{}'::jsonb)"""


def _event(state: GrantState, also: str = "") -> str:
    # A grant that an operator paused or revoked meanwhile has not come to that state: there is nothing to tell.
    return f"""
        , noted AS (
            INSERT INTO events (type, client, grant_id, subject, data)
            SELECT 'grant.{state}', client, id, subject, jsonb_build_object(
                       'generation', generation, 'reason', (SELECT reason FROM s WHERE s.id = changed.id)){also}
              FROM changed
             WHERE state = '{state}')
        SELECT id FROM changed
    """  # noqa: S608 -- the inserted text is a constant of this module


# What was spent for these tokens is gone at the provider. So where the row is still at the same generation and in
# doubt, or was given up for that very doubt, they are what it lacks, whoever has leased it since: every consent and
# rotation raises the generation, so nothing newer can be overwritten.
_LATE_ANSWER: Final = """
    s.refresh_token IS NOT NULL AND (g.state = 'in_doubt' OR (
        g.state = 'reconsent_required' AND g.state_reason = 'rotation_reply_lost'))
"""

# A pause that came while the request was under way keeps the grant paused, and yet its new tokens are stored. A grant
# whose account is not known learns it, so that its owner comes back with the same one.
_STORE_TOKENS: Final = _transition(
    {
        "access_token": "bytea",
        "refresh_token": "bytea",
        "issued_at": "timestamptz",
        "access_expires_at": "timestamptz",
        "refresh_expires_at": "timestamptz",
        "rotate_at": "timestamptz",
        "scopes": "text",
        "lost_scopes": "text",
        "newly_lost_scopes": "text",
        "lacks_refresh_token": "boolean",
        "captured": "jsonb",
        "account": "text",
        "account_source": "text",
        "fingerprint": "text",
    },
    f"""
        access_token = s.access_token,
        refresh_token = coalesce(s.refresh_token, g.refresh_token),
        generation = g.generation + CASE WHEN s.refresh_token IS NULL THEN 0 ELSE 1 END,
        issued_at = s.issued_at,
        access_expires_at = s.access_expires_at,
        refresh_expires_at = coalesce(s.refresh_expires_at, g.refresh_expires_at),
        scopes = coalesce(string_to_array(s.scopes, ' '), g.scopes),
        lost_scopes = CASE WHEN s.lost_scopes IS NULL THEN g.lost_scopes
                           ELSE nullif(string_to_array(s.lost_scopes, ' '), '{{}}') END,
        captured = CASE WHEN s.captured IS NULL THEN g.captured
                        ELSE coalesce(g.captured, '{{}}'::jsonb) || s.captured END,
        account = coalesce(g.account, s.account),
        account_source = CASE WHEN g.account IS NULL THEN s.account_source ELSE g.account_source END,
        rotated_at = now(),
        rotate_at = CASE WHEN {_WAITED_FOR} THEN s.rotate_at END,
        state_since = CASE WHEN {_WAITED_FOR} AND g.state <> 'active' THEN now() ELSE g.state_since END,
        state = CASE WHEN {_WAITED_FOR} THEN 'active' ELSE g.state END,
        state_reason = CASE WHEN {_WAITED_FOR} THEN NULL ELSE g.state_reason END,
        lease_id = NULL, strikes = 0, failures = 0, presentations = 0, doubt_since = NULL,
        last_error = NULL, last_error_code = NULL, last_error_status = NULL, last_error_at = NULL
    """,
    """
        , revived AS (
            INSERT INTO events (type, client, grant_id, subject, data)
            SELECT 'grant.revived', client, id, subject, jsonb_build_object('generation', generation)
              FROM changed
             WHERE id IN (SELECT g.id FROM grants AS g JOIN s ON g.id = s.id WHERE g.state = 'reconsent_required')),
        narrowed AS (
            INSERT INTO events (type, client, grant_id, subject, data)
            SELECT 'grant.scopes_narrowed', changed.client, changed.id, changed.subject, jsonb_build_object(
                       'generation', changed.generation, 'lost', string_to_array(s.newly_lost_scopes, ' '))
              FROM changed JOIN s ON s.id = changed.id
             WHERE s.newly_lost_scopes <> ''),
        missed AS (
            INSERT INTO events (type, client, grant_id, subject, data)
            SELECT 'grant.refresh_token_missing', client, id, subject, jsonb_build_object('generation', generation)
              FROM changed
             WHERE (SELECT lacks_refresh_token FROM s WHERE s.id = changed.id)
               -- Where the provider's facts are wrong every answer is like this: a word a day is enough. Counted, for
               -- an EXISTS may be planned as a join that reads all events.
               AND (SELECT count(*) FROM events AS e WHERE e.grant_id = changed.id
                       AND e.type = 'grant.refresh_token_missing' AND e.at > now() - interval '1 day') = 0)
        INSERT INTO rotations (grant_id, client, subject, generation, spent_fingerprint)
        SELECT id, client, subject, generation, (SELECT fingerprint FROM s WHERE s.id = changed.id) FROM changed
        RETURNING grant_id
    """,
    ours=f"({_OUR_LEASE} OR ({_LATE_ANSWER}))",
)

_ADD_STRIKE: Final = _transition(
    {**_CAUSE, "rotate_at": "timestamptz"},
    f"""
        strikes = g.strikes + 1, lease_id = NULL, {_LAST_ERROR},
        rotate_at = CASE WHEN {_KEPT_ALIVE} THEN s.rotate_at END
    """,
)

_REQUIRE_RECONSENT: Final = _transition(
    {**_CAUSE, "fingerprint": "text"},
    f"""
        strikes = g.strikes + 1, lease_id = NULL, {_LAST_ERROR}, rotate_at = NULL,
        state_since = CASE WHEN {_KEPT_ALIVE} THEN now() ELSE g.state_since END,
        state_reason = CASE WHEN {_KEPT_ALIVE} THEN s.reason ELSE g.state_reason END,
        state = CASE WHEN {_KEPT_ALIVE} THEN 'reconsent_required' ELSE g.state END
    """,
    _event(GrantState.RECONSENT_REQUIRED, also=_SPENT_BEFORE),
)

_MARK_SUSPECT: Final = _transition(
    {**_CAUSE, "rotate_at": "timestamptz"},
    f"""
        strikes = g.strikes + 1, lease_id = NULL, {_LAST_ERROR},
        rotate_at = CASE WHEN {_KEPT_ALIVE} THEN s.rotate_at END,
        state_since = CASE WHEN {_KEPT_ALIVE} AND g.state <> 'suspect' THEN now() ELSE g.state_since END,
        state_reason = CASE WHEN {_KEPT_ALIVE} THEN s.reason ELSE g.state_reason END,
        state = CASE WHEN {_KEPT_ALIVE} THEN 'suspect' ELSE g.state END
    """,
)

_POSTPONE: Final = _transition(
    {**_CAUSE, "rotate_at": "timestamptz"},
    f"""
        failures = g.failures + 1, lease_id = NULL, {_LAST_ERROR},
        rotate_at = CASE WHEN {_KEPT_ALIVE} THEN s.rotate_at END
    """,
)

# The lease stays, for a late answer; so what tells that this presentation was noted already, by a commit whose
# acknowledgement was lost or by the rescue, is that its spend record is gone.
_ENTER_DOUBT: Final = _transition(
    {**_CAUSE, "rotate_at": "timestamptz"},
    f"""
        presentations = g.presentations + 1, doubt_since = coalesce(g.doubt_since, g.spend_started_at, now()),
        {_LAST_ERROR},
        rotate_at = CASE WHEN {_KEPT_ALIVE} THEN s.rotate_at END,
        state_since = CASE WHEN g.state = 'in_doubt' THEN g.state_since ELSE now() END,
        state_reason = CASE WHEN {_KEPT_ALIVE} THEN s.reason ELSE g.state_reason END,
        state = CASE WHEN {_KEPT_ALIVE} THEN 'in_doubt' ELSE g.state END
    """,
    _event(GrantState.IN_DOUBT),
    also="g.spend_started_at IS NOT NULL",
)

# Tokens clear the last error: where it is still the same, nothing went well with this grant since. A doubt may have to
# be ended within seconds, and does not wait for that.
_AGAIN: Final = "s.if_again IS NOT NULL AND g.last_error = s.reason AND g.state IN ('active', 'suspect')"
_HAND_BACK: Final = _transition(
    {**_CAUSE, "if_again": "timestamptz"},
    f"""
        lease_id = NULL, {_LAST_ERROR},
        failures = CASE WHEN {_AGAIN} THEN g.failures + 1 ELSE g.failures END,
        rotate_at = CASE WHEN {_AGAIN} THEN greatest(g.rotate_at, s.if_again) ELSE g.rotate_at END
    """,
)

_TRANSITIONS: Final[Mapping[type[Settlement], _Transition]] = {
    StoreTokens: _STORE_TOKENS,
    AddStrike: _ADD_STRIKE,
    RequireReconsent: _REQUIRE_RECONSENT,
    MarkSuspect: _MARK_SUSPECT,
    Postpone: _POSTPONE,
    EnterDoubt: _ENTER_DOUBT,
    HandBack: _HAND_BACK,
}
