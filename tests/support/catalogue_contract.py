"""What a provider of the catalogue documents, as data: its requests to the letter, its answers, its errors.

One file for each provider, in `tests/contract/catalogue`. Nothing in them is computed: they are what the provider's
pages say, with made-up values in the place of tokens.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from worker.domain.outcome import Tokens
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.registry import build_registry
from worker.oauth.token_request import TokenRequest
from worker.packaged import catalogue_path

FOLDER: Final = Path(__file__).parents[1] / "contract" / "catalogue"

CLIENT_ID: Final = "client-1"
CLIENT_SECRET: Final = Secret("s3cret-Of_ours")
REDIRECT_URI: Final = "https://tokens.example/oauth/callback"
STATE: Final = Secret("state-1")
#: RFC 7636 appendix B; its challenge is E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM.
CODE_VERIFIER: Final = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
# With the characters of Base64, each of which a form and a query write differently.
CODE: Final = Secret("code/1+2=")
REFRESH_TOKEN: Final = Secret("rt-old/1+2=")
ACCESS_TOKEN: Final = Secret("at-old/1+2=")
#: When every answer is sent, and from when their instants count: 1795521600 seconds since 1970.
DATE: Final = "Tue, 24 Nov 2026 12:00:00 GMT"

_DATA: Final = ConfigDict(extra="forbid", frozen=True)


class Brought(BaseModel):
    """What an answer brings; lifetimes in seconds, and whatever is left out must not be there."""

    model_config = _DATA

    access_token: str
    refresh_token: str | None = None
    expires_in: int | None = None
    refresh_expires_in: int | None = None
    scopes: tuple[str, ...] | None = None
    account: str | None = None
    captured: dict[str, str] = {}

    @property
    def tokens(self) -> Tokens:
        """Return it as the code does."""
        return Tokens(
            access_token=Secret(self.access_token),
            refresh_token=None if self.refresh_token is None else Secret(self.refresh_token),
            access_lifetime=None if self.expires_in is None else timedelta(seconds=self.expires_in),
            refresh_lifetime=None if self.refresh_expires_in is None else timedelta(seconds=self.refresh_expires_in),
            scopes=self.scopes,
            account=self.account,
            captured=self.captured,
        )


class Request(BaseModel):
    """One request, to the letter."""

    model_config = _DATA

    request: str  #: the method and the URL
    headers: dict[str, str]
    body: str

    @property
    def method(self) -> str:
        """Return the request's method."""
        return self.request.partition(" ")[0]

    @property
    def url(self) -> str:
        """Return the request's URL."""
        return self.request.partition(" ")[2]


class Exchange(Request):
    """One request for tokens, and the answer to it."""

    answer: str
    tokens: Brought


class Redirect(BaseModel):
    """What the browser brings back beside the code, what of it is kept, and whose data it says that they are."""

    model_config = _DATA

    parameters: dict[str, str]
    code: str
    captured: dict[str, str]
    account: str | None = None


class Failure(BaseModel):
    """One error, and what becomes of it."""

    model_config = _DATA

    what: str
    status: int
    body: str
    headers: dict[str, str] = {}
    step: Literal["code", "refresh"] = "refresh"
    outcome: str
    reason: str
    code: str | None = None
    retry_after: int | None = None


class Contract(BaseModel):
    """One provider's requests, answers and errors."""

    model_config = _DATA

    scopes: tuple[str, ...]
    placeholders: dict[str, str] = {}  #: what the operator fills in
    captured: dict[str, str] = {}  #: what an earlier answer or the redirect filled in
    authorize: str | None = None  #: without it there is no authorization endpoint, and grants are adopted
    redirect: Redirect | None = None
    code: Exchange | None = None
    upgrade: Exchange | None = None
    refresh: Exchange | None = None  #: without it nothing is ever refreshed
    revoke: Request | None = None  #: without it nothing can be revoked at the provider
    errors: tuple[Failure, ...]


@cache
def catalogue() -> Mapping[str, Any]:
    """Return the catalogue as it is shipped."""
    return tomllib.loads(catalogue_path().read_text(encoding="utf-8"))


def written_contracts() -> set[str]:
    """Return the names of the providers that have a contract."""
    return {path.stem for path in FOLDER.glob("*.toml")}


@cache
def contract(name: str) -> Contract:
    """Return a provider's contract; one without is an error of whoever added the provider."""
    path = FOLDER / f"{name}.toml"
    assert path.exists(), f"write down what {name} documents in {path.name}"
    return Contract.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def client_of(name: str, facts: Mapping[str, Any] | None = None) -> Client:
    """Configure a client at a provider of the catalogue.

    Args:
        name: the provider.
        facts: other facts than those that are shipped.

    """
    written = contract(name)
    registry = build_registry(
        catalogue={name: facts or catalogue()[name]},
        providers={},
        clients={
            "c": {
                "provider": name,
                "client_id": CLIENT_ID,
                "client_secret": "env:S",
                "redirect_uri": REDIRECT_URI,
                "scopes": list(written.scopes),
                "placeholders": written.placeholders,
            }
        },
        environment={"S": CLIENT_SECRET.reveal()},
        public_url="https://elsewhere.example",
    )
    return registry.client("c")


def comparable(method: str, url: str, headers: Mapping[str, str], body: str) -> dict[str, Any]:
    """Return a request in a form in which the order of parameters, which says nothing, makes no difference.

    Nothing is decoded but JSON: how each character is written counts.
    """
    address, _, query = url.partition("?")
    kinds = [value for name, value in headers.items() if name.lower() == "content-type"]
    content: Any = json.loads(body) if kinds == ["application/json"] else sorted(body.split("&"))
    return {
        "method": method,
        "address": address,
        "query": sorted(query.split("&")),
        "headers": dict(headers),
        "body": content,
    }


def built(request: TokenRequest) -> dict[str, Any]:
    """Return a request that the code has built, to be compared."""
    return comparable(request.method, request.url, request.headers, request.content.decode("ascii"))


def documented(request: Request) -> dict[str, Any]:
    """Return a request as the provider documents it, to be compared."""
    return comparable(request.method, request.url, request.headers, request.body)
