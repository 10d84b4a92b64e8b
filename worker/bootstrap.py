"""The one composition root: settings in, a wired process out. Clock and chance come from here and nowhere else."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import httpx
from prometheus_client import REGISTRY, CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.configuration import Configuration, load_configuration
from worker.keys_bootstrap import create_ring_note
from worker.mail_bootstrap import Mails, create_mails
from worker.metrics import Metrics
from worker.oauth.account import Accounts
from worker.oauth.client_authentication import Stamp
from worker.oauth.http_client import create_http_client
from worker.oauth.token_tools import TokenTools
from worker.oauth.userinfo import Userinfo
from worker.observers import Observers
from worker.packaged import migrations_path
from worker.settings import Settings, load_settings
from worker.storage import consent_escrow, escrow_entry
from worker.storage.adoptions import Adoptions
from worker.storage.api_tokens import ApiTokens
from worker.storage.audit_log import AuditLog
from worker.storage.authorization_requests import AuthorizationRequests
from worker.storage.claim import CLAIM_THREADS
from worker.storage.client_status import ClientStatuses
from worker.storage.commit_threads import COMMIT_CONNECTIONS
from worker.storage.consent_escrow import ConsentEscrow
from worker.storage.consents import Consents
from worker.storage.database import create_claim_engine, create_engine, create_read_engine, create_settle_engine
from worker.storage.escrow import Escrow
from worker.storage.escrow_homes import escrow_homes
from worker.storage.escrow_shelf import EscrowShelf
from worker.storage.grants import Grants
from worker.storage.held_tokens import HeldTokens
from worker.storage.idempotency import IdempotentRequests
from worker.storage.operator_acts import OperatorActs
from worker.storage.presence import Presence
from worker.storage.ring_holders import RingNote
from worker.storage.schema import Schema
from worker.storage.sealing import KeyRing, parse_keys
from worker.storage.seen_lines import SeenLines
from worker.storage.sessions import SessionStore
from worker.storage.shared_accounts import SharedAccounts
from worker.storage.sign_in_links import SignInLinks
from worker.storage.webhook_deliveries import WebhookDeliveries
from worker.storage.webhook_endpoints import WebhookEndpoints
from worker.storage.webhook_outbox import WebhookOutbox
from worker.tracing import Tracer, choose_parts
from worker.usecases.access_token import AccessTokens
from worker.usecases.adopt import Adoption
from worker.usecases.api_access import ApiAccess
from worker.usecases.code_exchange import CodeExchange
from worker.usecases.consent import ConsentFlow
from worker.usecases.dispatch import Dispatch
from worker.usecases.drain import Drains, DrainSupplies
from worker.usecases.give_back import GivingBack
from worker.usecases.operate import GrantOperations
from worker.usecases.rotate import Rotation
from worker.usecases.sessions import Sessions
from worker.usecases.store_consent import ConsentStore
from worker.usecases.tally import Tally
from worker.usecases.token_audit import TokenAudit
from worker.usecases.webhooks import Webhooks
from worker.usecases.window import Window
from worker.webhooks.sender import Sender

if TYPE_CHECKING:
    from worker.openid.flow import OpenIdFlow

#: Connections of one process's event loop: ticks and requests hold one for some milliseconds each, the presence one.
#: Claims and settles have connections of their own, so that neither waits for anything else.
CONNECTIONS: Final = 6
#: And of the reads that whoever asks for an access token waits for: a millisecond each.
READ_CONNECTIONS: Final = 4

#: Spreads what would otherwise come together; nothing secret comes of it.
_chance: Final = random.Random()  # noqa: S311 -- as above


def monotonic() -> float:
    """Return seconds that pass while the machine sleeps too, so that a lease is never believed longer than it is."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def wall_clock() -> datetime:
    """Return this machine's idea of the time."""
    return datetime.now(UTC)


def assertion_stamp() -> Stamp:
    """Return time and chance for one client assertion."""
    return Stamp(at=datetime.now(UTC), jti=str(uuid4()))


def moving_on(start: datetime) -> Callable[[], datetime]:
    """Return a clock that goes on from an instant, such as the database's, by this machine's monotonic clock."""
    started = monotonic()
    return lambda: start + timedelta(seconds=monotonic() - started)


def seen_lines() -> SeenLines:
    """Return an empty memory for the lines of one import."""
    return SeenLines(os.urandom(32))


