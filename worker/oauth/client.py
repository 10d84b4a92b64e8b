"""A client: our registration at a provider, as configuration writes it and as the rest of the code uses it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from worker.domain.allowance import ClientLimits
from worker.domain.facts import Keep
from worker.domain.secret import Secret
from worker.oauth.provider import Endpoint, Provider

#: Half of one worker's window, so that one slow provider leaves room for the others.
DEFAULT_MAX_IN_FLIGHT: Final = 100
_RATE: Final = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*/\s*(s|m|h)\s*")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


def _rate(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _RATE.fullmatch(value)
    if match is None or float(match[1]) == 0:
        message = f"{value!r} is not a rate; write a number and a unit, such as 10/s or 600/m"
        raise ValueError(message)
    return float(match[1]) / _SECONDS[match[2]]


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ClientEntry(BaseModel):
    """`[clients.NAME]` as written: secrets are references (`env:NAME`, `file:/path`), never values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    provider: str
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    redirect_uri: Endpoint | None = None
    scopes: tuple[str, ...] = ()
    keep: Keep = Keep.ACCESS
    rate: Annotated[float | None, BeforeValidator(_rate), Field(gt=0, allow_inf_nan=False)] = None
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = DEFAULT_MAX_IN_FLIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One registration at one provider, its secrets resolved; the first secret is tried first."""

    name: str
    provider: Provider
    client_id: str
    client_secrets: tuple[Secret, ...]
    redirect_uri: str
    scopes: tuple[str, ...]
    keep: Keep
    limits: ClientLimits
