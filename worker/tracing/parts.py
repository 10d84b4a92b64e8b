"""The parts that make spans. No span has a token, an address's path or query, a statement's values, or a subject."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar

import httpx
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace import Tracer as OpenTelemetryTracer
from sqlalchemy import Engine, event

from worker.domain.allowance import ClientLimits
from worker.domain.errors import ConfigurationError
from worker.domain.grant import ClaimedGrant, Lease
from worker.domain.outcome import label, reason
from worker.domain.secret import Secret
from worker.domain.settlement import Settlement
from worker.oauth.client import Client
from worker.oauth.http_client import ENDPOINT, Transport
from worker.oauth.token_endpoint import TokenAnswer, TokenEndpoint
from worker.storage.claim import Claimed, Claims
from worker.storage.settle_queue import SettleQueue, Stored
from worker.tracing import Parts, Tracer
from worker.usecases.rotate import Rotation, RotationResult

#: Milliseconds for what was not sent yet when a process ends: a collector that is away holds up nobody for longer.
_LAST_MS: Final = 3_000
#: Where a statement's span is kept while it runs.
_SPAN_KEY: Final = "evergrant_span"

T = TypeVar("T")


def traced_parts() -> Parts:
    """Begin to trace, and return the parts that make spans; where to and how, OTEL_… says.

    Raises:
        ConfigurationError: one of these variables says what cannot be.

    """
    try:
        _provider()
    except Exception as error:  # noqa: BLE001 -- later, it would end each refresh instead, its token claimed
        raise ConfigurationError(f"OTEL_… variables do not hold: {error}") from None
    return Parts(
        tracer=OtelTracer(),
        transport=TracedTransport,
        token_endpoint=TracedTokenEndpoint,
        claims=TracedClaims,
        settles=TracedSettleQueue,
        rotation=TracedRotation,
        exemplar=current_trace,
        watch=watch_statements,
    )


@cache
def _provider() -> TracerProvider:
    # Ours alone, and not the process's own: FastAPI makes spans by that one, with the query of a callback in them.
    own = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "evergrant"}
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


@cache
def _spans() -> OpenTelemetryTracer:
    return _provider().get_tracer("evergrant")


class OtelTracer(Tracer):
    """Begins spans of OpenTelemetry's."""

    def span(self, name: str, **attributes: str) -> AbstractContextManager[object]:
        """Return a span for a `with` block."""
        return _span(name, attributes)

    def carry(self) -> Mapping[str, str] | None:
        """Return what a message takes along of the span that is under way (W3C Trace Context)."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    def spanned(
        self, work: Coroutine[Any, Any, T], name: str, carried: Callable[[str], object], **attributes: str
    ) -> Coroutine[Any, Any, T]:
        """Return work that has a span for as long as it takes, under that of the message that asked for it."""
        headers = {key: value for key in ("traceparent", "tracestate") if isinstance(value := carried(key), str)}
        parent = propagate.extract(headers)

        async def spanning() -> T:
            with _span(name, attributes, parent=parent):
                return await work

        return spanning()

    def close(self) -> None:
        """Send what was not sent yet."""
        _provider().force_flush(_LAST_MS)


def current_trace() -> dict[str, str] | None:
    """Return the trace that is under way, as an exemplar; None where it is not sampled."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled else None


class TracedRotation(Rotation):
    """Rotates under a span, to which the request and the settle belong."""

    async def rotate(
        self, grant: ClaimedGrant, client: Client, answered: Callable[[], None] = lambda: None
    ) -> RotationResult:
        """Refresh one claimed grant and store what came of it."""
        told = {"evergrant.grant": str(grant.lease.grant_id), "evergrant.lease": str(grant.lease.lease_id)}
        with _span("rotate", {"evergrant.client": client.name, **told}) as span:
            result = await super().rotate(grant, client, answered)
            span.set_attribute("evergrant.outcome", label(result.outcome))
            span.set_attribute("evergrant.settled", result.settled.name.lower())
            return result


