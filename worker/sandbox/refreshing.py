"""A presented refresh token: counted, judged, rotated or refused, and answered as ordered, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, assert_never

from worker.domain.secret import Secret
from worker.sandbox.answers_in_flight import ClientIsThere
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.behaviour import Rotation
from worker.sandbox.clients import Client
from worker.sandbox.families import RevokedBecause
from worker.sandbox.issuing import new_access_token
from worker.sandbox.misbehaviour import Misbehaviour, Order, Step, processes, rotates, withholds
from worker.sandbox.refusal import ErrorCode, Refusal, invalid_grant
from worker.sandbox.replies import Answered, Reply, token_reply, unprocessed_reply
from worker.sandbox.tallies import Tally
from worker.sandbox.token_answer import TokenAnswer
from worker.sandbox.token_meaning import (
    Delivery,
    Replay,
    TokenFacts,
    TokenMeaning,
    replay,
    token_hash,
    token_meaning,
)

_WHY_INVALID: Final = {
    TokenMeaning.UNKNOWN: "the refresh token is unknown",
    TokenMeaning.REVOKED: "the grant was revoked",
    TokenMeaning.EXPIRED: "the refresh token has expired",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRequest:
    """A refresh as it arrived. `scope` is the narrower scope asked for, if any (RFC 6749 section 6)."""

    client: Client
    refresh_token: Secret
    scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """A token request that is committed: what to answer, after how many seconds.

    `unsettled` is the consumed token's hash when only sending will tell whether the answer was delivered; then
    `settle` is owed.
    """

    reply: Reply
    delay: float
    unsettled: bytes | None = None


def handle_refresh(server: AuthorizationServer, request: RefreshRequest, *, client_is_there: ClientIsThere) -> Handled:
    """Process one refresh, commit, and return the reply to send.

    Args:
        server: the sandbox.
        request: the refresh of an authenticated client.
        client_is_there: tells whether the connection is still open, so that an answer can arrive.
    """
    with server.transaction():
        handled = _Refreshing(server, request, client_is_there=client_is_there).run()
    if handled.unsettled is not None:
        server.in_flight.add(handled.unsettled, client_is_there)
    return handled


def settle(server: AuthorizationServer, handled: Handled, *, client_is_there: ClientIsThere) -> None:
    """Record, when a delayed answer is about to be sent, whether its client is still there to get it."""
    if handled.unsettled is None:
        return
    server.in_flight.remove(handled.unsettled, client_is_there)
    with server.transaction():
        delivery = Delivery.DELIVERED if client_is_there() else Delivery.LOST
        server.families.settle_delivery(handled.unsettled, delivery)


class _Refreshing:
    """The steps of one refresh, inside one transaction."""

    def __init__(self, server: AuthorizationServer, request: RefreshRequest, *, client_is_there: ClientIsThere) -> None:
        self._server = server
        self._client = request.client
        self._token = request.refresh_token
        self._scope = request.scope
        self._client_is_there = client_is_there
        self._now = server.world.now()
        self._hash = token_hash(request.refresh_token)
        self._order: Order | None = None
        self._delay = 0.0
        self._unsettled: bytes | None = None

    def run(self) -> Handled:
        """Do the steps and return what to answer."""
        facts = self._find()
        self._order = self._take_order(facts)
        self._delay = answer_delay(self._server, self._client, self._order)
        self._count(facts)
        if self._order is not None and self._order.kind is Misbehaviour.REVOKED_CONSENT and facts is not None:
            self._server.families.revoke(facts.family_id, because=RevokedBecause.CONSENT_REVOKED, now=self._now)
            facts = replace(facts, revoked_at=self._now)
        if self._order is not None and not processes(self._order):
            reply = unprocessed_reply(self._order, now=self._now)
        else:
            reply = token_reply(self._client.profile, self._process(facts), self._order)
        if isinstance(reply, Answered) and reply.error is not None:
            self._server.tallies.count_error(self._client.client_id, reply.error)
        return Handled(reply=reply, delay=self._delay, unsettled=self._unsettled)

    def _find(self) -> TokenFacts | None:
        facts = self._server.families.find_token(self._hash)
        if facts is None or facts.client_id != self._client.client_id:
            return None
        if facts.delivery is Delivery.IN_FLIGHT and not self._server.in_flight.anybody_waits(self._hash):
            return replace(facts, delivery=Delivery.LOST)
        return facts

    def _take_order(self, facts: TokenFacts | None) -> Order | None:
        order = self._server.orders.take(
            step=Step.REFRESH,
            client_id=self._client.client_id,
            family_id=None if facts is None else facts.family_id,
            draw=self._server.world.draw,
        )
        if order is not None:
            self._server.tallies.count_fault(self._client.client_id, order.kind)
        return order

    def _count(self, facts: TokenFacts | None) -> None:
        count = self._server.tallies.count
        count(self._client.client_id, Tally.REFRESHES_PRESENTED)
        if facts is None or (self._order is not None and self._order.kind is Misbehaviour.THROTTLED):
            return  # who is turned away for asking too often has not shown the token to anybody who would judge it
        self._server.families.count_presentation(self._hash)
        if facts.presented == 1:
            count(self._client.client_id, Tally.PRESENTED_MORE_THAN_ONCE)
        match replay(facts):
            case Replay.DOUBLE_SPEND:
                count(self._client.client_id, Tally.DOUBLE_SPENDS)
            case Replay.AFTER_WITHHELD_ANSWER:
                count(self._client.client_id, Tally.REPLAYS_AFTER_WITHHELD_ANSWER)
            case None:
                pass

    def _process(self, facts: TokenFacts | None) -> TokenAnswer | Refusal:
        meaning = token_meaning(
            facts, client_id=self._client.client_id, behaviour=self._client.behaviour, now=self._now
        )
        if facts is None:
            return invalid_grant(_WHY_INVALID[TokenMeaning.UNKNOWN])
        match meaning:
            case TokenMeaning.FRESH:
                return self._refresh(facts)
            case TokenMeaning.GRACE:
                return self._answer_again(facts)
            case TokenMeaning.REUSED:
                return self._refuse_reuse(facts)
            case TokenMeaning.UNKNOWN | TokenMeaning.REVOKED | TokenMeaning.EXPIRED:
                return invalid_grant(_WHY_INVALID[meaning])
            case _:
                assert_never(meaning)

    def _refresh(self, facts: TokenFacts) -> TokenAnswer | Refusal:
        scope = facts.scope if self._scope is None else self._scope
        if not set(scope.split()) <= set(facts.scope.split()):
            return Refusal(error=ErrorCode.INVALID_SCOPE, description="the scope exceeds what was granted")
        behaviour = self._client.behaviour
        access_token = new_access_token(
            self._server,
            client=self._client,
            family_id=facts.family_id,
            account=facts.account,
            scope=scope,
            now=self._now,
            lifetime=behaviour.access_lifetime,
        )
        answer = TokenAnswer(
            access_token=access_token, refresh_token=None, expires_in=behaviour.access_lifetime, scope=scope
        )
        if behaviour.rotation is Rotation.NEVER or not rotates(self._order):
            self._server.families.extend(self._hash, facts=facts, behaviour=behaviour, now=self._now)
            return answer
        answer = replace(answer, refresh_token=Secret(self._server.world.new_token()))
        self._rotate(facts, answer)
        return answer

    def _rotate(self, facts: TokenFacts, answer: TokenAnswer) -> None:
        assert answer.refresh_token is not None
        behaviour = self._client.behaviour
        delivery = self._delivery()
        self._server.families.rotate(
            self._hash,
            facts=facts,
            successor=token_hash(answer.refresh_token),
            delivery=delivery,
            behaviour=behaviour,
            now=self._now,
        )
        if behaviour.reuse_grace > 0:
            self._server.grace_answers.keep(self._token, answer, now=self._now, until=self._now + behaviour.reuse_grace)
        self._server.tallies.count(self._client.client_id, Tally.ROTATIONS)
        self._unsettled = self._hash if delivery is Delivery.IN_FLIGHT else None

    def _answer_again(self, facts: TokenFacts) -> TokenAnswer:
        self._server.tallies.count(self._client.client_id, Tally.GRACE_REPLAYS)
        delivery = self._delivery()
        if facts.delivery is not Delivery.DELIVERED:
            self._server.families.settle_delivery(self._hash, delivery)
            self._unsettled = self._hash if delivery is Delivery.IN_FLIGHT else None
        return self._server.grace_answers.again(self._token, now=self._now)

    def _refuse_reuse(self, facts: TokenFacts) -> Refusal:
        if not self._client.behaviour.reuse_revokes_family:
            return invalid_grant("the refresh token was used before")
        self._server.families.revoke(facts.family_id, because=RevokedBecause.REFRESH_TOKEN_REUSED, now=self._now)
        return invalid_grant("the refresh token was used before; the grant is revoked")

    def _delivery(self) -> Delivery:
        if withholds(self._order):
            return Delivery.WITHHELD
        if self._delay > 0:
            return Delivery.IN_FLIGHT
        return Delivery.DELIVERED if self._client_is_there() else Delivery.LOST


def answer_delay(server: AuthorizationServer, client: Client, order: Order | None) -> float:
    """Return how many seconds the answer waits: the client's latency, and an ordered stall on top."""
    latency = client.behaviour.latency.of(server.world.draw())
    return latency + order.stall if order is not None and order.kind is Misbehaviour.STALL else latency
