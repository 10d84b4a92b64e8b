"""The promises under any order of events: a state machine over the real storage, against the sandbox.

Hypothesis chooses what happens: workers that claim, send, die, come back late or twice; a provider that misbehaves or
ends a consent; owners who consent again; operators; time. After each step the rows are compared with what a ledger of
all presentations says they must hold, and with what the provider itself has recorded.

EVERGRANT_TEST_EXAMPLES=500 looks for longer, and with new choices each time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Row

from tests.support.grant_world import CLIENTS, GRANTS_PER_CLIENT, SINGLE_USE, WORKERS, GrantWorld
from tests.support.presentation_ledger import Ledger, digest
from worker.domain.grant import ROTATED_STATES, ClaimedGrant, GrantState
from worker.domain.outcome import Outcome, Reason, label, reason
from worker.domain.secret import Secret
from worker.domain.settlement import Settlement, StoreTokens, decide
from worker.oauth.token_endpoint import TokenAnswer
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.server import RunningSandbox
from worker.sandbox.token_meaning import Delivery
from worker.storage.consents import Arrival, StoredConsent
from worker.storage.new_grants import NewGrant
from worker.storage.settle_queue import Settled
from worker.usecases.rotate import database_instant, lease_covers

_EXAMPLES: Final = os.environ.get("EVERGRANT_TEST_EXAMPLES")
_STEPS: Final = 50
_LEASE: Final = timedelta(seconds=60)
#: Past the rescue's patience, past a lease, past a strike's interval and a grace, past an access token's life.
_WHILES: Final = (4.0, 70.0, 600.0, 7200.0)
#: Rounds of time, rescue and rotation after which whatever can be brought to an end must have come to one.
_ROUNDS_TO_REST: Final = 12
_UNLIVING: Final = tuple(state for state in GrantState if state not in ROTATED_STATES)

_SENDS_LATER: Final = "sends later"
_DIES: Final = "dies before the answer"
_READS: Final = "reads the answer"
_AFTER_CLAIM: Final = (_READS, _READS, _DIES, _SENDS_LATER)
#: What a run of any size comes across; were it missing, the promises would have been kept by doing nothing.
_MUST_HAPPEN: Final = frozenset(
    {
        "StoreTokens STORED",
        "StoreTokens STORED late",
        "StoreTokens SUPERSEDED",
        "AddStrike STORED",
        "EnterDoubt STORED",
        "HandBack STORED",
        "RequireReconsent STORED",
        "active to in_doubt",
        "in_doubt to active",
        "rescued while active",
    }
)
_NTH: Final = st.integers(0, 1)
_ORDERS: Final = st.sampled_from(
    [
        Order(kind=Misbehaviour.LOST_REPLY, times=1),
        Order(kind=Misbehaviour.CUT_REPLY, times=1),
        Order(kind=Misbehaviour.ERROR_BEFORE, times=1),
        Order(kind=Misbehaviour.ERROR_BEFORE, times=3),
        Order(kind=Misbehaviour.ERROR_AFTER, times=1),
        Order(kind=Misbehaviour.THROTTLED, times=1),
        Order(kind=Misbehaviour.HTML_PAGE, times=1),
        Order(kind=Misbehaviour.HTML_PAGE, times=1, after_rotating=True),
        Order(kind=Misbehaviour.SPURIOUS_INVALID_GRANT, times=1),
        Order(kind=Misbehaviour.SPURIOUS_INVALID_GRANT, times=2),
        Order(kind=Misbehaviour.TRUNCATED_JSON, times=1),
        Order(kind=Misbehaviour.WRONG_CONTENT_TYPE, times=1),
        Order(kind=Misbehaviour.OMITTED_EXPIRES_IN, times=1),
        Order(kind=Misbehaviour.ABSURD_EXPIRES_IN, times=1, expires_in=-1),
        Order(kind=Misbehaviour.OMITTED_REFRESH_TOKEN, times=1),
        Order(kind=Misbehaviour.REVOKED_CONSENT, times=1),
    ]
)


@dataclass(slots=True, kw_only=True, eq=False)
class Flight:
    """One claimed grant in a worker's hands; `answer` once it has read one."""

    number: int
    worker: int
    grant: ClaimedGrant
    consents: int  #: how often the owner had consented when it was claimed
    draw: float
    answer: TokenAnswer | None = None

    def __repr__(self) -> str:
        grant = self.grant
        return f"<{grant.client} {grant.subject}, generation {grant.lease.generation}, worker {self.worker}>"


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the last look showed, and what may have changed since."""

    rows: dict[UUID, Row[Any]] = field(default_factory=dict)
    touched: set[UUID] = field(default_factory=set)
    stored: set[UUID] = field(default_factory=set)  #: grants whose new tokens have been stored


class GrantMachine(RuleBasedStateMachine):
    """Two workers, four clients, and everything that can come between them."""

    def __init__(self, world: GrantWorld) -> None:
        super().__init__()
        self.world = world
        self.ledger = Ledger()
        self.flights: list[Flight] = []
        # Chosen from by number and not as Hypothesis' bundles: what it draws must not depend on what the database did.
        self.claimed: list[Flight] = []
        self.answered: list[Flight] = []
        self.seen = Seen()
        self.unavoidable = 0  # presentations of a token whose answer died with the worker that had read it

    @initialize()
    def adopt(self) -> None:
        """Begin with fresh grants."""
        adopted = self.world.run(self.world.begin())
        self.families = {grant_id: seeded.family_id for grant_id, seeded in adopted.items()}
        self.ledger.current = {grant_id: digest(seeded.refresh_token) for grant_id, seeded in adopted.items()}
        self.seen = Seen(rows=self.world.run(self.world.rows()), touched=set(adopted))

    # --- workers

    @rule(client=st.sampled_from(CLIENTS), worker=st.sampled_from(WORKERS), most=st.integers(1, GRANTS_PER_CLIENT))
    def rotate(self, client: str, worker: int, most: int) -> None:
        """A worker does its work: claim, refresh, settle."""
        self._make_due(client)
        self._rotate_due(client, worker, most)

    def _rotate_due(self, client: str, worker: int, most: int) -> None:
        for flight in self._claim(client, worker, most):
            self.world.run(self._rotate(flight))

    @rule(client=st.sampled_from(CLIENTS))
    def compete(self, client: str) -> None:
        """Both workers claim at once and rotate what they have, at once."""
        self._make_due(client)

        async def both() -> None:
            found = await asyncio.gather(*(self._claim_now(client, worker, 1) for worker in WORKERS))
            flights = self._noted(flight for claimed in found for flight in claimed)
            await asyncio.gather(*(self._rotate(flight) for flight in flights))

        self.world.run(both())

    @rule(client=st.sampled_from(CLIENTS), worker=st.sampled_from(WORKERS), then=st.sampled_from(_AFTER_CLAIM))
    def claim(self, client: str, worker: int, then: str) -> None:
        """A worker claims, may send and may read the answer, and for now gets no further: it may be dead."""
        self._make_due(client)
        for flight in self._claim(client, worker, 1):
            self.claimed.append(flight)
            if then != _SENDS_LATER:
                self.refresh(nth=0, read=then == _READS)

    @rule(nth=_NTH, read=st.booleans())
    def refresh(self, nth: int, *, read: bool) -> None:
        """A worker sends what it has claimed before, and is gone before an answer reaches it unless it is `read`."""
        flight = _latest(self.claimed, nth)
        if flight is None:
            return
        self.claimed.remove(flight)
        if read:
            self.world.run(self._refresh(flight))
        else:
            family = self.families[flight.grant.lease.grant_id]
            order = self.world.control.order(Order(kind=Misbehaviour.LOST_REPLY, times=1, family_id=family))
            self.world.run(self._refresh(flight))
            self.world.control.cancel_order(order)
        if flight.answer is not None:
            self.answered.append(flight)

    @rule(most=st.sampled_from([1, 3, 100]))
    def settle(self, most: int) -> None:
        """Workers store the latest answers: at once, late, after they were believed dead, or a second time."""
        for flight in self.answered[-most:]:
            self.world.run(self._settle(flight))
            self.promises()

    @rule(seconds=st.sampled_from(_WHILES), gone=st.sampled_from([None, *WORKERS]))
    def rescue(self, seconds: float, gone: int | None) -> None:
        """After a while, in which a worker may have lost its session, a tick ends the leases of dead workers."""
        if gone is not None:
            self.world.run(self.world.lose_session(gone))
            # What it has not sent by now it never sends; what it has read it may still store.
            self.claimed = [flight for flight in self.claimed if flight.worker != gone]
        self.world.run(self._pass_time(seconds))
        self.world.run(self._rescue())
        if gone is not None:
            self.world.run(self.world.workers[gone].container.presence.take())

    # --- time, providers, owners, operators

    @rule(seconds=st.sampled_from(_WHILES))
    def pass_time(self, seconds: float) -> None:
        """Time passes for rows and workers."""
        self.world.run(self._pass_time(seconds))

    @rule(client=st.sampled_from(CLIENTS), order=_ORDERS)
    def misbehave(self, client: str, order: Order) -> None:
        """A provider is about to misbehave."""
        if order.kind is Misbehaviour.OMITTED_REFRESH_TOKEN and client != SINGLE_USE:
            return  # in a grace it would take the new refresh token out of an answer that is given again
        self.world.control.order(replace(order, client_id=client))

    @rule(chosen=st.integers(0, len(CLIENTS) * GRANTS_PER_CLIENT - 1))
    def revoke_consent(self, chosen: int) -> None:
        """An owner takes the consent back, at the provider."""
        row = self._row(chosen)
        self.world.control.revoke_consent(row.client, row.subject)

    @rule(nth=_NTH)
    def consent_again(self, nth: int) -> None:
        """An owner consents again, while a worker has the grant in its hands or after it had."""
        flight = _latest(self.flights, nth)
        if flight is not None:
            self.world.run(self._consent(self.seen.rows[flight.grant.lease.grant_id]))

    @rule(nth=_NTH)
    def consent_while_settling(self, nth: int) -> None:
        """An owner's new consent and a late answer are stored at the same moment; the consent stays."""
        flight = _latest(self.answered, nth)
        if flight is None:
            return
        row = self.seen.rows[flight.grant.lease.grant_id]

        async def both() -> None:
            settlement = self._decide(flight)
            settled, _none = await asyncio.gather(self._store(flight, settlement), self._consent(row))
            if settled is not Settled.SUPERSEDED:
                self.ledger.ended.add(flight.grant.lease.lease_id)

        self.world.run(both())

    @rule(nth=_NTH, state=st.sampled_from(["paused", "revoked"]))
    def stop_in_flight(self, nth: int, state: str) -> None:
        """An operator pauses or revokes a grant that a worker has in its hands, or had."""
        flight = _latest(self.flights, nth)
        if flight is not None:
            self._stop(flight.grant.lease.grant_id, state)

    @rule()
    def bring_back(self) -> None:
        """Operators let paused grants go on, in doubt where that is how they were; owners consent to dead ones."""
        for row in self.seen.rows.values():
            if row.state == GrantState.PAUSED:
                self.ledger.resumes[row.id] += 1
            elif row.state in {GrantState.RECONSENT_REQUIRED, GrantState.REVOKED}:
                self.world.run(self._consent(row))
        statement = """
            UPDATE grants SET state = CASE WHEN presentations > 0 THEN 'in_doubt' ELSE 'active' END,
                   rotate_at = now(), state_since = now()
             WHERE state = 'paused'
        """
        self.world.run(self.world.execute(statement))

    @rule(client=st.sampled_from(CLIENTS), worker=st.sampled_from(WORKERS))
    def stop_client(self, client: str, worker: int) -> None:
        """An operator pauses a client: nothing of it is claimed until the operator takes away what holds it back."""
        statuses = self.world.workers[0].container.statuses
        self.world.run(statuses.pause(client))
        self._make_due(client)
        assert self._claim(client, worker, GRANTS_PER_CLIENT) == []
        self.world.run(statuses.resume(client))

    @rule(client=st.sampled_from(CLIENTS), worker=st.sampled_from(WORKERS))
    def use_wrong_secret(self, client: str, worker: int) -> None:
        """The provider takes another client secret than ours for one rotation: no grant is to blame."""
        self.world.right_secret(client, right=False)
        self.rotate(client, worker, 1)
        self.world.right_secret(client, right=True)

    @rule(client=st.sampled_from(CLIENTS))
    def disown(self, client: str) -> None:
        """Too many of a client's grants have died, and the provider goes on to say `invalid_grant`."""
        statement = """
            INSERT INTO client_status (client, braked_at) VALUES (:client, now())
                ON CONFLICT (client) DO UPDATE SET braked_at = now(), suspects_refreshed = 0
        """
        self.world.run(self.world.execute(statement, client=client))
        self.misbehave(client, Order(kind=Misbehaviour.SPURIOUS_INVALID_GRANT, times=3))

    # --- what must hold

    @invariant()
    def promises(self) -> None:
        """Compare rows, ledger and provider."""
        if not self.seen.rows:
            return
        rows = self.world.run(self.world.rows())
        for grant_id, row in rows.items():
            before = self.seen.rows[grant_id]
            if row != before:
                self.seen.touched.add(grant_id)
            self._check_row(row, before)
        for grant_id in sorted(self.seen.touched):
            self._check_against_provider(rows[grant_id])
        self.seen = Seen(rows=rows)
        report = self.world.control.report()
        double_spends = report.double_spends - self.world.double_spends_before
        assert double_spends == self.unavoidable, f"{double_spends} double spends, {self.unavoidable} in doubt"

    def _check_row(self, row: Row[Any], before: Row[Any]) -> None:
        told = f"{row.client} {row.subject}: {_told(before)} became {_told(row)}"
        state = GrantState(row.state)
        assert row.generation >= before.generation, f"the generation went down: {told}"
        assert digest(self.world.refresh_token(row)) == self.ledger.current[row.id], f"not the newest token: {told}"
        assert (row.leased_until is None) == (row.spend_started_at is None), f"lease and spend record differ: {told}"
        if state in ROTATED_STATES:
            assert row.rotate_at is not None, f"never due: {told}"
        else:
            assert row.rotate_at is None, f"due, and not kept alive: {told}"
        if state is GrantState.IN_DOUBT:
            assert row.presentations > 0, f"in doubt, and of nothing: {told}"
            assert row.doubt_since is not None, f"in doubt since never: {told}"
        if state is GrantState.ACTIVE:
            assert row.presentations == 0, f"a doubt was forgotten: {told}"
        if row.id in self.seen.stored:
            assert state is not GrantState.RECONSENT_REQUIRED, f"dead, with new tokens in its hands: {told}"
        if state is not GrantState(before.state):
            self.world.happened[f"{before.state} to {row.state}"] += 1
        if state is GrantState.RECONSENT_REQUIRED and before.state != row.state:
            self._check_death(row, told)

    def _check_death(self, row: Row[Any], told: str) -> None:
        fate = self.ledger.fates[self.ledger.current[row.id]]
        if row.state_reason == Reason.INVALID_GRANT:
            strikes = self.world.client(row.client).provider.facts.strikes
            assert fate.struck >= strikes, f"dead after {fate}: {told}"
        else:
            assert row.state_reason == Reason.ROTATION_REPLY_LOST, f"dead for an unknown reason: {told}"
            assert fate.doubtful + self.ledger.rescues[row.id] > 0, f"no reply was lost, {fate}: {told}"

    def _check_against_provider(self, row: Row[Any]) -> None:
        if row.state != GrantState.ACTIVE or row.leased_until is not None:
            return
        token = self.world.refresh_token(row)
        record = self.world.control.refresh_token_record(token)
        told = f"{row.client} {row.subject}: {_told(row)}, at the provider {record}, {self.ledger.fates[digest(token)]}"
        assert record.family_id == self.families[row.id], f"tokens of an older consent: {told}"
        if self.world.client(row.client).provider.facts.is_resend_safe:
            # After a server error the old token is simply presented again: nobody has read the new one.
            assert not self.ledger.fates[digest(token)].replaced, told
            assert record.delivery in {None, Delivery.WITHHELD, Delivery.LOST} or self.unavoidable_of(row), told
        else:
            assert not record.consumed, f"the newest refresh token is lost: {told}"

    def unavoidable_of(self, row: Row[Any]) -> bool:
        """Tell whether a worker has read an answer for this grant and has not stored it."""
        return self.ledger.fates[self.ledger.current[row.id]].read > 0

    def teardown(self) -> None:
        """Let everything come to rest: nothing may stay leased, in doubt or suspect, and nothing may be overdue."""
        if self.seen.rows:
            self._come_to_rest()

    def _come_to_rest(self) -> None:
        control = self.world.control
        for placed in control.standing_orders():
            control.cancel_order(placed.order_id)
        for client in CLIENTS:
            self.world.right_secret(client, right=True)
            self.world.run(self.world.workers[0].container.statuses.resume(client))
        unrested: list[Row[Any]] = []
        for _ in range(_ROUNDS_TO_REST):
            self.world.run(self._pass_time(7200.0))
            self.world.run(self._rescue())
            self.promises()
            self.settle(most=len(self.answered))
            for client in CLIENTS:
                self._rotate_due(client, 0, GRANTS_PER_CLIENT)
            self.promises()
            unrested = [row for row in self.seen.rows.values() if _is_unrested(row)]
            if not unrested:
                self.settle(most=len(self.answered))
                return
        raise AssertionError(f"not at rest: {[(row.client, row.subject, _told(row)) for row in unrested]}")

    # --- how it is done

    def _make_due(self, client: str) -> None:
        statement = "UPDATE grants SET rotate_at = now() WHERE client = :client AND rotate_at IS NOT NULL"
        self.world.run(self.world.execute(statement, client=client))

    def _row(self, chosen: int) -> Row[Any]:
        rows = sorted(self.seen.rows.values(), key=lambda row: (CLIENTS.index(row.client), _account(row)))
        return rows[chosen]

    def _claim(self, client: str, worker: int, most: int) -> list[Flight]:
        return self._noted(self.world.run(self._claim_now(client, worker, most)))

    async def _claim_now(self, client: str, worker: int, most: int) -> list[Flight]:
        configured = self.world.client(client)
        found = await self.world.workers[worker].claims.claim_due(
            client, limits=configured.limits, free=most, lease=_LEASE
        )
        assert found.unreadable == ()
        return [
            Flight(
                number=len(self.flights),
                worker=worker,
                grant=grant,
                consents=self.ledger.consents[grant.lease.grant_id],
                draw=self.world.draw(),
            )
            for grant in found.grants
        ]

    def _noted(self, flights: Iterable[Flight]) -> list[Flight]:
        noted = list(flights)
        ids = [flight.grant.lease.grant_id for flight in noted]
        assert len(set(ids)) == len(ids), "two workers have claimed the same grant"
        for flight in noted:
            row = self.seen.rows[flight.grant.lease.grant_id]
            assert row.leased_until is None, f"claimed while leased: {_told(row)}"
            assert GrantState(row.state) in ROTATED_STATES, f"claimed although {row.state}: {_told(row)}"
            note(f"    {flight} is claimed")
            self.ledger.claimed(flight.grant)
            self.seen.touched.add(row.id)
        self.flights += noted
        return noted

    def _stop(self, grant_id: UUID, state: str) -> None:
        statement = """
            UPDATE grants SET state = :state, rotate_at = NULL, state_since = now()
             WHERE id = :id AND state IN ('active', 'in_doubt', 'suspect')
        """
        self.world.run(self.world.execute(statement, id=grant_id, state=state))

    async def _refresh(self, flight: Flight) -> None:
        client = self.world.client(flight.grant.client)
        if lease_covers(flight.grant, client, self.world.clock.tick()):
            self._about_to_present(flight)
            flight.answer = await self.world.workers[flight.worker].rotation.token_endpoint.refresh(
                client, flight.grant.refresh_token
            )
            self._note_presented(flight, flight.answer.outcome)

    def _note_presented(self, flight: Flight, outcome: Outcome) -> None:
        self.world.happened[f"{flight.grant.client}: {label(outcome)}, {reason(outcome)}"] += 1
        self.ledger.presented(flight.grant, outcome, self.world.client(flight.grant.client).provider.facts)

    def _about_to_present(self, flight: Flight) -> None:
        grant = flight.grant
        facts = self.world.client(grant.client).provider.facts
        self.ledger.may_present(grant, facts)
        record = self.world.control.refresh_token_record(grant.refresh_token)
        if record.delivery is Delivery.DELIVERED:
            # Only a worker that died with an answer in its hands explains this; no client can know better.
            assert self.ledger.fates[digest(grant.refresh_token)].read > 0, f"a double spend: {flight}, {record}"
            self.unavoidable += 1
            self.world.happened["presented again after an answer that died with its worker"] += 1

    async def _rotate(self, flight: Flight) -> None:
        client = self.world.client(flight.grant.client)
        self._about_to_present(flight)
        result = await self.world.workers[flight.worker].rotation.rotate(flight.grant, client)
        self._note_presented(flight, result.outcome)
        self._check_settled(flight, result.settlement, result.settled)

    async def _settle(self, flight: Flight) -> None:
        settlement = self._decide(flight)
        self._check_settled(flight, settlement, await self._store(flight, settlement))

    async def _store(self, flight: Flight, settlement: Settlement) -> Settled:
        return await self.world.workers[flight.worker].container.rotation.settles.settle(flight.grant.lease, settlement)

    def _decide(self, flight: Flight) -> Settlement:
        grant, answer = flight.grant, flight.answer
        assert answer is not None
        client = self.world.client(grant.client)
        return decide(
            answer.outcome,
            grant=grant,
            facts=client.provider.facts,
            keep=client.keep,
            issued_at=database_instant(grant, answer.sent_tick),
            now=database_instant(grant, answer.answered_tick),
            draw=flight.draw,
        )

    def _check_settled(self, flight: Flight, settlement: Settlement, settled: Settled) -> None:
        row = self.seen.rows[flight.grant.lease.grant_id]
        expected = self.ledger.must_store(
            flight.grant, flight.consents, settlement, state=row.state, reason=row.state_reason
        )
        note(f"    {flight}: {type(settlement).__name__} is {settled.name}")
        said = f"{flight}: {type(settlement).__name__} is {settled.name}"
        if expected:
            assert settled is not Settled.SUPERSEDED, f"{said}, though nobody else has changed the row"
        else:
            assert settled is Settled.SUPERSEDED, f"{said}, over something newer"
        self.ledger.settled(flight.grant, settlement, settled)
        late = flight.grant.lease.lease_id in self.ledger.rescued
        self.world.happened[f"{type(settlement).__name__} {settled.name}{' late' if late else ''}"] += 1
        if isinstance(settlement, StoreTokens) and expected:
            self.seen.stored.add(flight.grant.lease.grant_id)
        self.seen.touched.add(flight.grant.lease.grant_id)

    async def _rescue(self) -> None:
        before = await self.world.rows()
        await self.world.rescue()
        for grant_id, row in (await self.world.rows()).items():
            if before[grant_id].leased_until is not None and row.leased_until is None:
                self.ledger.rescued_lease(grant_id, row.lease_id)
                self.world.happened[f"rescued while {before[grant_id].state}"] += 1

    async def _pass_time(self, seconds: float) -> None:
        await self.world.clock.pass_time(self.world.workers[0].container.engine, seconds)
        passed = timedelta(seconds=seconds)
        for flight in self.flights:
            grant = flight.grant
            flight.grant = replace(
                grant,
                claimed_at=grant.claimed_at - passed,
                leased_until=grant.leased_until - passed,
                rotate_at=grant.rotate_at - passed if grant.rotate_at else None,
                access_expires_at=grant.access_expires_at - passed if grant.access_expires_at else None,
                doubt_since=grant.doubt_since - passed if grant.doubt_since else None,
            )

    async def _consent(self, row: Row[Any]) -> None:
        [seeded] = self.world.seed(row.client, 1, first_number=_account(row))
        self.families[row.id] = seeded.family_id
        container = self.world.workers[0].container
        now = await container.grants.now()
        grant = NewGrant(
            client=row.client,
            subject=row.subject,
            refresh_token=seeded.refresh_token,
            access_token=seeded.access_token,
            issued_at=now,
            access_expires_at=now + timedelta(hours=1),
            refresh_expires_at=None,
            rotate_at=now + timedelta(minutes=45),
            scopes=None,
            email=None,
        )
        for _ in range(2):
            stored = await container.consent_store.consents.store_consent(uuid4(), grant, now)
            assert isinstance(stored, StoredConsent)
            assert (stored.grant_id, stored.arrival) == (row.id, _arrival(row))
        self.ledger.consented(row.id, seeded.refresh_token)


