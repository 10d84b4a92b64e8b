"""`{placeholders}` in addresses and parameters: who fills them, and with what at most."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, model_validator

from worker.oauth.complaints import nearest
from worker.oauth.provider_values import PLACEHOLDER, STRICT, Pattern, split_url

#: In the place of a host: what a host name and its port are made of, and nothing that could end them.
_HOST_PART: Final = re.compile(r"[A-Za-z0-9.-]*(?::[0-9]{1,5})?")
#: In a path or query: RFC 3986's unreserved characters and the slash.
_PATH_PART: Final = re.compile(r"[A-Za-z0-9._~/-]*")
_OPERATORS_OWN: Final = re.compile(r"[A-Za-z0-9._~/:-]+")


class Source(StrEnum):
    """Who fills a placeholder."""

    OPERATOR = "operator"  #: `[clients.NAME.placeholders]`
    REDIRECT = "redirect"  #: a parameter that the authorization server adds to the redirect
    ANSWER = "answer"  #: a member of the token answer


class Placeholder(BaseModel):
    """`[providers.NAME.placeholders.PLACEHOLDER]`.

    A value must match the pattern from end to end; where the pattern has a group, the first group is the value.
    """

    model_config = STRICT

    source: Source = Source.OPERATOR
    pattern: Pattern | None = None
    field: str | None = (
        None  #: the redirect's parameter, or the path in the answer; the placeholder's own name if unset
    )
    default: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _is_bounded(self) -> Placeholder:
        if self.source is not Source.OPERATOR and self.pattern is None:
            # Whoever can add a parameter to the redirect would otherwise choose where our secrets are sent.
            message = f"pattern is missing: what comes from the {self.source} decides where secrets are sent"
            raise ValueError(message)
        if self.source is Source.OPERATOR and self.field is not None:
            message = 'field goes with source = "redirect" or "answer" only'
            raise ValueError(message)
        if self.default is not None and self.accepted(self.default) is None:
            message = "default does not match the pattern"
            raise ValueError(message)
        return self

    def accepted(self, value: str) -> str | None:
        """Return what a value fills in, or None where it does not match."""
        match = (self.pattern or _OPERATORS_OWN).fullmatch(value)
        if match is None:
            return None
        return match[1] if match.re.groups else match[0]


def names_in(templates: Iterable[str]) -> list[str]:
    """Return the names of all placeholders in some texts, each once, in order."""
    return list(dict.fromkeys(name for template in templates for name in _names(template)))


@lru_cache(maxsize=4096)  # the same few texts of the configuration are looked at for every request
def _names(template: str) -> tuple[str, ...]:
    return tuple(PLACEHOLDER.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Fill in the placeholders that have a value; the others stay."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def fits(template: str, name: str, value: str) -> bool:
    """Tell whether a value may stand where a template has its placeholder.

    It can end neither host nor path, and what comes of it is an address: no part of a host name is empty or too long.
    """
    in_host = name in names_in([urlsplit(template).netloc])
    if ".." in value or "//" in value or (_HOST_PART if in_host else _PATH_PART).fullmatch(value) is None:
        return False
    return split_url(PLACEHOLDER.sub("x", fill(template, {name: value}))) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A text that may hold placeholders."""

    key: str  #: where it stands
    text: str
    known: frozenset[str]  #: what it may name beside the provider's own placeholders
    is_address: bool = False


def undeclared(
    templates: Iterable[Template], declared: Mapping[str, Placeholder], reserved: frozenset[str]
) -> str | None:
    """Return what is wrong between a provider's texts and its placeholders, in one line, or None where nothing is.

    Args:
        templates: all texts that may hold placeholders.
        declared: the provider's own placeholders.
        reserved: the names that requests fill in by themselves.

    """
    for name in declared:
        if names_in([f"{{{name}}}"]) != [name] or name in reserved:
            return f"placeholders.{name}: a placeholder needs a name of its own, of lower-case letters and digits"
    for template in templates:
        for name in names_in([template.text]):
            placeholder = declared.get(name)
            if placeholder is None and name not in template.known:
                names = {*declared, *template.known}
                close = nearest(name, names) if names else ""
                return f"{template.key} names {{{name}}}, and no [placeholders.{name}] says who fills it{close}"
            default = placeholder.default if placeholder is not None else None
            filled = placeholder.accepted(default) if placeholder is not None and default is not None else None
            if filled is not None and template.is_address and not fits(template.text, name, filled):
                return f"placeholders.{name}: the default does not fit into {template.key}"
    return None
