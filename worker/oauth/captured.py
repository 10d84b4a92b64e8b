"""What is kept of redirects and answers beside tokens: an account's own host, a company's number."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from worker.oauth.answer_path import at, is_storable, text_of
from worker.oauth.placeholders import Source
from worker.oauth.provider import Provider
from worker.oauth.reading import Reading

#: Longer than any host, number or name; shorter than what would fill a table.
LONGEST_VALUE: Final = 2048


def captured_from_answer(fields: Mapping[str, Any], reading: Reading, secrets: Collection[str]) -> dict[str, str]:
    """Return what is kept of a token answer, by our names; what is missing, odd or repeats a secret is left out.

    Args:
        fields: the answer's object.
        reading: the provider's facts.
        secrets: the values of all that must not be kept in the clear.

    """
    found = {name: text_of(at(fields, path)) for name, path in reading.captures.items()}
    kept = {name: value for name, value in found.items() if value is not None and _is_harmless(value, secrets)}
    return _accepted(kept, reading.provider) if reading.provider is not None else kept


def captured_from_redirect(provider: Provider, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of the parameters of a redirect, by our names.

    A placeholder's value that does not match its pattern is left out: whoever made the redirect would otherwise choose
    where our secrets are sent.
    """
    declared = {
        name: placeholder.field or name
        for name, placeholder in provider.placeholders.items()
        if placeholder.source is Source.REDIRECT
    }
    wanted = {**provider.redirect.capture, **declared}
    # The code and the state are secrets of this one consent.
    secrets = [parameters[name] for name in (provider.redirect.code, "state") if parameters.get(name)]
    found = {name: parameters[field] for name, field in wanted.items() if field in parameters}
    return _accepted({name: value for name, value in found.items() if _is_harmless(value, secrets)}, provider)


def _accepted(found: Mapping[str, str], provider: Provider) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in found.items():
        declared = provider.placeholders.get(name)
        accepted = declared.accepted(value) if declared is not None else value
        if accepted is not None and provider.misfit({name: accepted}) is None:
            kept[name] = accepted
    return kept


def _is_harmless(value: str, secrets: Collection[str]) -> bool:
    return 0 < len(value) <= LONGEST_VALUE and is_storable(value) and not any(secret in value for secret in secrets)
