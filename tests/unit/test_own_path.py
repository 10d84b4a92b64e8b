"""Where a browser may be sent on to: paths of our own, whatever somebody writes into `return_to`."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.domain.own_path import FIRST_PAGE, own_path

HERE = "https://tokens.example/sign-in"


@pytest.mark.parametrize("path", ["/", "/grants?client=acme&q=a%20b", "/grants/018f3c5e-0000-4000-8000-000000000000"])
def test_our_own_paths_are_kept(path: str) -> None:
    """A path with its query leads back to what was wanted."""
    assert own_path(path) == path


@pytest.mark.parametrize(
    "elsewhere",
    [
        *("https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example"),
        *("javascript:alert(1)", "grants", "", " /grants", "/grants\r\nSet-Cookie: a=b", "/ü", "/" * 3000),
        *("///evil.example", "/%0d%0a/\n", "data:text/html,x"),
    ],
)
def test_whatever_leads_elsewhere_is_the_first_page(elsewhere: str) -> None:
    """Other hosts, other schemes, what browsers take for slashes, and line ends are not followed."""
    assert own_path(elsewhere) == FIRST_PAGE
    assert own_path(None) == FIRST_PAGE


@given(st.text(st.characters(max_codepoint=0x2100), max_size=30) | st.from_regex(r"\A[/\\\s:@.a-z?#]{1,12}\Z"))
@example("/@evil.example")
@example("/.//evil.example")
def test_nothing_leaves_this_host(asked: str) -> None:
    """Whatever is asked for, the browser stays here, and a header's line does not end."""
    path = own_path(asked)
    assert path.isprintable()
    assert " " not in path
    went = urlsplit(urljoin(HERE, path))
    assert (went.scheme, went.netloc) == ("https", "tokens.example")
