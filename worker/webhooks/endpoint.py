"""A webhook endpoint: where events are sent, as `[webhooks.NAME]` writes it and as the rest of the code uses it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from worker.domain.errors import ConfigurationError
from worker.domain.events import ALL_OF_A_KIND, EventType, chosen
from worker.domain.loopback import is_loopback
from worker.domain.secret import Secret
from worker.oauth.addresses import is_private_literal
from worker.oauth.complaints import nearest
from worker.oauth.provider_values import STRICT, Duration, check_endpoint, one_or_many, split_url
from worker.oauth.references import resolve
from worker.oauth.validation import validated

#: How a secret of the specification begins.
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- the prefix of one
#: Bytes of a secret, by the specification: 192 to 512 bits.
FEWEST_BYTES: Final = 24
MOST_BYTES: Final = 64
#: The specification recommends 15 to 30 s; a worker's claim on an event outlives it.
DEFAULT_TIMEOUT: Final = timedelta(seconds=15)
LONGEST_TIMEOUT: Final = timedelta(seconds=30)
#: Requests to one endpoint at once, over all workers: what a small receiver takes without noticing.
DEFAULT_MAX_IN_FLIGHT: Final = 10
#: Deliveries, metrics and commands carry it.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: Addresses may hold a secret, and are then references as secrets are.
_REFERENCES: Final = ("env:", "file:")


def _in_time(timeout: timedelta) -> timedelta:
    if timeout > LONGEST_TIMEOUT:
        message = f"must be at most {LONGEST_TIMEOUT.total_seconds():g}s: an endpoint takes an event and works later"
        raise ValueError(message)
    return timeout


class EndpointEntry(BaseModel):
    """`[webhooks.NAME]` as written."""

    model_config = STRICT

    url: Annotated[str, Field(min_length=1)]  #: or a reference, `env:NAME` or `file:/path`, where it holds a secret
    secret: Annotated[tuple[str, ...], BeforeValidator(one_or_many)]  #: references; all of them sign
    events: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ALL_OF_A_KIND
    clients: Annotated[tuple[str, ...] | None, BeforeValidator(one_or_many)] = None
    timeout: Annotated[Duration, AfterValidator(_in_time)] = DEFAULT_TIMEOUT
    max_in_flight: Annotated[int, Field(ge=1, le=1_000)] = DEFAULT_MAX_IN_FLIGHT
    allow_private_addresses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where events are sent; its secrets are resolved, and each of them signs."""

    name: str
    url: Secret  #: many receivers put a secret into its path or query
    secrets: tuple[Secret, ...]
    events: frozenset[EventType]
    clients: frozenset[str] | None  #: None: every client's
    timeout: timedelta
    max_in_flight: int
    allow_private_addresses: bool


def build_endpoints(
    tables: Mapping[str, Any], *, clients: Collection[str], environment: Mapping[str, str] | None
) -> dict[str, Endpoint]:
    """Validate `[webhooks.*]` and resolve its references.

    Args:
        tables: the tables by endpoint name.
        clients: names of the configured clients.
        environment: where `env:NAME` references are looked up; with None nothing is, and secrets are empty ones.

    Raises:
        ConfigurationError: one line naming the table and key, and never a value that may be secret.

    """
    return {name: _endpoint(name, table, clients, environment) for name, table in sorted(tables.items())}


def generate_secret(random_bytes: Callable[[int], bytes]) -> Secret:
    """Make a secret that signs, in the form of the specification."""
    return Secret(SECRET_PREFIX + base64.b64encode(random_bytes(32)).decode("ascii"))


def _endpoint(name: str, table: object, clients: Collection[str], environment: Mapping[str, str] | None) -> Endpoint:
    where = f"webhooks.{name}"
    if not _NAME.fullmatch(name):
        message = f"[{where}] an endpoint's name has 1 to 64 letters, digits, '_', '.' or '-'"
        raise ConfigurationError(message)
    entry = validated(EndpointEntry, where, table)
    _check_choices(entry, clients, where)
    return Endpoint(
        name=name,
        url=_url(entry, where, environment),
        secrets=tuple(_secret(reference, where, environment) for reference in entry.secret),
        events=chosen(entry.events),
        clients=frozenset(entry.clients) if entry.clients is not None else None,
        timeout=entry.timeout,
        max_in_flight=entry.max_in_flight,
        allow_private_addresses=entry.allow_private_addresses,
    )


def _check_choices(entry: EndpointEntry, clients: Collection[str], where: str) -> None:
    if not entry.secret:
        message = f"[{where}] secret is empty: it takes a reference, or a list of them"
        raise ConfigurationError(message)
    for key, known, written in (
        ("events", (*(found.value for found in EventType), *ALL_OF_A_KIND), entry.events),
        ("clients", clients, entry.clients),
    ):
        if written is not None and not written:
            message = f"[{where}] {key} is empty: leave it out for all of them"
            raise ConfigurationError(message)
        for choice in written or ():
            if choice not in known:
                message = f"[{where}] {key}: {choice!r} is unknown{nearest(choice, known)}"
                raise ConfigurationError(message)


def _url(entry: EndpointEntry, where: str, environment: Mapping[str, str] | None) -> Secret:
    what = f"[{where}] url"
    url = Secret(entry.url)
    if entry.url.startswith(_REFERENCES):
        url = resolve(entry.url, what, environment)
        if environment is None:
            return url
    try:
        check_endpoint(url.reveal())
    except ValueError as error:
        message = f"{what}: {error}"
        raise ConfigurationError(message) from None
    parts = split_url(url.reveal())
    host = parts.hostname if parts is not None else None
    if is_private_literal(host) and not is_loopback(host) and not entry.allow_private_addresses:
        message = f"{what}: {host} is a private address; where it is meant, set allow_private_addresses = true"
        raise ConfigurationError(message)
    return url


def _secret(reference: str, where: str, environment: Mapping[str, str] | None) -> Secret:
    secret = resolve(reference, f"[{where}] secret", environment)
    if environment is None:
        return secret
    prefix, _, encoded = secret.reveal().partition("_")
    try:
        # Receivers may hold it without its padding.
        length = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if f"{prefix}_" != SECRET_PREFIX or not FEWEST_BYTES <= length <= MOST_BYTES:
        message = (
            f"[{where}] secret: {reference} does not hold {SECRET_PREFIX}… with {FEWEST_BYTES} to {MOST_BYTES} bytes "
            "in base64; `evergrant webhooks secret` makes one"
        )
        raise ConfigurationError(message)
    return secret
