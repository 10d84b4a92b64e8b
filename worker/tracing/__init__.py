"""Traces by OpenTelemetry, where its ordinary environment variables ask for them: scan, drain, refresh, settle.

Without them nothing of OpenTelemetry is imported, and what runs is what runs anyway: the parts that make spans take the
place of the plain ones when a process is wired.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Engine

from worker.domain.errors import ConfigurationError
from worker.metrics import Exemplar, no_exemplar
from worker.oauth.http_client import Transport
from worker.oauth.token_endpoint import TokenEndpoint
from worker.storage.claim import Claims
from worker.storage.settle_queue import SettleQueue
from worker.usecases.rotate import Rotation

#: Either says where traces go (OpenTelemetry's specification of its exporter's configuration).
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

T = TypeVar("T")


class Tracer:
    """Begins spans; this one begins none."""

    def span(self, name: str, **attributes: str) -> AbstractContextManager[object]:
        """Return a span for a `with` block."""
        del name, attributes
        return nullcontext()

    def carry(self) -> Mapping[str, str] | None:
        """Return what a message takes along of the span that is under way; None: nothing."""
        return None

    def spanned(
        self, work: Coroutine[Any, Any, T], name: str, carried: Callable[[str], object], **attributes: str
    ) -> Coroutine[Any, Any, T]:
        """Return work that has a span for as long as it takes.

        Args:
            work: what is to be done.
            name: of the span.
            carried: reads a header of the message that asked for it; its span is the parent.
            attributes: of the span.

        """
        del name, carried, attributes
        return work

    def close(self) -> None:
        """Send what was not sent yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a process is wired of: the plain parts, or those that make spans."""

    tracer: Tracer
    transport: type[Transport] = Transport
    token_endpoint: type[TokenEndpoint] = TokenEndpoint
    claims: type[Claims] = Claims
    settles: type[SettleQueue] = SettleQueue
    rotation: type[Rotation] = Rotation
    exemplar: Exemplar = no_exemplar
    watch: Callable[[Engine], None] = lambda _engine: None


def choose_parts(environment: Mapping[str, str]) -> Parts:
    """Return the parts to wire a process of.

    Args:
        environment: where OpenTelemetry's variables stand.

    Raises:
        ConfigurationError: traces are asked for, and the SDK is not installed.

    """
    if not is_wanted(environment):
        return Parts(tracer=Tracer())
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        raise ConfigurationError(
            "OTEL_… variables ask for traces, and OpenTelemetry is not installed; install evergrant[traces], "
            "or set OTEL_SDK_DISABLED=true"
        )
    from worker.tracing.parts import traced_parts  # noqa: PLC0415 -- who wants no traces does not load them

    return traced_parts()


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Tell whether OpenTelemetry's variables ask for traces."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _ENDPOINTS) or environment.get("OTEL_TRACES_EXPORTER") == "otlp"
