"""What the sandbox reads from requests: parameters, client authentication, authorization requests, access tokens."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.domain.secret import Secret
from worker.sandbox.access_tokens import AccessClaims, AccessTokens
from worker.sandbox.authorization_request import redirect_location
from worker.sandbox.client_authentication import Credentials, read_credentials
from worker.sandbox.codes import pkce_challenge
from worker.sandbox.profiles import ASKARA, RFC6749, BodyEncoding
from worker.sandbox.refusal import ErrorCode, Refusal
from worker.sandbox.request_parameters import read_parameters

FORM = "application/x-www-form-urlencoded"
names = st.text(min_size=1)
filled = st.dictionaries(names, st.text(min_size=1), max_size=8)


@given(parameters=filled)
def test_a_form_and_a_json_object_say_the_same(parameters: dict[str, str]) -> None:
    """Whatever the parameters, both encodings give them back."""
    form = urlencode(parameters).encode()
    body = json.dumps(parameters).encode()

    assert read_parameters(form, content_type=FORM, encoding=BodyEncoding.FORM) == parameters
    assert read_parameters(body, content_type="application/json", encoding=BodyEncoding.JSON) == parameters


@given(body=st.binary(max_size=200), encoding=st.sampled_from(BodyEncoding))
@example(body=b"[" * 100_000, encoding=BodyEncoding.JSON)
@example(body=b"[1]", encoding=BodyEncoding.JSON)
@example(body=b'"text"', encoding=BodyEncoding.JSON)
@example(body=b'{"grant_type": 1}', encoding=BodyEncoding.JSON)
@example(body=b'{"a": {"b": "c"}}', encoding=BodyEncoding.JSON)
@example(body=b"\xff=1", encoding=BodyEncoding.FORM)
@example(body=b"a=%ff", encoding=BodyEncoding.FORM)
@example(body=b"&".join([b"a=1"] * 100), encoding=BodyEncoding.FORM)
def test_no_body_is_more_than_refused(body: bytes, encoding: BodyEncoding) -> None:
    """Any bytes give parameters that are all text, or invalid_request; never an exception."""
    content_type = FORM if encoding is BodyEncoding.FORM else "application/json"

    read = read_parameters(body, content_type=content_type, encoding=encoding)

    if isinstance(read, Refusal):
        assert read.error is ErrorCode.INVALID_REQUEST
    else:
        assert all(value and value.encode() for value in read.values())


@pytest.mark.parametrize(
    "body",
    [b"[1]", b'"text"', b'{"grant_type": 1}', b'{"a": {"b": "c"}}', b"", b'{"a":"1","a":"2"}', b'{"a": "\\ud800"}'],
)
def test_json_that_is_no_object_of_texts_is_refused(body: bytes) -> None:
    """Askara's parameters are a JSON object whose members are strings, each given once."""
    assert isinstance(read_parameters(body, content_type="application/json", encoding=BodyEncoding.JSON), Refusal)


@given(client_id=st.text(min_size=1), secret=st.text())
@example(client_id="a:b", secret="c:d%+ ")
def test_basic_credentials_come_back_as_they_were_encoded(client_id: str, secret: str) -> None:
    """HTTP Basic carries any id and secret when both are form-encoded first (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    header = "Basic " + base64.b64encode(pair.encode()).decode()

    read = read_credentials(RFC6749, authorization=header, parameters={})

    assert read == Credentials(client_id=client_id, client_secret=Secret(secret))


@given(header=st.text(max_size=40) | st.text(max_size=40).map(lambda text: "Basic " + text))
@example(header="Basic " + base64.b64encode(b"no colon").decode())
@example(header="Basic " + base64.b64encode(b"\xff:\xff").decode())
@example(header="Bearer token")
def test_no_authorization_header_is_more_than_refused(header: str) -> None:
    """Any header gives credentials or invalid_client; never an exception."""
    read = read_credentials(RFC6749, authorization=header, parameters={})

    assert isinstance(read, Credentials) or read.error is ErrorCode.INVALID_CLIENT


def test_askara_looks_at_the_body_only() -> None:
    """Where Basic is no method, the header is ignored and the body's credentials count."""
    read = read_credentials(ASKARA, authorization="Basic eDp5", parameters={"client_id": "us", "client_secret": "s"})

    assert read == Credentials(client_id="us", client_secret=Secret("s"))


def test_a_client_id_must_not_contradict_the_header() -> None:
    """A client_id in the form may repeat the header's, not differ from it."""
    header = "Basic " + base64.b64encode(b"us:s").decode()

    same = read_credentials(RFC6749, authorization=header, parameters={"client_id": "us"})
    other = read_credentials(RFC6749, authorization=header, parameters={"client_id": "them"})

    assert isinstance(same, Credentials)
    assert isinstance(other, Refusal)
    assert other.error is ErrorCode.INVALID_REQUEST


@given(parameters=st.dictionaries(st.sampled_from(["code", "state", "iss"]), st.none() | st.text(max_size=20)))
@example(parameters={"state": "a&b=c#d"})
def test_a_redirect_keeps_the_uri_and_adds_its_parameters(parameters: dict[str, str | None]) -> None:
    """The registered URI's own query stays in front, and every value comes back as it was."""
    given_values = [(name, value) for name, value in parameters.items() if value is not None]

    parts = urlsplit(redirect_location("http://127.0.0.1:9/cb?kept=1", parameters))

    assert (parts.netloc, parts.path, parts.fragment) == ("127.0.0.1:9", "/cb", "")
    assert parse_qsl(parts.query, keep_blank_values=True) == [("kept", "1"), *given_values]


CLAIMS = AccessClaims(
    issuer="http://sandbox/askara",
    token_id="jti-1",
    client_id="us",
    family_id=7,
    account="ada@example.com",
    scope="profile",
    issued_at=1000,
    expires_at=2000,
)


def test_an_access_token_is_a_jwt_that_reads_back() -> None:
    """A minted token has a JWT's three parts, names its algorithm, and says what went in."""
    tokens = AccessTokens(b"k" * 32)
    token = tokens.mint(CLAIMS)

    header, payload, _ = token.reveal().split(".")

    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["exp"] == 2000
    assert tokens.read(token) == CLAIMS


@given(position=st.integers(min_value=0, max_value=100), other=st.sampled_from("AZaz09-_.é"))
def test_a_changed_access_token_is_unknown(position: int, other: str) -> None:
    """Changing any one character of a token, or its key, makes it unreadable."""
    tokens = AccessTokens(b"k" * 32)
    text = tokens.mint(CLAIMS).reveal()
    position %= len(text) - 1  # the last character of base64url may differ in bits that are not read
    changed = text[:position] + other + text[position + 1 :]

    assert (tokens.read(Secret(changed)) is None) is (changed != text)
    assert AccessTokens(b"K" * 32).read(Secret(text)) is None


def test_the_pkce_challenge_is_the_specifications() -> None:
    """The verifier of RFC 7636 appendix B has the challenge printed there."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert pkce_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
