"""From where a request came: a proxy of ours is believed, link by link from the end; nobody else is."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from worker.web.client_address import client_address, is_from_unnamed_proxy

OURS: Final = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def asked(peer: str | None, *forwarded: str) -> Request:
    """Return a request from a peer, with what it says of others."""
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    client = (peer, 1234) if peer is not None else None
    return Request({"type": "http", "headers": headers, "client": client})


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), "192.0.2.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("203.0.113.9, 198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("203.0.113.9", "198.51.100.7, 10.0.0.2"), "198.51.100.7"),
        ("fd00::1", ("2001:db8::7",), "2001:db8::7"),
        ("10.0.0.1", ("198.51.100.7, <script>",), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        (None, ("198.51.100.7",), None),
    ],
)
def test_the_last_that_is_no_proxy_of_ours_is_who_asked(
    peer: str | None, forwarded: tuple[str, ...], address: str | None
) -> None:
    """Whatever stands before it was written by whoever asked, and is not read."""
    assert client_address(asked(peer, *forwarded), OURS) == address


@given(st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n"), max_size=60))
def test_without_a_proxy_of_ours_the_peer_is_who_asked(written: str) -> None:
    """Whatever is written into the header."""
    assert client_address(asked("192.0.2.1", written), OURS) == "192.0.2.1"
    assert client_address(asked("10.0.0.1", written), ()) == "10.0.0.1"


def test_a_proxy_that_nobody_has_named_is_noticed() -> None:
    """Its header counts for nothing, and that is worth saying: all who come through it have one address."""
    assert is_from_unnamed_proxy(asked("192.0.2.1", "198.51.100.7"), OURS)
    assert not is_from_unnamed_proxy(asked("192.0.2.1"), OURS)
    assert not is_from_unnamed_proxy(asked("10.0.0.1", "198.51.100.7"), OURS)
