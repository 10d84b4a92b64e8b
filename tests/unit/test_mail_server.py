"""EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM: what they say, and what is refused without repeating it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.mail.server import MailServer, Starttls, read_mail_server, read_sender
from worker.settings import load_settings


def _server(url: str) -> MailServer:
    return read_mail_server(Secret(url))


def _refused(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"EVERGRANT_SMTP_URL": url, "EVERGRANT_MAIL_FROM": "tokens@example.com"})
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "port", "tls", "starttls"),
    [
        ("smtp://mail.example", 587, False, Starttls.REQUIRED),
        ("smtp://mail.example:2525/", 2525, False, Starttls.REQUIRED),
        ("smtp://mail.example?starttls=optional", 587, False, Starttls.OPTIONAL),
        ("smtp://relay.internal?starttls=off", 587, False, Starttls.OFF),
        ("smtp://localhost", 25, False, Starttls.OPTIONAL),
        ("smtp://[::1]:1025?starttls=required", 1025, False, Starttls.REQUIRED),
        ("smtps://mail.example", 465, True, Starttls.REQUIRED),
    ],
)
def test_what_is_not_said_is_the_safe_choice(url: str, port: int, tls: bool, starttls: Starttls) -> None:
    """Nothing crosses a network unencrypted unless the URL says so, and ports are those that the RFCs name."""
    found = _server(url)

    assert (found.port, found.tls, found.starttls) == (port, tls, starttls)
    assert (found.username, found.password) == (None, None)


@given(user=st.text(min_size=1).filter(str.strip), password=st.text(min_size=1))
def test_user_and_password_are_percent_encoded(user: str, password: str) -> None:
    """Whatever characters they have, they arrive as they are, and the password does not show."""
    found = _server(f"smtp://{quote(user, safe='')}:{quote(password, safe='')}@mail.example")

    assert (found.host, found.username, found.password) == ("mail.example", user, Secret(password))
    assert "***" in repr(found)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mail.example:587", "is not of the form"),
        ("http://mail.example", "is not of the form"),
        ("smtp://", "is not of the form"),
        ("smtp://u:hunter2@mail.example/inbox", "is not of the form"),
        ("smtp://u:hunter2@mail.example#top", "is not of the form"),
        ("smtp://u:hunter2@mail.example:port", "is not of the form"),
        ("smtp://u:hunter2@mail.example:0", "is not of the form"),
        ("smtp://u:hunter2@[::1", "is not of the form"),
        ("smtp://u:hunter2@mail example", "is not of the form"),
        ("smtp://u:%ff%fehunter2@mail.example", "must be percent-encoded UTF-8"),
        ("smtp://hunter2@mail.example", "must give a user and a password, or neither"),
        ("smtp://u:hunter2@mail.example?starttls=off", "would send the password in the clear"),
        ("smtp://u:hunter2@mail.example?starttls=optional", "would send the password in the clear"),
        ("smtp://u:hunter2@mail.example?starttls=sometimes", "starttls must be required, optional or off"),
        ("smtp://u:hunter2@mail.example?tls=hunter2", "takes nothing behind its question mark but"),
        ("smtps://u:hunter2@mail.example?starttls=required", "takes nothing behind its question mark but"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(url: str, why: str) -> None:
    """One line names the variable and what is wrong, and no password is in it."""
    message = _refused(url)

    assert message.startswith(f"EVERGRANT_SMTP_URL: {why}")
    assert "hunter2" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("tokens@example.com", "", "tokens@example.com"),
        ("Acme Tokens <tokens@example.com>", "Acme Tokens", "tokens@example.com"),
        ('"Acme, Tokens" <tokens@example.com>', "Acme, Tokens", "tokens@example.com"),
        ("Bücher <tokens@bücher.example>", "Bücher", "tokens@xn--bcher-kva.example"),
    ],
)
def test_a_sender_may_have_a_name(text: str, name: str, address: str) -> None:
    """An address alone, or a name before it; a domain of other letters is written as mail servers take it."""
    found = read_sender(text)

    assert (found.display_name, found.addr_spec) == (name, address)


@pytest.mark.parametrize(
    "text", ["tokens", "tokens@", "@example.com", "a@b, c@d", "a b@example.com", "x\r\n@y", "a@b@"]
)
def test_a_wrong_sender_is_refused_by_name(text: str) -> None:
    """What is no single address stops the start."""
    with pytest.raises(ConfigurationError, match=r"^EVERGRANT_MAIL_FROM: "):
        load_settings({"EVERGRANT_SMTP_URL": "smtp://mail.example", "EVERGRANT_MAIL_FROM": text})


@pytest.mark.parametrize(("given_alone", "missing"), [("SMTP_URL", "MAIL_FROM"), ("MAIL_FROM", "SMTP_URL")])
def test_server_and_sender_go_together(given_alone: str, missing: str) -> None:
    """One without the other would send nothing and say nothing."""
    value = {"SMTP_URL": "smtp://mail.example", "MAIL_FROM": "tokens@example.com"}[given_alone]

    with pytest.raises(ConfigurationError, match=rf"^EVERGRANT_{missing}: is not set"):
        load_settings({f"EVERGRANT_{given_alone}": value})
