"""Which addresses requests may go to, and that each connection is held to it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.support.raw_token_endpoint import Server, always, answer, close_at_once, endpoint, serving
from worker.domain.outcome import Cause, Misconfigured, Outcome, Reason, Rotated
from worker.domain.secret import Secret
from worker.oauth.addresses import is_private_literal, is_public
from worker.oauth.registry import build_registry

PRIVATE = Misconfigured(cause=Cause(reason=Reason.PRIVATE_ADDRESS))


@pytest.mark.parametrize(
    "address",
    [
        *["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
        *["2002:101:101::1", "::ffff:0:101:101", "::1.1.1.1", "64:ff9b:1::1.1.1.1"],
        "2001:0:101:101:0:0:fefe:fefe",  # Teredo: server 1.1.1.1, client 1.1.1.1 with its bits turned
    ],
)
def test_public_addresses(address: str) -> None:
    """An address of the public Internet, whichever way it is written."""
    assert is_public(address)
    assert not is_private_literal(address)


@pytest.mark.parametrize(
    "address",
    [
        *["10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.64.0.1"],
        *["192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"],
        *["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"],
        *["::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "64:ff9b::7f00:1", "2002:a00:1::", "2002:7f00:1::"],
        # Site-local; IPv4-compatible; NAT64 for local use; 6to4; Teredo; translated.
        *["fec0::1", "feff::1", "::10.0.0.1", "::127.0.0.1", "::169.254.169.254"],
        *["64:ff9b::169.254.169.254", "64:ff9b:1::a00:1", "64:ff9b:1:a00:0:100::"],
        *["2002:c0a8:101::1", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "2001::1"],
        *["::ffff:0:10.0.0.1", "::ffff:0:127.0.0.1"],
        # For documentation, segment routing, the IETF's own protocols.
        *["3fff::1", "5f00::1", "192.0.0.8", "::ffff:192.0.0.8"],
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    """Private, link-local, shared, reserved, multicast, and IPv6 addresses with such an IPv4 address in them."""
    assert not is_public(address)
    assert is_private_literal(address)


@pytest.mark.parametrize("host", [None, "", "acme.example", "localhost", "10.0.0", "10.0.0.1.example"])
def test_a_name_is_no_address(host: str | None) -> None:
    """What a name leads to shows only when it is connected to."""
    assert not is_private_literal(host)


async def refreshed(host: str, port: int, **facts: Any) -> Outcome:
    """Refresh at a provider of that name, whose certificate nobody checks because nothing gets so far."""
    table = {"authorization_endpoint": "https://acme.example/a", "token_endpoint": f"https://{host}:{port}/t", **facts}
    registry = build_registry(
        catalogue={"acme": table},
        providers={},
        clients={"c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S"}},
        environment={"S": "s"},
        public_url="https://tokens.example",
    )
    async with endpoint() as asked:
        return (await asked.refresh(registry.client("c"), Secret("rt-1"))).outcome


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name lead to these addresses, as a hostile or mistaken DNS would."""

    def getaddrinfo(_host: str, port: int, **_rest: object) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.anyio
@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.1", "127.0.0.2"), ("::1", "127.0.0.1")])
async def test_a_name_that_leads_to_a_private_address_is_not_called(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    """DNS rebinding: the address is looked at when the socket is made, so no connection ever reaches it."""
    resolving(monkeypatch, *addresses)
    server = Server()
    async with serving(server, always(server, answer())):
        outcome = await refreshed("acme.example", server.port)

    assert outcome == PRIVATE
    assert server.connections == 0


@pytest.mark.anyio
async def test_where_it_is_allowed_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow_private_addresses` lets the connection be made; the server closes it, which is another fault."""
    resolving(monkeypatch, "127.0.0.1")
    server = Server()
    async with serving(server, close_at_once):
        outcome = await refreshed("acme.example", server.port, allow_private_addresses=True)

    assert outcome != PRIVATE
    assert not isinstance(outcome, Rotated)
    assert server.connections == 1


@pytest.mark.anyio
async def test_loopback_is_called_where_the_configuration_names_it() -> None:
    """`localhost` in the address is meant; it needs no further permission."""
    server = Server()
    async with serving(server, always(server, answer())), endpoint() as asked:
        table = {
            "authorization_endpoint": "http://localhost/a",
            "token_endpoint": f"http://localhost:{server.port}/token",
        }
        registry = build_registry(
            catalogue={"acme": table},
            providers={},
            clients={"c": {"provider": "acme", "client_id": "abc", "client_secret": "env:S"}},
            environment={"S": "s"},
            public_url="https://tokens.example",
        )
        assert isinstance((await asked.refresh(registry.client("c"), Secret("rt-1"))).outcome, Rotated)
