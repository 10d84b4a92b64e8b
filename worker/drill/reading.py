"""Reads the views of `views` when a drill is over."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from worker.domain.secret import Secret
from worker.drill.clients import CLIENTS, DrillClient
from worker.drill.told import secrets_told
from worker.drill.views import OurGrant, SandboxCounts, TheirFamily, TheirToken, Views, WorkerCounts
from worker.drill.world import World
from worker.sandbox.report import Report
from worker.storage.sealing import REFRESH_TOKEN, KeyRing, parse_keys

_GRANTS: Final = """
    SELECT g.id, g.client, g.subject, g.state, g.state_reason, g.generation, g.refresh_token,
           coalesce(array_agg((e.data ->> 'generation')::bigint ORDER BY e.id) FILTER (WHERE e.id IS NOT NULL), '{}'),
           coalesce(array_agg(extract(epoch FROM e.at)::float8 ORDER BY e.id) FILTER (WHERE e.id IS NOT NULL), '{}')
      FROM grants AS g
      LEFT JOIN events AS e ON e.grant_id = g.id AND e.type = 'grant.in_doubt'
     GROUP BY g.id
     ORDER BY g.client, g.subject
"""
_ROTATIONS: Final = "SELECT count(*) FROM rotations"
_FAMILIES: Final = """
    SELECT id, client_id, account, revoked_at IS NULL AND (expires_at IS NULL OR expires_at > unixepoch()),
           revoked_because
      FROM families ORDER BY id
"""
_TOKENS: Final = "SELECT hash, family_id, presented, consumed_at, delivery FROM refresh_tokens ORDER BY issued_at"


def read_views(world: World, keys: KeyRing) -> Views:
    """Read all views. The workers must have ended; the sandbox is stopped, so that its state's file can be read.

    Args:
        world: what was run.
        keys: open the stored refresh tokens.

    """
    sandbox = {client.name: _sandbox_counts(client, world.sandbox.control.report(client.name)) for client in CLIENTS}
    world.sandbox.stop()
    with psycopg.connect(world.services.own_database_url.reveal(), autocommit=True) as connection:
        counted = connection.execute(_ROTATIONS.encode()).fetchone()
        rows = connection.execute(_GRANTS.encode()).fetchall()
    assert counted is not None
    return Views(
        rotations=int(counted[0]),
        ours=tuple(_our_grant(row, keys) for row in rows),
        theirs=read_families(world.sandbox.state),
        sandbox=sandbox,
        workers=read_worker_counts(world.metrics),
        told=secrets_told(world.home, world.secrets(), world.sandbox.state),
    )


def _sandbox_counts(client: DrillClient, report: Report) -> SandboxCounts:
    return SandboxCounts(
        is_resend_safe=client.is_resend_safe,
        rotations=report.rotations,
        double_spends=report.double_spends,
        replays_after_withheld_answer=report.replays_after_withheld_answer,
    )


def key_ring(keys: Secret) -> KeyRing:
    """Return a key ring that opens and never seals."""

    def no_bytes(_count: int) -> bytes:
        raise AssertionError("the drill's reading seals nothing")

    return KeyRing(parse_keys(keys), no_bytes)


def read_families(state: Path) -> tuple[TheirFamily, ...]:
    """Read every family and all its refresh tokens out of a stopped sandbox's state."""
    with closing(sqlite3.connect(state)) as connection:
        tokens: dict[int, list[TheirToken]] = {}
        for sha256, family_id, presented, consumed_at, delivery in connection.execute(_TOKENS):
            token = TheirToken(sha256=sha256.hex(), presented=presented, consumed_at=consumed_at, delivery=delivery)
            tokens.setdefault(family_id, []).append(token)
        return tuple(
            TheirFamily(
                client=client,
                account=account,
                is_alive=bool(is_alive),
                revoked_because=because,
                tokens=tuple(tokens.get(family_id, ())),
            )
            for family_id, client, account, is_alive, because in connection.execute(_FAMILIES)
        )


def read_worker_counts(folder: Path) -> WorkerCounts:
    """Sum what all worker processes have counted in a multiprocess metrics folder."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    metrics = {metric.name: metric for metric in registry.collect()}

    def total(name: str, **labels: str) -> int:
        found = _samples(metrics.get(name))
        return int(sum(value for its, value in found if labels.items() <= its.items()))

    doubts: dict[str, int] = {}
    for labels, value in _samples(metrics.get("evergrant_in_doubt")):
        doubts[labels["resolution"]] = doubts.get(labels["resolution"], 0) + int(value)
    return WorkerCounts(
        tokens_lost=total("evergrant_rotated_tokens_lost"),
        superseded_tokens=total("evergrant_refresh", outcome="superseded", reason="ok"),
        leases_rescued=total("evergrant_leases_rescued"),
        doubts_ended=doubts,
    )


def _samples(metric: Metric | None) -> Iterable[tuple[dict[str, str], float]]:
    if metric is None:
        return []
    return [(sample.labels, sample.value) for sample in metric.samples if sample.name.endswith("_total")]


def _our_grant(row: tuple[object, ...], keys: KeyRing) -> OurGrant:
    grant_id, client, subject, state, reason, generation, sealed, generations, instants = row
    assert isinstance(grant_id, UUID)
    assert isinstance(sealed, bytes)
    assert isinstance(generations, list)
    assert isinstance(instants, list)
    token = keys.open(sealed, REFRESH_TOKEN, grant_id)
    return OurGrant(
        client=str(client),
        subject=str(subject),
        state=str(state),
        state_reason=None if reason is None else str(reason),
        generation=int(str(generation)),
        token_sha256=hashlib.sha256(token.reveal().encode()).hexdigest(),
        doubts=tuple(zip(generations, instants, strict=True)),
    )
