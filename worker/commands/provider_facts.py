"""A provider's facts for a person: each with its value as it was written, and with how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel

from worker.commands.shown_values import shown_fact
from worker.domain.duration import write_duration
from worker.oauth.provider import Provider

#: What speaks of the facts and is none itself.
_ABOUT: Final = ("checked", "sources", "notes")
#: Shown by the marks they make; or the same as another key, which is shown.
_NOT_SHOWN: Final = ("name", "inferred", "unknown", "authorize_params")
#: Keys for the few that need them: where they are unset, nothing is unknown.
_RARE: Final = (
    "display_name",
    "client_id_in_body",
    "assertion_audience",
    "upgrade",
    "earliest_margin",
    "latest_margin",
)


class Known(StrEnum):
    """How a fact is known."""

    CERTAIN = "certain"  #: its sources say so
    INFERRED = "inferred"  #: somebody's guess, which nobody has confirmed
    YOURS = "yours"  #: this deployment's configuration says so
    DEFAULT = "default"  #: nobody says so, and RFC 6749 or Evergrant has it that way
    UNKNOWN = "unknown"  #: nobody has established it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One key of a provider."""

    key: str
    value: str
    known: Known | None  #: None: it speaks of the facts
    instead_of: str | None = None  #: the catalogue's value, where this deployment has another


def facts_of(provider: Provider, catalogue: Mapping[str, Any], own: Mapping[str, Any]) -> list[Fact]:
    """Return everything that is known of a provider, and what is not, in the order of the schema.

    Args:
        provider: the two tables together, validated.
        catalogue: its table in the catalogue; empty where it has none.
        own: its table in the configuration; empty where that has none.

    """
    shipped, overriding = dict(_leaves(catalogue)), dict(_leaves(own))
    written = {**shipped, **overriding}
    found: list[Fact] = []
    for field, about in type(provider).model_fields.items():
        keys = [key for key in written if key.partition(".")[0] == field]
        found += [_fact(key, written, shipped, overriding, provider.inferred) for key in keys]
        if not keys and field not in (*_NOT_SHOWN, *_ABOUT, *_RARE) and not _is_table(about.get_default()):
            found.append(_unwritten(field, about.get_default()))
    return [fact for fact in found if fact.key.partition(".")[0] not in _NOT_SHOWN]


def sureness(provider: Provider, catalogue: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return in a word or two how sure a provider's facts are."""
    if not catalogue:
        return Known.YOURS
    word = f"{len(provider.inferred)} inferred" if provider.inferred else "docs"
    return f"{word} + yours" if own else word


def matches(provider: Provider, word: str) -> bool:
    """Tell whether a provider is meant by a word: a part of its name, its display name or one of its hosts."""
    searched = (provider.name, provider.display_name or "", *hosts_of(provider))
    return any(word.casefold() in text.casefold() for text in searched)


def hosts_of(provider: Provider) -> Sequence[str]:
    """Return the hosts of a provider's endpoints, placeholders and all."""
    steps = (provider.code, provider.refresh, *([provider.upgrade] if provider.upgrade is not None else []))
    urls = (
        provider.authorization_endpoint,
        provider.token_endpoint,
        provider.revocation_endpoint,
        provider.issuer,
        *(step.endpoint for step in steps),
    )
    return list(dict.fromkeys(urlsplit(url).netloc for url in urls if url is not None))


def _fact(
    key: str,
    written: Mapping[str, object],
    shipped: Mapping[str, object],
    overriding: Mapping[str, object],
    inferred: Sequence[str],
) -> Fact:
    value = shown_fact(key, _text(written[key]))
    if key.partition(".")[0] in _ABOUT:
        return Fact(key=key, value=value, known=None)
    if key in overriding:
        before = shown_fact(key, _text(shipped[key])) if key in shipped else None
        return Fact(key=key, value=value, known=Known.YOURS, instead_of=before if before != value else None)
    is_guess = any(key == guess or key.startswith(f"{guess}.") for guess in inferred)
    return Fact(key=key, value=value, known=Known.INFERRED if is_guess else Known.CERTAIN)


def _unwritten(key: str, default: object) -> Fact:
    if default is None:
        return Fact(key=key, value="unknown", known=Known.UNKNOWN)
    return Fact(key=key, value=_text(default), known=Known.DEFAULT)


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the whole path and value of everything that a table of the configuration holds."""
    for key, value in table.items():
        # The short way to write `authorize.params` is shown as the long one, which is what it is.
        path = "authorize.params" if not prefix and key == "authorize_params" else f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        elif isinstance(value, list) and path in ("errors", "sources", "notes"):
            yield from ((f"{path}.{place}", entry) for place, entry in enumerate(value, start=1))
        else:
            yield path, value


def _is_table(value: object) -> bool:
    """Tell whether a default stands for "the RFC's way": an empty table or list, or a table without a word in it."""
    return isinstance(value, BaseModel) or value in ({}, ())


def _text(value: object) -> str:  # noqa: PLR0911 -- one line for each kind of value
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            return write_duration(value)
        case Mapping() if "outcome" in value:
            return _rule(value)
        case Mapping():
            return ", ".join(f"{name} = {_text(inner)}" for name, inner in value.items())
        case list() | tuple():
            return ", ".join(_text(inner) for inner in value) or "none"
        case str() if not value.strip():
            return f'"{value}"'  # a space would not be seen
        case _:
            return str(value)


def _rule(rule: Mapping[str, Any]) -> str:
    """Return an error rule as a sentence."""
    parts = []
    if "status" in rule:
        parts.append(f"status {_text(rule['status'])}")
    if "value" in rule:
        parts.append(f"{rule.get('field', 'error')} is {_text(rule['value'])}")
    elif "field" in rule:
        parts.append(f"{rule['field']} is there")
    if "description" in rule:
        parts.append(f"the description matches {rule['description']}")
    means = " ".join(_text(rule[key]) for key in ("outcome", "reason") if key in rule)
    wait = f", wait {rule['retry_after']}" if "retry_after" in rule else ""
    return f"{', '.join(parts)}: {means}{wait}"
