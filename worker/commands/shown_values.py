"""Which values of the configuration a command shows. Secrets are references; a literal one is hidden all the same.

A header is shown where its name is known for a harmless one, a parameter unless its name is that of a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from worker.oauth.client import Client
from worker.oauth.placeholders import names_in
from worker.oauth.provider import REQUEST_VALUES, Provider
from worker.oauth.provider_steps import AuthorizeStep, TokenStep, ToolStep, UserinfoStep
from worker.oauth.provider_values import PLACEHOLDER, Parameter

STARS: Final = "***"
#: In a request that is shown encoded, where stars would be written as %2A.
WORD: Final = "HIDDEN"
#: Headers that say what is wanted and who asks, and prove nothing.
_HARMLESS: Final = re.compile(
    r"accept(?:-.+)?|user-agent|cache-control|pragma|prefer|origin|referer|x-requested-with|(?:.+-)?version"
)
#: What stands before a credential in `Authorization`, and is none itself (RFC 9110 section 11.4).
_SCHEME: Final = re.compile(r"\s*(?:bearer|basic|oauth|token)?\s*", re.IGNORECASE)
#: The last word of a parameter's name that makes its value a secret: `api_key`, but not `token_access_type`.
_SECRET_NAME: Final = re.compile(
    r"(?:.*[_.-])?(?:api)?(?:key|secret|token|password|passphrase|signature|sig|credentials?|assertion|jwt)",
    re.IGNORECASE,
)
_STEPS: Final = ("authorize", "code", "upgrade", "refresh", "revoke", "introspect", "userinfo")


def shown_fact(key: str, value: str) -> str:
    """Return the value of a provider's key as it is shown, by the key's whole path, such as `refresh.headers.X-Key`."""
    first, *more = key.split(".")
    kind, name = (more[0], more[1:]) if first in _STEPS and more else (first, more)
    if kind == "headers":
        return STARS if _is_secret_header(".".join(name), value) else value
    return STARS if kind == "params" and _is_secret_parameter(".".join(name), value) else value


def shown_provider(provider: Provider) -> dict[str, Any]:
    """Return a provider as JSON has it, without what is not shown."""
    return _shown(provider.model_dump(mode="json"))


def _shown(table: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for key, value in table.items():
        match key, value:
            case "headers", Mapping():
                shown[key] = {name: STARS if _is_secret_header(name, text) else text for name, text in value.items()}
            case "params" | "authorize_params", Mapping():
                shown[key] = {name: STARS if _is_secret_parameter(name, text) else text for name, text in value.items()}
            case _, Mapping():
                shown[key] = _shown(value)
            case _:
                shown[key] = value
    return shown


def discreet(client: Client) -> Client:
    """Return a client whose requests can be shown: in the place of hidden values stands a word."""
    provider = client.provider
    steps = {name: getattr(provider, name) for name in _STEPS}
    hidden = {name: _without_secrets(step) for name, step in steps.items() if step is not None}
    return replace(
        client, provider=provider.model_copy(update={"headers": _without_secret_headers(provider.headers), **hidden})
    )


_Request = AuthorizeStep | TokenStep | ToolStep | UserinfoStep


def _without_secrets(step: _Request) -> _Request:
    hidden: dict[str, object] = {
        "params": {name: WORD if _is_secret_parameter(name, value) else value for name, value in step.params.items()}
    }
    if not isinstance(step, AuthorizeStep):
        hidden["headers"] = _without_secret_headers(step.headers)
    return step.model_copy(update=hidden)


def _without_secret_headers(headers: Mapping[str, str]) -> dict[str, str]:
    # What the operator fills in may be a key too; what a request fills in has a word of its own.
    return {
        name: WORD if _is_secret_header(name, text) or not _is_known(name, text) else text
        for name, text in headers.items()
    }


def _is_known(name: str, text: str) -> bool:
    return _HARMLESS.fullmatch(name.lower()) is not None or REQUEST_VALUES.issuperset(names_in([text]))


def _is_secret_header(name: str, text: str) -> bool:
    return _HARMLESS.fullmatch(name.lower()) is None and _SCHEME.fullmatch(PLACEHOLDER.sub("", text)) is None


def _is_secret_parameter(name: str, value: Parameter) -> bool:
    literal = PLACEHOLDER.sub("", value) if isinstance(value, str) else str(value)
    return bool(literal.strip()) and not isinstance(value, bool) and _SECRET_NAME.fullmatch(name) is not None