def software() -> str:
    """Return the name and version under which we speak to providers."""
    try:
        return f"Evergrant/{version('evergrant')}"
    except PackageNotFoundError:
        return "Evergrant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Everything one process needs, wired. It belongs to the event loop it was made on."""

    settings: Settings
    configuration: Configuration
    engine: AsyncEngine
    read_engine: AsyncEngine
    claim_engine: Engine
    http: httpx.AsyncClient
    observers: Observers
    grants: Grants
    held_tokens: HeldTokens
    statuses: ClientStatuses
    rotation: Rotation
    drains: Drains
    dispatch: Dispatch
    access_tokens: AccessTokens
    consent: ConsentFlow
    consent_store: ConsentStore
    giving_back: GivingBack
    adoption: Adoption
    operations: GrantOperations
    api_access: ApiAccess
    sessions: Sessions
    openid: OpenIdFlow | None  #: None: people sign in by links alone
    audit: AuditLog
    token_audit: TokenAudit
    idempotent_requests: IdempotentRequests
    webhooks: Webhooks
    escrow: Escrow
    presence: Presence
    ring_note: RingNote
    mails: Mails
    tally: Tally
    tracer: Tracer

    def stop_claiming(self) -> None:
        """Begin nothing new from now on: no refresh, webhook or mail; what is under way goes on."""
        self.drains.stop()
        self.stop_telling()

    def stop_telling(self) -> None:
        """Begin no webhook and no mail from now on; refreshes go on."""
        self.webhooks.stop()
        self.mails.stop()

    def complaints(self) -> list[str]:
        """Return why this process should be started again, such as a thread that has ended; empty while all is well."""
        ended = [f"thread {name} has ended" for name in self.rotation.settles.ended_threads()]
        return ended + self.ring_note.complaints()

    async def close(self) -> None:
        """Close connections, to providers, to the broker and to the database."""
        await self.presence.release()
        await self.tally.write()
        await self.ring_note.withdraw()
        await self.http.aclose()
        await self.escrow.close()
        self.access_tokens.claims.close()
        self.claim_engine.dispose()
        await self.rotation.settles.close()
        await self.consent_store.escrow.close()
        await self.api_access.close()
        await self.token_audit.close()
        await self.read_engine.dispose()
        await self.engine.dispose()
        await asyncio.to_thread(self.tracer.close)


def read_settings() -> Settings:
    """Read this process's settings.

    Raises:
        ConfigurationError: one line naming what is wrong.

    """
    return load_settings(os.environ)


def create_schema(settings: Settings) -> Schema:
    """Return the database's schema, to be checked or upgraded."""
    return Schema(settings.require_database(), migrations_path())


def _shelf(settings: Settings, observers: Observers, *, suffix: str, key: str) -> EscrowShelf:
    homes = escrow_homes(settings.home_dir / "escrow", settings.broker_url, suffix=suffix, key=key)
    return EscrowShelf(homes, observers.escrow_failed, observers.escrow_refused)


def _openid(settings: Settings, configuration: Configuration, keys: KeyRing) -> OpenIdFlow | None:
    if configuration.sign_in is None:
        return None
    from worker.openid.flow import OpenIdFlow  # noqa: PLC0415 -- Authlib takes a while to load, and few need it

    return OpenIdFlow(configuration.sign_in, f"{settings.public_url.rstrip('/')}/sign-in/callback", keys, time.time)


