"""Sending mails that are due: claim, hand in, settle, one at a time on a few connections.

At least once: a mail is recorded before it is sent, and tried again until the server has said what becomes of it. One
thing alone can make an owner get it twice: the server has taken it, and its answer never came or could not be stored.
It then goes out again with the same Message-ID and the same link, by which mailboxes and people know it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from worker.domain.delivery import Delivery, Refused, Trouble
from worker.domain.errors import MailTemplateError
from worker.domain.mail_fate import Fate, fate
from worker.domain.secret import Secret
from worker.mail.delivery import Delivering
from worker.mail.writing import Mail, NamedGrant, Writer
from worker.oauth.client import Client
from worker.storage.away import until_taken
from worker.storage.link_signing import Link, write_link
from worker.storage.mail_claim import ClaimedGrantMail, ClaimedMail, MailClaims
from worker.storage.mail_settle import MailSettles
from worker.storage.sealing import KeyRing

#: Connections to the mail server from one process: each is busy with a mail for as long as the server takes.
CONNECTIONS: Final = 4
#: Seconds for which the fate of a mail is tried to be stored while the database is away.
SETTLE_SECONDS: Final = 60.0
#: Seconds without a round after the server could not be asked, doubled each time.
_PAUSE_FIRST: Final = 5.0
_PAUSE_LONGEST: Final = 300.0


class MailObserver(Protocol):
    """Is told what became of mails. Its methods are quick and raise nothing."""

    def mailed(self, clients: Sequence[str], fate: Fate) -> None:
        """Hear where a mail stands, with the client of each grant in it."""

    def mails_given_back(self, clients: Sequence[str]) -> None:
        """Hear of mails whose worker ended while it sent them."""


class MailSender:
    """Sends what is due.

    Args:
        claims: takes mails.
        settles: stores what became of them.
        writer: writes them.
        connect: makes a connection to the mail server, which opens when it is used.
        clients: as they are configured, for their names.
        keys: sign the links.
        public_url: base of the links.
        observer: told of every outcome.
        tick: the monotonic clock, seconds.
        draw: chance in [0, 1).

    """

    def __init__(
        self,
        *,
        claims: MailClaims,
        settles: MailSettles,
        writer: Writer,
        connect: Callable[[], Delivering],
        clients: Mapping[str, Client],
        keys: KeyRing,
        public_url: str,
        observer: MailObserver,
        tick: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._claims = claims
        self._settles = settles
        self._writer = writer
        self._connect = connect
        self._clients = clients
        self._keys = keys
        self._links = f"{public_url.rstrip('/')}/reconsent/"
        self._observer = observer
        self._tick = tick
        self._draw = draw
        self._running = False
        self._stopped = False
        self._got_on = False
        self._troubles = 0
        self._pause_until = 0.0

    async def send_due(self, seconds: float) -> None:
        """Send what is due, claiming for no longer than some seconds; one at a time in a process.

        While the server cannot be asked, rounds are left out, more and more of them.
        """
        if self._running or self._stopped or self._tick() < self._pause_until:
            return
        self._running = True
        try:
            given_back = await self._claims.give_back()
            if given_back:
                self._observer.mails_given_back(given_back)
            troubled, self._got_on = asyncio.Event(), False
            ends = self._tick() + seconds
            # Not a task group: what befalls one must not call the others back in the middle of a mail.
            ended = await asyncio.gather(
                *(self._send(ends, troubled) for _ in range(CONNECTIONS)), return_exceptions=True
            )
            for error in filter(None, ended):
                raise error
            if troubled.is_set():
                self._troubles = 1 if self._got_on else self._troubles + 1
                self._pause_until = self._tick() + min(_PAUSE_FIRST * 2 ** (self._troubles - 1), _PAUSE_LONGEST)
        finally:
            self._running = False

    def stop(self) -> None:
        """Claim nothing new from now on; what is under way goes on."""
        self._stopped = True

    async def _send(self, ends: float, troubled: asyncio.Event) -> None:
        connection = self._connect()
        try:
            while not (self._stopped or troubled.is_set()) and self._tick() < ends:
                claimed = await self._claims.claim()
                if claimed is None:
                    return
                delivery = await self._deliver(connection, claimed)
                if isinstance(delivery, Trouble):
                    troubled.set()
                else:
                    self._got_on = True
                await self._settle(claimed, delivery)
        finally:
            await connection.close()

    async def _deliver(self, connection: Delivering, claimed: ClaimedMail) -> Delivery:
        try:
            message = self._writer.write(self._mail(claimed), claimed.claimed_at)
        except ValueError as error:  # no server could take an address like this
            return Refused(status=None, reply=f"the address {error}")
        except MailTemplateError as error:
            return Trouble(status=None, what=str(error))
        return await connection.deliver(message)

    def _mail(self, claimed: ClaimedMail) -> Mail:
        link = write_link(Link(message_id=claimed.message_id, expires_at=claimed.link_expires_at), self._keys)
        return Mail(
            message_id=claimed.message_id,
            recipients=claimed.recipients,
            grants=[self._named(grant) for grant in claimed.grants],
            link=Secret(self._links + link.reveal()),
            link_expires_at=claimed.link_expires_at,
        )

    def _named(self, grant: ClaimedGrantMail) -> NamedGrant:
        return NamedGrant(
            client_name=grant.client,
            client=self._clients[grant.client].display_name,
            account=grant.subject,
            detail=grant.account if grant.account != grant.subject else None,
            ends_at=grant.ends_at,
        )

    async def _settle(self, claimed: ClaimedMail, delivery: Delivery) -> None:
        """Store what became of a mail; what cannot be stored is in doubt when its claim has run out."""
        decided = fate(delivery, attempts=claimed.attempts, doubts=claimed.doubts, draw=self._draw())
        clients = await until_taken(lambda: self._settles.settle(claimed.claim_id, decided), seconds=SETTLE_SECONDS)
        self._observer.mailed(clients, decided)
