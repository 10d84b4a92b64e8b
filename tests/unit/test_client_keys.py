"""Clients that send no secret: a signed assertion (RFC 7523), or a certificate (RFC 8705), over real connections."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.x509.oid import NameOID

from worker.domain.errors import ConfigurationError
from worker.domain.outcome import Misconfigured, Outcome, Reason, Rotated
from worker.domain.secret import Secret
from worker.oauth.client import Client
from worker.oauth.client_assertion import ASSERTION_TYPE, sign_assertion
from worker.oauth.client_authentication import Stamp
from worker.oauth.http_client import create_http_client
from worker.oauth.registry import build_registry
from worker.oauth.token_endpoint import TokenEndpoint
from worker.oauth.token_request import Given, refresh_request

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOKENS = b'{"access_token": "at-2", "refresh_token": "rt-2"}'
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey

RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: Key) -> str:
    """Write a private key as configuration refers to it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, name: str = "127.0.0.1") -> str:
    """Sign a certificate with its own key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)  # noqa: TID251 -- a certificate that OpenSSL will look at
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


def client(facts: Mapping[str, Any], keys: Mapping[str, Any], environment: Mapping[str, str]) -> Client:
    """Build a client that has no secret."""
    table = {"authorization_endpoint": "https://acme.example/a", "token_endpoint": "https://acme.example/t", **facts}
    registry = build_registry(
        catalogue={"acme": table},
        providers={},
        clients={"c": {"provider": "acme", "client_id": "abc", **keys}},
        environment=environment,
        public_url="https://tokens.example",
    )
    return registry.client("c")


JWT = {"client_auth": "private_key_jwt"}


@pytest.mark.parametrize(
    ("key", "algorithm", "used"),
    [
        (RSA, None, "RS256"),
        (RSA, "PS512", "PS512"),
        (P256, None, "ES256"),
        (P384, None, "ES384"),
        (ED, None, "EdDSA"),
    ],
    ids=["RS256", "PS512", "ES256", "ES384", "EdDSA"],
)
def test_an_assertion_says_who_we_are(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, algorithm: str | None, used: str
) -> None:
    """RFC 7523 section 3: issuer, subject, audience, a short life and a name of its own, under the key's algorithm."""
    chosen = {"signing_algorithm": algorithm} if algorithm else {}
    configured = client(JWT, {"private_key": "env:K", "key_id": "k-1", **chosen}, {"K": pem(key)})

    request = refresh_request(configured, Secret("rt-1"), None, Given(stamp=Stamp(at=NOW, jti="j-1")))

    form = dict(parse_qsl(request.content.decode()))
    assert form["client_assertion_type"] == ASSERTION_TYPE
    assert "client_id" not in form
    assert "Authorization" not in request.headers
    assertion = form["client_assertion"]
    assert Secret(assertion) in request.secrets
    header = jwt.get_unverified_header(assertion)
    assert (header["alg"], header["kid"]) == (used, "k-1")
    claims = jwt.decode(
        assertion,
        key.public_key(),
        algorithms=[used],
        audience="https://acme.example/t",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (claims["iss"], claims["sub"], claims["jti"]) == ("abc", "abc", "j-1")
    assert claims["iat"] < NOW.timestamp() < claims["exp"] < NOW.timestamp() + 300


def test_the_audience_may_be_the_issuer_and_the_key_may_be_named_by_its_certificate() -> None:
    """Both are the provider's and the client's configuration."""
    environment = {"K": pem(RSA), "C": certificate(RSA)}
    configured = client(
        {**JWT, "assertion_audience": "https://acme.example"},
        {"private_key": "env:K", "certificate": "env:C"},
        environment,
    )
    assertion = sign_assertion(configured, audience="https://acme.example", at=NOW, jti="j").reveal()

    digest = x509.load_pem_x509_certificate(environment["C"].encode()).fingerprint(hashes.SHA256())
    named = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert jwt.get_unverified_header(assertion)["x5t#S256"] == named
    request = refresh_request(configured, Secret("rt"), None, Given(stamp=Stamp(at=NOW, jti="j")))
    sent = dict(parse_qsl(request.content.decode()))["client_assertion"]
    assert json.loads(base64.urlsafe_b64decode(sent.split(".")[1] + "=="))["aud"] == "https://acme.example"


@pytest.mark.parametrize(
    ("facts", "keys", "environment", "problem"),
    [
        (JWT, {}, {}, "private_key is missing: provider 'acme' authenticates with private_key_jwt"),
        (JWT, {"private_key": "hunter2"}, {}, "private_key must be a reference, env:NAME or file:/path"),
        (JWT, {"private_key": "env:K"}, {"K": "hunter2"}, "private_key: is not a PEM private key without a password"),
        (
            JWT,
            {"private_key": "env:K"},
            {"K": pem(x25519.X25519PrivateKey.generate())},
            "private_key: keys of this kind do not sign client assertions",
        ),
        (
            JWT,
            {"private_key": "env:K", "signing_algorithm": "ES256"},
            {"K": pem(RSA)},
            "signing_algorithm: ES256 does not go with this private_key (one of RS256,",
        ),
        (JWT, {"private_key": "env:K", "signing_algorithm": "HS256"}, {"K": pem(RSA)}, "signing_algorithm: "),
        ({"client_auth": "tls_client_auth"}, {}, {}, "certificate is missing: provider 'acme' authenticates with tls"),
        (
            {"client_auth": "tls_client_auth"},
            {"certificate": "env:C"},
            {"C": certificate(P256)},
            "private_key is missing: a certificate is of no use without it",
        ),
        (
            {"client_auth": "tls_client_auth"},
            {"certificate": "env:C", "private_key": "env:K"},
            {"C": certificate(P256), "K": pem(P384)},
            "certificate: does not belong to this private_key",
        ),
        (
            {"client_auth": "tls_client_auth"},
            {"certificate": "env:C", "private_key": "env:K"},
            {"C": "hunter2", "K": pem(P384)},
            "certificate: is not a PEM certificate",
        ),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(
    facts: Mapping[str, Any], keys: Mapping[str, Any], environment: Mapping[str, str], problem: str
) -> None:
    """Each is found before the first refresh, in one line that does not show the key."""
    with pytest.raises(ConfigurationError) as caught:
        client(facts, keys, environment)

    assert str(caught.value).startswith(f"[clients.c] {problem}")
    assert "hunter2" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)


class Answering:
    """An HTTP server that remembers the head and body of each request, and the certificate it came with."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.bodies: list[dict[str, str]] = []
        self.names: list[str | None] = []
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line.partition(":")[2] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        shown = writer.get_extra_info("peercert")
        self.heads.append(head)
        self.bodies.append(dict(parse_qsl(body.decode())))
        self.names.append(dict(part[0] for part in shown["subject"])["commonName"] if shown else None)
        writer.write(self.answers[min(len(self.heads), len(self.answers)) - 1])
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(server: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[Answering]:
    """Run the server on loopback."""
    listening = await asyncio.start_server(server, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def ok(body: bytes = TOKENS, status: str = "200 OK") -> bytes:
    """Return a whole answer."""
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.anyio
async def test_each_request_has_an_assertion_of_its_own() -> None:
    """RFC 7523 section 3: no `jti` is used twice, for a server may take the second for a replay."""
    stamps = iter([Stamp(at=NOW, jti="one"), Stamp(at=NOW, jti="two")])
    async with serving(Answering(ok())) as server, create_http_client(user_agent="x") as http:
        configured = client(
            {**JWT, "token_endpoint": f"http://127.0.0.1:{server.port}/t"}, {"private_key": "env:K"}, {"K": pem(P256)}
        )
        asked = TokenEndpoint(http, lambda: 0.0, lambda: next(stamps))
        outcomes = [(await asked.refresh(configured, Secret(token))).outcome for token in ("rt-1", "rt-2")]

    assert all(isinstance(outcome, Rotated) for outcome in outcomes)
    claims = [jwt.decode(body["client_assertion"], options={"verify_signature": False}) for body in server.bodies]
    assert [claim["jti"] for claim in claims] == ["one", "two"]


@pytest.mark.anyio
async def test_a_certificate_is_shown_by_its_client_alone(tmp_path: Path) -> None:
    """Mutual TLS: the server sees the certificate of the client that has one, and refuses the one that has none."""
    server_pem, ours = certificate(P256), certificate(RSA, "the-client")
    for name, text in {"server": server_pem, "key": pem(P256), "ours": ours}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server", tmp_path / "key")
    tls.load_verify_locations(tmp_path / "ours")
    tls.verify_mode = ssl.CERT_OPTIONAL

    def trust() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(tmp_path / "server"))

    async def refreshed(server: Answering, method: str) -> Outcome:
        keys = {"certificate": "env:C", "private_key": "env:K"} if method != "none" else {}
        facts = {"client_auth": method, "token_endpoint": f"https://127.0.0.1:{server.port}/t"}
        configured = client(facts, keys, {"C": ours, "K": pem(RSA)})
        return (await TokenEndpoint(http, lambda: 0.0).refresh(configured, Secret("rt-1"))).outcome

    async with serving(Answering(ok()), tls) as server, create_http_client(user_agent="x", trust=trust) as http:
        outcomes = [
            await refreshed(server, method) for method in ("tls_client_auth", "self_signed_tls_client_auth", "none")
        ]

    assert all(isinstance(outcome, Rotated) for outcome in outcomes)
    assert server.names == ["the-client", "the-client", None]
    assert [body["client_id"] for body in server.bodies] == ["abc"] * 3


def name_in_folder(common_name: str) -> str:
    """Return under which name OpenSSL looks for an authority in a folder: by a hash of its subject."""
    value = common_name.encode()
    pair = b"\x06\x03\x55\x04\x03\x0c" + bytes([len(value)]) + value
    canonical = b"\x31" + bytes([len(pair) + 2]) + b"\x30" + bytes([len(pair)]) + pair
    return f"{int.from_bytes(hashlib.sha1(canonical, usedforsecurity=False).digest()[:4], 'little'):08x}.0"


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["none", "tls_client_auth"])
@pytest.mark.parametrize(
    ("file", "folder", "is_trusted"),
    [("server", "", True), ("other", "", False), ("other", "authorities", False), ("", "authorities", True)],
)
async def test_trust_is_the_same_with_a_certificate_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, method: str, file: str, folder: str, is_trusted: bool
) -> None:
    """SSL_CERT_FILE alone is trusted, else SSL_CERT_DIR, whether a certificate is shown or not."""
    (tmp_path / "authorities").mkdir()
    of_server = certificate(P256)
    for name, text in {
        "server": of_server,
        "key": pem(P256),
        "other": certificate(RSA, "other"),
        f"authorities/{name_in_folder('127.0.0.1')}": of_server,
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for variable, given in {"SSL_CERT_FILE": file, "SSL_CERT_DIR": folder}.items():
        monkeypatch.setenv(variable, str(tmp_path / given) if given else "")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server", tmp_path / "key")
    keys = {"certificate": "env:C", "private_key": "env:K"} if method != "none" else {}
    async with serving(Answering(ok()), tls) as server, create_http_client(user_agent="x") as http:
        facts = {"client_auth": method, "token_endpoint": f"https://127.0.0.1:{server.port}/t"}
        configured = client(facts, keys, {"C": certificate(RSA), "K": pem(RSA)})
        outcome = (await TokenEndpoint(http, lambda: 0.0).refresh(configured, Secret("rt-1"))).outcome

    assert isinstance(outcome, Rotated) == is_trusted, outcome
    assert (server.heads != []) == is_trusted


@pytest.mark.anyio
async def test_a_server_that_the_configured_trust_does_not_know_is_refused_with_a_certificate_too(
    tmp_path: Path,
) -> None:
    """Showing a certificate does not make the other side's any better."""
    for name, text in {"server": certificate(P256), "key": pem(P256)}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server", tmp_path / "key")
    async with serving(Answering(ok()), tls) as server, create_http_client(user_agent="x") as http:
        facts = {"client_auth": "tls_client_auth", "token_endpoint": f"https://127.0.0.1:{server.port}/t"}
        configured = client(
            facts, {"certificate": "env:C", "private_key": "env:K"}, {"C": certificate(RSA), "K": pem(RSA)}
        )
        outcome = (await TokenEndpoint(http, lambda: 0.0).refresh(configured, Secret("rt-1"))).outcome

    assert isinstance(outcome, Misconfigured)
    assert outcome.cause.reason is Reason.TLS
    assert server.heads == []