def create_container(
    settings: Settings,
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> Container:
    """Wire one process; call it on the event loop that will run it.

    Args:
        settings: this process's.
        name: shown in `pg_stat_activity`.
        environment: where `env:` references to client secrets are looked up.
        registry: where metrics are registered, once per process.

    Raises:
        ConfigurationError: one line naming the setting, table or key that is wrong.

    """
    configuration = load_configuration(settings, os.environ if environment is None else environment)
    limits, clients = configuration.worker, configuration.registry
    keys = KeyRing(parse_keys(settings.require_keys()), os.urandom)
    engine = create_engine(settings.require_database(), connections=CONNECTIONS, name=name)
    parts = choose_parts(os.environ if environment is None else environment)
    http = create_http_client(user_agent=software(), transport=parts.transport)
    metrics = Metrics(registry, time.time, parts.exemplar)
    metrics.expect(clients.clients, mails=settings.smtp_url is not None)
    metrics.keys.set(len(keys.key_ids))
    tally = Tally(engine=engine, reporter=uuid4(), clock=lambda: datetime.now(UTC))
    observers = Observers(metrics, monotonic, tally.count)
    token_endpoint = parts.token_endpoint(http, monotonic, assertion_stamp)
    escrow = Escrow(_shelf(settings, observers, suffix=escrow_entry.SUFFIX, key=escrow_entry.KEY), keys)
    presence = Presence(engine, _chance.random, observers.presence_lost)
    settles = parts.settles(
        create_settle_engine(settings.require_database(), connections=COMMIT_CONNECTIONS, name=f"{name}: settles"),
        keys,
        escrow,
        observers.settle_retried,
        monotonic,
    )
    statuses = ClientStatuses(engine)
    claim_engine = create_claim_engine(settings.require_database(), connections=CLAIM_THREADS, name=f"{name}: claims")
    claims = parts.claims(claim_engine, keys, monotonic, lambda: presence.worker)
    reads = create_read_engine(settings.require_database(), connections=READ_CONNECTIONS, name=f"{name}: reads")
    held_tokens = HeldTokens(reads, keys)
    audit = AuditLog(engine)
    grants = Grants(engine)
    consents = Consents(engine, keys)
    for watched in (engine.sync_engine, reads.sync_engine, claim_engine):
        parts.watch(watched)
    rotation = parts.rotation(
        token_endpoint=token_endpoint,
        token_tools=TokenTools(http, assertion_stamp),
        settles=settles,
        statuses=statuses,
        observer=observers,
        tick=monotonic,
        draw=_chance.random,
    )
    supplies = DrainSupplies(
        claims=claims,
        rotation=rotation,
        settles=settles,
        statuses=statuses,
        observer=observers,
        window=Window(limit=limits.max_in_flight),
        lease=limits.lease,
        tick=monotonic,
        draw=_chance.random,
        processor=time.thread_time,
        on_error=observers.failed,
    )
    giving_back = GivingBack(registry=clients, accounts=SharedAccounts(engine), token_tools=rotation.token_tools)
    consent_store = ConsentStore(
        consents=consents,
        escrow=ConsentEscrow(_shelf(settings, observers, suffix=consent_escrow.SUFFIX, key=consent_escrow.KEY), keys),
        registry=clients,
        giving_back=giving_back,
        observer=observers,
    )
    consent = ConsentFlow(
        registry=clients,
        requests=AuthorizationRequests(engine, keys),
        exchange=CodeExchange(
            token_endpoint=token_endpoint,
            accounts=Accounts(Userinfo(http)),
            grants=grants,
            store=consent_store,
            new_id=uuid4,
            draw=_chance.random,
            tick=monotonic,
        ),
        grants=grants,
        observer=observers,
        random_bytes=os.urandom,
        new_id=uuid4,
        tick=monotonic,
    )
    return Container(
        settings=settings,
        configuration=configuration,
        engine=engine,
        read_engine=reads,
        claim_engine=claim_engine,
        http=http,
        observers=observers,
        grants=grants,
        held_tokens=held_tokens,
        statuses=statuses,
        rotation=rotation,
        drains=Drains(supplies),
        dispatch=Dispatch(
            engine=engine,
            escrow=escrow,
            consents=consent_store,
            statuses=statuses,
            clients=clients.clients,
            observer=observers,
            tick=monotonic,
            draw=_chance.random,
            keep_rotations=limits.keep_rotations,
            keep_events=limits.keep_events,
            keep_audit=configuration.web.keep_audit,
        ),
        access_tokens=AccessTokens(
            held_tokens=held_tokens,
            claims=claims,
            rotation=rotation,
            registry=clients,
            lease=limits.lease,
            tick=monotonic,
        ),
        consent=consent,
        consent_store=consent_store,
        giving_back=giving_back,
        adoption=Adoption(
            registry=clients,
            adoptions=Adoptions(engine, keys, consents),
            grants=grants,
            new_id=uuid4,
            draw=_chance.random,
        ),
        operations=GrantOperations(
            grants=grants,
            acts=OperatorActs(engine, keys),
            token_tools=rotation.token_tools,
            registry=clients,
            lease=limits.lease,
            tick=monotonic,
            draw=_chance.random,
        ),
        idempotent_requests=IdempotentRequests(engine, keys, uuid4),
        webhooks=Webhooks(
            endpoints=configuration.webhooks,
            outbox=WebhookOutbox(engine),
            deliveries=WebhookDeliveries(engine, uuid4),
            overview=WebhookEndpoints(engine),
            grants=grants,
            sender=Sender(http, monotonic),
            observer=observers,
            fingerprint=keys.fingerprint,
            tick=monotonic,
            draw=_chance.random,
            new_id=uuid4,
        ),
        api_access=ApiAccess(
            registry=clients,
            tokens=ApiTokens(engine, reads),
            random_bytes=os.urandom,
            new_id=uuid4,
            tick=monotonic,
        ),
        sessions=Sessions(
            registry=clients,
            store=SessionStore(engine, configuration.web.session_idle),
            links=SignInLinks(engine),
            keys=keys,
            lifetime=configuration.web.session_lifetime,
            random_bytes=os.urandom,
            new_id=uuid4,
        ),
        openid=_openid(settings, configuration, keys),
        audit=audit,
        token_audit=TokenAudit(log=audit, dropped=observers.audit_dropped),
        escrow=escrow,
        presence=presence,
        ring_note=create_ring_note(settings, engine, keys, name=name, on_retired=observers.sealing_key_retired),
        tracer=parts.tracer,
        tally=tally,
        mails=create_mails(
            settings,
            configuration,
            engine=engine,
            keys=keys,
            grants=grants,
            consent=consent,
            observer=observers,
            tick=monotonic,
            draw=_chance.random,
            new_id=uuid4,
        ),
    )