def _latest(flights: list[Flight], nth: int) -> Flight | None:
    return flights[-1 - nth] if nth < len(flights) else None


def _arrival(row: Row[Any]) -> Arrival:
    ended = row.state in {GrantState.RECONSENT_REQUIRED, GrantState.REVOKED}
    return Arrival.REVIVED if ended else Arrival.RENEWED


def _account(row: Row[Any]) -> int:
    return int(row.subject.removeprefix("account-"))


def _told(row: Row[Any]) -> str:
    lease = "leased" if row.leased_until is not None else "free"
    return f"[{row.state} ({row.state_reason}), generation {row.generation}, {lease}, presented {row.presentations}]"


def _is_unrested(row: Row[Any]) -> bool:
    return row.leased_until is not None or row.state in {GrantState.IN_DOUBT, GrantState.SUSPECT}


def test_no_order_of_events_breaks_a_promise(
    sandbox: RunningSandbox, database_url: str, keys: Secret, tmp_path: Path
) -> None:
    """Whatever happens in whatever order: nothing is spent twice, lost, overwritten, falsely dead or left lying."""
    profile = settings(
        max_examples=int(_EXAMPLES or "40"),
        stateful_step_count=_STEPS,
        deadline=None,
        derandomize=_EXAMPLES is None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
    )
    with GrantWorld(sandbox, database_url=database_url, keys=keys, folder=tmp_path) as world:
        # Hypothesis takes whatever makes a machine, though its annotation says a class.
        run_state_machine_as_test(lambda: GrantMachine(world), settings=profile)  # type: ignore[arg-type]
        assert world.happened.keys() >= _MUST_HAPPEN, "a machine that tries little shows little"
        print(*(f"{count:6} {what}" for what, count in sorted(world.happened.items())), sep="\n")
