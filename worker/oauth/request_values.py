"""What the `{placeholders}` of one request are filled with, and what is left of a parameter when they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.placeholders import fill, names_in
from worker.oauth.provider import Provider
from worker.oauth.provider_steps import TokenStep
from worker.oauth.provider_values import Headers, Parameter, Parameters, check_endpoint

#: What may stand in an address of a tool (`Provider.revocation_endpoint`), percent-encoded.
_TOKENS: Final = ("refresh_token", "access_token")


class UnfilledError(ConfigurationError):
    """A request lacks a value that the provider's facts ask for."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"nothing fills in {{{name}}} of {where}")
        self.name = name


class NothingToRefreshError(ConfigurationError):
    """This provider's access tokens do not end, and it has no request that would renew one."""

    def __init__(self, provider: str) -> None:
        super().__init__(f"provider {provider!r} has nothing to refresh: its access tokens do not end")


def request_values(client: Client, captured: Mapping[str, str], **secrets: Secret | None) -> dict[str, str]:
    """Return the value of each placeholder that has one.

    The operator's word counts before what was captured, and that before a default.

    Args:
        client: whose placeholders, scopes, id and redirect URI are used.
        captured: what this grant's redirect and answers brought.
        secrets: tokens and codes, by the name under which templates may ask for them.

    """
    provider = client.provider
    values = {
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "scope": provider.scope_separator.join(client.scopes),
    }
    for name, declared in provider.placeholders.items():
        value = client.placeholders.get(name)
        if value is None:
            value = _taken(client, name, captured.get(name))
        if value is None and declared.default is not None:
            value = declared.accepted(declared.default)
        if value is not None:
            values[name] = value
    return values | {name: secret.reveal() for name, secret in secrets.items() if secret is not None}


def names_asked_for(provider: Provider, step: TokenStep) -> list[str]:
    """Return the placeholders that stand in a step's address, headers and parameters."""
    endpoint = step.endpoint or provider.token_endpoint or ""
    texts = [endpoint, *provider.headers.values(), *step.headers.values(), *step.params.values()]
    return names_in(text for text in texts if isinstance(text, str))


def _taken(client: Client, name: str, value: str | None) -> str | None:
    """Return a captured value if it may be used: since it was checked, the configuration may have changed."""
    fits = value is not None and client.provider.misfit({name: value}) is None
    return value if fits else None


def filled_url(template: str, values: Mapping[str, str], where: str) -> str:
    """Fill in an address.

    Raises:
        UnfilledError: when a placeholder has no value.

    """
    if "{" not in template:
        return template  # checked when it was configured
    tokens = {name: quote(values[name], safe="", errors="surrogatepass") for name in _TOKENS if name in values}
    url = fill(template, {**values, **tokens})
    left = names_in([url])
    if left:
        raise UnfilledError(left[0], where)
    try:
        return check_endpoint(url)
    except ValueError:
        raise UnfilledError(names_in([template])[0], where) from None


def filled_parameters(templates: Parameters, values: Mapping[str, str], where: str) -> dict[str, Parameter]:
    """Fill in a step's parameters; one that is nothing but an empty value is left out.

    Raises:
        UnfilledError: when a placeholder has no value.

    """
    filled: dict[str, Parameter] = {}
    for name, template in templates.items():
        if not isinstance(template, str):
            filled[name] = template
            continue
        value = _filled(template, values, f"{where}.{name}")
        if value or not names_in([template]):
            filled[name] = value
    return filled


def filled_headers(templates: Headers, values: Mapping[str, str], where: str) -> dict[str, str]:
    """Fill in headers.

    Raises:
        UnfilledError: when a placeholder has no value, or one that would end the header.

    """
    headers = {name: _filled(template, values, f"{where}.{name}") for name, template in templates.items()}
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise UnfilledError(names_in([templates[name]])[0], f"{where}.{name}")
    return headers


def _filled(template: str, values: Mapping[str, str], where: str) -> str:
    for name in names_in([template]):
        if name not in values:
            raise UnfilledError(name, where)
    return fill(template, values)
