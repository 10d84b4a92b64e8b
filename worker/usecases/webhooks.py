"""Webhooks: events go to the endpoints that want them, at least once, in order per grant, each endpoint for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from worker.domain.secret import Secret
from worker.domain.webhook import Delivered, Failed, Gone, hold, next_wait
from worker.storage.away import AWAY, until_taken
from worker.storage.grants import Grants
from worker.storage.webhook_deliveries import Claim, WebhookDeliveries
from worker.storage.webhook_endpoints import EndpointStatus, WebhookEndpoints
from worker.storage.webhook_outbox import Wanted, WebhookOutbox
from worker.webhooks.endpoint import Endpoint
from worker.webhooks.message import Message, event_message, trial_message
from worker.webhooks.sender import Sender, Sent

#: By so much a claim outlives the endpoint's time limit: what came of it has to be stored.
CLAIM_MARGIN: Final = timedelta(seconds=5)
#: A worker that was stopped for longer than this since its claim sends nothing: somebody else may, by now.
_STALE: Final = 3.0
#: How long one ticket works at most, seconds; a later one goes on.
WORK_SECONDS: Final = 20.0


class WebhookObserver(Protocol):
    """Is told what became of deliveries, after it is stored."""

    def webhook_sent(self, endpoint: str, outcome: str, *, seconds: float) -> None:
        """Hear of one attempt: `delivered`, `failed`, `dead` or `gone`."""

    def webhook_failed(self, claim: Claim, error: str, *, dead: bool) -> None:
        """Hear why an event was not taken, and whether it is tried again."""

    def webhook_gone(self, endpoint: str) -> None:
        """Hear that an endpoint wants no events any more."""

    def failed(self, event: str, error: BaseException) -> None:
        """Hear what could not be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """Delivers events. `tick` is the monotonic clock in seconds, `draw` is chance in [0, 1), `new_id` too."""

    endpoints: Mapping[str, Endpoint]
    outbox: WebhookOutbox
    deliveries: WebhookDeliveries
    overview: WebhookEndpoints
    grants: Grants
    sender: Sender
    observer: WebhookObserver
    fingerprint: Callable[[Secret], str]
    tick: Callable[[], float]
    draw: Callable[[], float]
    new_id: Callable[[], UUID]
    #: What wakes the one that is at work for an endpoint, by its name.
    _at_work: dict[str, asyncio.Event] = field(default_factory=dict, init=False)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def wanted(self, endpoint: Endpoint) -> Wanted:
        """Return what an endpoint wants, in the words of the storage."""
        return Wanted(
            endpoint=endpoint.name,
            url_fingerprint=self.fingerprint(endpoint.url),
            events=endpoint.events,
            clients=endpoint.clients,
        )

    async def due(self) -> list[str]:
        """Read what has happened since, and return the endpoints to which something is to be sent."""
        await self.outbox.read(self._all_wanted())
        return await self.deliveries.due(list(self.endpoints))

    async def statuses(self) -> list[EndpointStatus]:
        """Return how each configured endpoint is, and each that was configured and has left something behind."""
        return await self.overview.statuses(self._all_wanted())

    async def deliver(self, name: str, seconds: float = WORK_SECONDS) -> int:
        """Send what is due to one endpoint, until nothing is or the time is up; returns how many were sent.

        Where this process is at it already, whoever is looks once more.
        """
        endpoint, at_work = self.endpoints.get(name), self._at_work.get(name)
        if at_work is not None:
            at_work.set()
        if endpoint is None or at_work is not None or self._stopping.is_set():
            return 0
        wake = self._at_work[name] = asyncio.Event()
        in_flight: set[asyncio.Task[None]] = set()
        try:
            return await self._work(endpoint, in_flight, wake, seconds)
        finally:
            # From here on another ticket may begin anew: one slow answer must not hold up what falls due meanwhile.
            del self._at_work[name]
            if in_flight:
                await asyncio.wait(in_flight)

    def _all_wanted(self) -> list[Wanted]:
        return [self.wanted(endpoint) for endpoint in self.endpoints.values()]

    def stop(self) -> None:
        """Claim nothing new; what was sent is finished."""
        self._stopping.set()
        for wake in self._at_work.values():
            wake.set()

    async def test(self, endpoint: Endpoint) -> Sent:
        """Send an endpoint a signed message behind which no event stands; nothing of it is stored."""
        now = await self.grants.now()
        message = trial_message(unique=self.new_id(), at=now, endpoint=endpoint.name)
        return await self.sender.send(endpoint, message, now)

    async def _work(
        self, endpoint: Endpoint, in_flight: set[asyncio.Task[None]], wake: asyncio.Event, seconds: float
    ) -> int:
        deadline, sent = self.tick() + seconds, 0

        def finished(task: asyncio.Task[None]) -> None:
            in_flight.discard(task)
            wake.set()  # the next of its lane may be due

        while not self._stopping.is_set() and (left := deadline - self.tick()) > 0:
            wake.clear()
            before = self.tick()
            claims = await self.deliveries.claim(
                endpoint.name,
                free=endpoint.max_in_flight - len(in_flight),
                most=endpoint.max_in_flight,
                claim=endpoint.timeout + CLAIM_MARGIN,
            )
            for claim in claims:
                task = asyncio.create_task(self._deliver(endpoint, claim, before))
                in_flight.add(task)
                task.add_done_callback(finished)
            sent += len(claims)
            if not in_flight:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), left)
        return sent

    async def _deliver(self, endpoint: Endpoint, claim: Claim, claimed_tick: float) -> None:
        if self.tick() > claimed_tick + _STALE:
            return  # the claim ends by itself
        sent = await self._send(endpoint, claim)
        try:
            await until_taken(lambda: self._store(claim, sent), seconds=CLAIM_MARGIN.total_seconds())
        except AWAY as error:
            self.observer.failed("webhook_not_stored", error)  # it is sent again when the claim has ended

    async def _send(self, endpoint: Endpoint, claim: Claim) -> Sent:
        try:
            return await self.sender.send(endpoint, _message(claim), claim.now)
        except Exception as error:  # noqa: BLE001 -- one event's trouble must not end the others, nor be tried for ever
            self.observer.failed("webhook_not_sent", error)
            words = f"it could not be sent ({type(error).__name__}); the log tells more"
            return Sent(attempt=Failed(error=words, not_now=False), seconds=0.0)

    async def _store(self, claim: Claim, sent: Sent) -> None:
        match sent.attempt:
            case Delivered():
                await self.deliveries.delivered(claim)
                self.observer.webhook_sent(claim.endpoint, "delivered", seconds=sent.seconds)
            case Gone():
                if await self.deliveries.gone(claim):
                    self.observer.webhook_gone(claim.endpoint)
                self.observer.webhook_sent(claim.endpoint, "gone", seconds=sent.seconds)
            case Failed() as failed:
                await self._store_failure(claim, failed, sent.seconds)

    async def _store_failure(self, claim: Claim, failed: Failed, seconds: float) -> None:
        wait = next_wait(claim.failures + 1, failed.retry_after, self.draw())
        ours = await self.deliveries.failed(
            claim,
            failed.error,
            wait=wait,
            hold=hold(claim.endpoint_failures + 1, failed, self.draw()),
            asked=failed.retry_after,
            awaits_endpoint=failed.not_now,
        )
        dead = ours and wait is None
        self.observer.webhook_sent(claim.endpoint, "dead" if dead else "failed", seconds=seconds)
        self.observer.webhook_failed(claim, failed.error, dead=dead)


def _message(claim: Claim) -> Message:
    event = claim.event
    return event_message(
        event_id=event.id,
        at=event.at,
        event_type=event.type,
        client=event.client,
        grant_id=event.grant_id,
        subject=event.subject,
        data=event.data,
    )
