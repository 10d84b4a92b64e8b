"""What is kept of redirects and answers beside tokens: the owner's id, an account's own host, a company's number."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from worker.domain.account import LONGEST_ACCOUNT
from worker.oauth.answer_path import at, is_storable, text_of
from worker.oauth.client import Client
from worker.oauth.placeholders import Source
from worker.oauth.provider import Provider
from worker.oauth.reading import Reading
from worker.oauth.request_values import names_asked_for

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
    secrets = _secrets_in(provider, parameters)
    found = {name: parameters[field] for name, field in wanted.items() if field in parameters}
    return _accepted({name: value for name, value in found.items() if _is_harmless(value, secrets)}, provider)


def account_in_redirect(provider: Provider, parameters: Mapping[str, str]) -> str | None:
    """Return whose data a redirect says that the consent is for, where the provider's facts have it there."""
    text = parameters.get(provider.redirect.account) if provider.redirect.account is not None else None
    return text if text is not None and is_account(text, _secrets_in(provider, parameters)) else None


def source_in_answer(path: str) -> str:
    """Return what an account is marked with that stood at a path of a token answer."""
    return f"answer:{path}"


def account_at(fields: Mapping[str, Any], path: str, secrets: Collection[str]) -> str | None:
    """Return the owner's id that stands at a path of an answer; None where none does, or one that is a secret.

    Args:
        fields: the answer's object.
        path: where the provider's facts have it.
        secrets: the values of all that must not be kept in the clear.

    """
    text = text_of(at(fields, path))
    return text if text is not None and is_account(text, secrets) else None


def is_account(text: str, secrets: Collection[str]) -> bool:
    """Tell whether a text can be an owner's id at a provider."""
    return len(text) <= LONGEST_ACCOUNT and _is_harmless(text, secrets)


def _secrets_in(provider: Provider, parameters: Mapping[str, str]) -> list[str]:
    # The code and the state are secrets of this one consent.
    return [parameters[name] for name in (provider.redirect.code, "state") if parameters.get(name)]


def captured_from_elsewhere(client: Client, offered: Mapping[str, str]) -> dict[str, str] | str:
    """Return what is kept of values that somebody else has captured, or what is wrong with them, in one line.

    They decide where secrets are sent, so the same patterns hold for them; and a grant without a value that the address
    of its refreshes needs could not be refreshed at all.
    """
    provider = client.provider
    if not offered and not provider.placeholders:
        return {}
    names = provider.captured_names
    if not names.issuperset(offered):
        known = f" (known: {', '.join(sorted(names))})" if names else ""
        return f"has a name that provider {provider.name!r} keeps nothing under{known}"
    kept = _accepted(offered, provider)
    for name in offered:
        if name not in kept:
            return f"has a value for {name!r} that may not stand there"
    missing = sorted(_needed(client) - kept.keys())
    return f"lacks {missing[0]!r}, which refreshes at provider {provider.name!r} need" if missing else kept


def _needed(client: Client) -> set[str]:
    """Return what a refresh has in its address, parameters or headers and only a redirect or an answer can tell."""
    provider = client.provider
    return {
        name
        for name in names_asked_for(provider, provider.refresh)
        if (declared := provider.placeholders.get(name)) is not None
        and declared.source is not Source.OPERATOR
        and declared.default is None
        and name not in client.placeholders
    }


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
