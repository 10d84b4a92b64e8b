"""Asking an issuer for its endpoints: where, what is believed, and what has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.oauth.discovery import Change, Discovered, NotDiscovered, changed, discover, metadata_urls, read_metadata
from worker.oauth.http_client import create_http_client
from worker.oauth.registry import build_registry
from worker.oauth.token_answer import HttpAnswer

ISSUER = "https://acme.example/tenant"
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://acme.example/a",
    "token_endpoint": "https://acme.example/t",
    "revocation_endpoint": "https://acme.example/r",
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt", 7],
    "code_challenge_methods_supported": ["plain", "S256"],
    "authorization_response_iss_parameter_supported": True,
}


def read(fields: object, status: int = 200, issuer: str = ISSUER) -> Discovered | NotDiscovered:
    """Read metadata as it would arrive."""
    return read_metadata(HttpAnswer(status=status, headers={}, body=json.dumps(fields).encode()), issuer)


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://acme.example",
            [
                "https://acme.example/.well-known/openid-configuration",
                "https://acme.example/.well-known/oauth-authorization-server",
            ],
        ),
        (
            "https://acme.example/tenant/",
            [
                "https://acme.example/tenant/.well-known/openid-configuration",
                "https://acme.example/.well-known/oauth-authorization-server/tenant",
                "https://acme.example/.well-known/openid-configuration/tenant",
            ],
        ),
    ],
)
def test_where_metadata_may_stand(issuer: str, urls: list[str]) -> None:
    """OpenID Connect puts it behind the issuer's path, RFC 8414 in front of it."""
    assert list(metadata_urls(issuer)) == urls


def test_metadata_is_read() -> None:
    """Endpoints, methods of client authentication and PKCE are taken as they are said."""
    assert read(METADATA) == Discovered(
        issuer=ISSUER,
        endpoints={
            "authorization_endpoint": "https://acme.example/a",
            "token_endpoint": "https://acme.example/t",
            "revocation_endpoint": "https://acme.example/r",
        },
        client_auth_methods=("client_secret_basic", "private_key_jwt"),
        is_s256_supported=True,
        promises_iss=True,
    )
    assert read({**METADATA, "authorization_response_iss_parameter_supported": "true"}) == read(
        {name: value for name, value in METADATA.items() if not name.startswith("authorization_response")}
    )


@pytest.mark.parametrize("issuer", [f"{ISSUER}/", "https://evil.example", None, 7, ["x"], "x" * 300])
def test_another_issuers_metadata_is_not_believed(issuer: object) -> None:
    """RFC 8414 section 3.3: it must name the very issuer that was asked."""
    found = read({**METADATA, "issuer": issuer})

    assert isinstance(found, NotDiscovered)
    assert repr(ISSUER) in found.why


@pytest.mark.parametrize(("fields", "status"), [(METADATA, 404), (METADATA, 302), ([METADATA], 200), ("x", 200)])
def test_what_is_no_metadata_is_none(fields: object, status: int) -> None:
    """Only a 200 with a JSON object counts."""
    assert read(fields, status) == NotDiscovered(why=f"there is no metadata (status {status})")


def test_an_endpoint_that_could_not_be_used_is_named() -> None:
    """Plain http beyond loopback is reported and not taken."""
    found = read({**METADATA, "token_endpoint": "http://acme.example/t", "revocation_endpoint": 7})

    assert isinstance(found, Discovered)
    assert list(found.endpoints) == ["authorization_endpoint"]
    assert list(found.unusable) == ["token_endpoint"]


def test_a_change_is_reported_and_nothing_is_followed() -> None:
    """A moved token endpoint and a new one are told; what is the same, or no longer said, is not."""
    table = {
        "authorization_endpoint": "https://acme.example/a",
        "token_endpoint": "https://acme.example/old",
        "introspection_endpoint": "https://acme.example/i",
        "issuer": ISSUER,
    }
    pinned = build_registry(
        catalogue={"acme": table}, providers={}, clients={}, environment={}, public_url="https://tokens.example"
    ).providers["acme"]
    found = read(METADATA)
    assert isinstance(found, Discovered)

    assert changed(pinned, found) == (
        Change(key="token_endpoint", pinned="https://acme.example/old", found="https://acme.example/t"),
        Change(key="revocation_endpoint", pinned=None, found="https://acme.example/r"),
    )
    assert pinned.token_endpoint == "https://acme.example/old"


@asynccontextmanager
async def serving(pages: Mapping[str, object]) -> AsyncIterator[tuple[str, list[str]]]:
    """Run an issuer with these pages; `{issuer}` in a text stands for its address."""
    asked: list[str] = []

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        asked.append(path)
        found = pages.get(path)
        body = json.dumps(found).replace("{issuer}", issuer).encode() if found is not None else b""
        status = "200 OK" if found is not None else "404 Not Found"
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield issuer, asked


@pytest.mark.anyio
async def test_the_second_place_is_asked_where_the_first_has_nothing() -> None:
    """A plain OAuth server has RFC 8414's page only."""
    pages = {"/.well-known/oauth-authorization-server": {"issuer": "{issuer}", "token_endpoint": "{issuer}/t"}}
    async with serving(pages) as (issuer, asked), create_http_client(user_agent="x") as http:
        found = await discover(http, issuer)

    assert found == Discovered(issuer=issuer, endpoints={"token_endpoint": f"{issuer}/t"})
    assert asked == ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]


@pytest.mark.anyio
async def test_an_issuer_that_cannot_be_asked_says_why() -> None:
    """No page, nobody there, and a private address are values, each with a reason."""
    async with create_http_client(user_agent="x") as http:
        async with serving({}) as (issuer, _):
            missing = await discover(http, issuer)
        gone = await discover(http, issuer)
        private = await discover(http, "https://10.255.255.1")

    assert missing == NotDiscovered(why="there is no metadata (status 404)")
    assert gone == NotDiscovered(why=f"{issuer.removeprefix('http://')} could not be reached")
    assert private == NotDiscovered(why="10.255.255.1 could not be reached")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@settings(deadline=None)
@given(
    fields=st.fixed_dictionaries({"issuer": st.just(ISSUER)}, optional=dict.fromkeys(list(METADATA)[1:], json_values))
)
def test_no_metadata_raises(fields: dict[str, object]) -> None:
    """Whatever stands in it, every endpoint that comes out can be used."""
    found = read(fields)

    assert isinstance(found, Discovered)
    assert all(url.startswith(("https://", "http://")) for url in found.endpoints.values())
