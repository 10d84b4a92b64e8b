"""The part of the composition root that is about mails; clock and chance are handed in by `worker.bootstrap`."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.configuration import Configuration
from worker.domain.reconsent import MailMode
from worker.mail.delivery import Delivering, hello_name
from worker.mail.server import read_mail_server, read_sender
from worker.mail.writing import Writer
from worker.settings import Settings
from worker.storage.grants import Grants
from worker.storage.mail_addressees import MailAddressees
from worker.storage.mail_claim import MailClaims
from worker.storage.mail_links import MailLinks
from worker.storage.mail_settle import MailSettles
from worker.storage.sealing import KeyRing
from worker.usecases.ask_owners import MailRequests
from worker.usecases.consent import ConsentFlow
from worker.usecases.note_mails import MailNotes
from worker.usecases.reconsent import ReconsentFlow
from worker.usecases.send_mails import MailObserver, MailSender


@dataclass(frozen=True, slots=True, kw_only=True)
class Mails:
    """Everything about mails, wired."""

    notes: MailNotes
    sender: MailSender | None  #: None: no mail server is set, and nothing is sent
    requests: MailRequests
    reconsent: ReconsentFlow

    async def round(self, seconds: float) -> None:
        """Note what owners are to be told, and tell them for no longer than some seconds."""
        if self.sender is not None:
            await self.notes.note_deaths()
            await self.sender.send_due(seconds)

    def stop(self) -> None:
        """Begin no further mail."""
        if self.sender is not None:
            self.sender.stop()


def create_mails(
    settings: Settings,
    configuration: Configuration,
    *,
    engine: AsyncEngine,
    keys: KeyRing,
    grants: Grants,
    consent: ConsentFlow,
    observer: MailObserver,
    tick: Callable[[], float],
    draw: Callable[[], float],
    new_id: Callable[[], UUID],
) -> Mails:
    """Wire what is about mails.

    Args:
        settings: this process's.
        configuration: clients, and when and how often their owners are mailed.
        engine: the process's connections.
        keys: sign the links.
        grants: the database's clock.
        consent: what a link's button begins.
        observer: told what becomes of mails.
        tick: the monotonic clock, seconds.
        draw: chance in [0, 1).
        new_id: chance, as ids.

    """
    registry, policy = configuration.registry, configuration.mails.policy
    recipients = {name: client.fallback_recipients for name, client in registry.clients.items()}
    sends = settings.smtp_url is not None
    requests = MailRequests(
        addressees=MailAddressees(engine, recipients), registry=registry, policy=policy, sends=sends
    )
    sender = None
    if settings.smtp_url is not None and settings.mail_from is not None:
        manual = frozenset(
            name for name, client in registry.clients.items() if client.reconsent_mails is MailMode.MANUAL
        )
        hello = hello_name(urlsplit(settings.public_url).hostname or "localhost")
        sender = MailSender(
            claims=MailClaims(engine, recipients, manual, policy, new_id),
            settles=MailSettles(engine, policy.reminders, sorted(registry.clients.keys() - manual)),
            writer=Writer(read_sender(settings.mail_from), settings.public_url, configuration.mails.templates),
            connect=partial(Delivering, read_mail_server(settings.smtp_url), hello, ssl.create_default_context()),
            clients=registry.clients,
            keys=keys,
            public_url=settings.public_url,
            observer=observer,
            tick=tick,
            draw=draw,
        )
    return Mails(
        notes=MailNotes(engine=engine, grants=grants, clients=registry.clients, policy=policy, sends=sends),
        sender=sender,
        requests=requests,
        reconsent=ReconsentFlow(keys=keys, links=MailLinks(engine), grants=grants, consent=consent, requests=requests),
    )
