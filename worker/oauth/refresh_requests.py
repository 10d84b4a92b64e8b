"""Refresh requests, built once for each client: from one to the next only the token differs.

What a provider's facts make of a request takes as long to work out as sending it does. Where nothing in it depends on
the grant but its refresh token, one is made with a stand-in, in whose place each token is put.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.provider_steps import ClientAuth, RequestEncoding, TokenStep
from worker.oauth.request_encoding import form_encoded
from worker.oauth.request_values import UnfilledError, names_asked_for
from worker.oauth.token_request import Given, TokenRequest, refresh_request

#: Of letters that every encoding leaves as they are, and in no request by chance.
_STAND_IN: Final = Secret("refresh_token.stands.here~7Zq0fJcV3w")
#: What templates may name without knowing a grant.
_CLIENTS_OWN: Final = frozenset({"client_id", "redirect_uri", "scope"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    """A client's request with a gap where the refresh token goes."""

    request: TokenRequest
    before: bytes
    after: bytes
    encoded: Callable[[str], bytes]
    secrets: tuple[Secret, ...]  #: the client's own

    def filled(self, refresh_token: Secret, access_token: Secret | None) -> TokenRequest:
        """Return the request that presents a token."""
        request = self.request
        presented = (refresh_token,) if access_token is None else (refresh_token, access_token)
        return TokenRequest(
            url=request.url,
            headers=request.headers,
            content=self.before + self.encoded(refresh_token.reveal()) + self.after,
            secrets=presented + self.secrets,
            endpoint=request.endpoint,
            method=request.method,
            route=request.route,
        )


class RefreshRequests:
    """Builds the refresh requests of all clients.

    Args:
        whole: gives the headers that a request goes out with, from its own.

    """

    def __init__(self, whole: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        self._whole = whole
        #: By client: which one it was, for a new configuration brings another one of the same name.
        self._examples: dict[str, tuple[Client, dict[Secret | None, _Example | None]]] = {}

    def build(self, client: Client, refresh_token: Secret, client_secret: Secret | None, given: Given) -> TokenRequest:
        """Build what `refresh_request` does; arguments and exceptions are its own."""
        example = self._example(client, client_secret)
        if example is None:
            return refresh_request(client, refresh_token, client_secret, given)
        return example.filled(refresh_token, given.access_token)

    def _example(self, client: Client, client_secret: Secret | None) -> _Example | None:
        of, examples = self._examples.get(client.name, (None, {}))
        if of is not client:
            examples = {}
            self._examples[client.name] = client, examples
        if client_secret not in examples:
            examples[client_secret] = self._made(client, client_secret)
        return examples[client_secret]

    def _made(self, client: Client, client_secret: Secret | None) -> _Example | None:
        step = client.provider.refresh
        encoding = step.encoding or client.provider.token_request_encoding
        if encoding not in _ENCODED or not _is_the_same_for_all(client, step):
            return None
        try:
            request = refresh_request(client, _STAND_IN, client_secret)
        except UnfilledError:
            return None  # whoever asks is told
        before, found, after = request.content.partition(_STAND_IN.reveal().encode())
        if not found:  # it is renamed, moved or left out in a way that is not known here
            return None
        return _Example(
            request=replace(request, headers=self._whole(request.headers)),
            before=before,
            after=after,
            encoded=_ENCODED[encoding],
            secrets=tuple(secret for secret in request.secrets if secret != _STAND_IN),
        )


def _is_the_same_for_all(client: Client, step: TokenStep) -> bool:
    """Tell whether a client's requests differ in nothing but the refresh token."""
    provider = client.provider
    if not provider.facts.is_refreshed or (step.client_auth or provider.client_auth) is ClientAuth.PRIVATE_KEY_JWT:
        return False
    named = names_asked_for(provider, step)
    return step.method == "POST" and _CLIENTS_OWN.issuperset(name for name in named if name not in client.placeholders)


def _in_json(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode("ascii")


_ENCODED: Final[Mapping[RequestEncoding, Callable[[str], bytes]]] = {
    RequestEncoding.FORM: form_encoded,
    RequestEncoding.JSON: _in_json,
}