class TracedTokenEndpoint(TokenEndpoint):
    """Refreshes under a span."""

    async def refresh(
        self,
        client: Client,
        refresh_token: Secret,
        *,
        access_token: Secret | None = None,
        captured: Mapping[str, str] | None = None,
    ) -> TokenAnswer:
        """Present a refresh token and return what came of it."""
        told = {"evergrant.client": client.name, "evergrant.provider": client.provider.name}
        with _span("refresh", told) as span:
            answer = await super().refresh(client, refresh_token, access_token=access_token, captured=captured)
            span.set_attribute("evergrant.outcome", label(answer.outcome))
            span.set_attribute("evergrant.reason", reason(answer.outcome).value)
            return answer


class TracedSettleQueue(SettleQueue):
    """Settles under a span: from the answer to its commit, which others may share."""

    async def commit(self, lease: Lease, settlement: Settlement, presented: Secret | None = None) -> Stored:
        """Store one settlement, and tell when that was."""
        with _span("settle", {"evergrant.settlement": type(settlement).__name__}) as span:
            stored = await super().commit(lease, settlement, presented)
            span.set_attribute("evergrant.settled", stored.settled.name.lower())
            return stored


class TracedClaims(Claims):
    """Claims under a span."""

    async def claim_due(
        self, client: str, *, limits: ClientLimits, free: int, lease: timedelta, since: datetime | None = None
    ) -> Claimed:
        """Claim some of a client's due grants."""
        with _span("claim", {"evergrant.client": client}) as span:
            claimed = await super().claim_due(client, limits=limits, free=free, lease=lease, since=since)
            span.set_attribute("evergrant.claimed", len(claimed.grants))
            return claimed


class TracedTransport(Transport):
    """Sends requests under spans named as OpenTelemetry's conventions for HTTP clients have them."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, whose body is still to be read."""
        told: dict[str, str | int] = {"http.request.method": request.method}
        if request.extensions.get(ENDPOINT, "").startswith(("http://", "https://")):
            # A webhook's endpoint is called by its name, for its host may be the secret.
            told["server.address"] = request.url.host
            if request.url.port is not None:
                told["server.port"] = request.url.port
        with _span(request.method, told, kind=SpanKind.CLIENT) as span:
            response = await super().handle_async_request(request)
            span.set_attribute("http.response.status_code", response.status_code)
            return response


def watch_statements(engine: Engine) -> None:
    """Give each statement that belongs to a trace a span: its first word, never its values."""

    def before(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:  # noqa: ANN401 -- SQLAlchemy's event
        if trace.get_current_span().is_recording():
            operation = statement.split(None, 1)[0].upper() if statement.strip() else "SQL"
            told = {"db.system.name": "postgresql", "db.operation.name": operation}
            connection.info.setdefault(_SPAN_KEY, []).append(
                _spans().start_span(operation, kind=SpanKind.CLIENT, attributes=told)
            )

    def after(connection: Any, *_rest: Any) -> None:  # noqa: ANN401 -- SQLAlchemy's event
        spans: list[Span] = connection.info.get(_SPAN_KEY) or []
        if spans:
            spans.pop().end()

    def failed(context: Any) -> None:  # noqa: ANN401 -- SQLAlchemy's event
        spans: list[Span] = (context.connection.info.get(_SPAN_KEY) or []) if context.connection is not None else []
        if spans:
            span = spans.pop()
            span.set_attribute("error.type", type(context.original_exception).__name__)
            span.set_status(StatusCode.ERROR)
            span.end()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)


@contextmanager
def _span(
    name: str, attributes: Mapping[str, str | int], *, parent: Context | None = None, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[Span]:
    # An exception is told by its kind alone: its message may repeat what was read.
    with _spans().start_as_current_span(
        name, context=parent, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise
