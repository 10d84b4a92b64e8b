"""`evergrant providers check`: what is wrong with a configuration, what a client sends, and what issuers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.command_line import CommandLine
from tests.support.issuer import Issuer, running_issuer
from tests.support.loaded_command_line import LoadedCommandLine
from tests.support.providers_command import ACME, CLIENT, QUIRKS, Providers, shipped


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedCommandLine]:
    """Load the program once for all tests of this file."""
    with LoadedCommandLine() as found:
        yield found


@pytest.fixture
def providers(loaded: LoadedCommandLine, tmp_path: Path) -> Providers:
    """Give each test a folder with an empty configuration."""
    return Providers(loaded, tmp_path)


def test_check_finds_nothing_wrong(providers: Providers) -> None:
    """The shipped catalogue and a sound configuration are checked without a request, and nothing is wrong."""
    assert (
        providers.run("check").out
        == f"{len(shipped())} providers, 0 with keys of yours, and 0 clients: nothing wrong\n"
    )

    providers.write(ACME, QUIRKS, CLIENT)
    ended = providers.run("check", "acme")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("provider acme and 1 client: nothing wrong\n")


def test_check_shows_what_a_client_sends(providers: Providers) -> None:
    """The requests of one provider's clients are written out, every quirk applied, with words in place of secrets."""
    providers.write(ACME, QUIRKS, CLIENT, 'scopes = ["read", "write"]\n')

    credentials = "client_id=abc&client_secret=CLIENT_SECRET"
    back = "redirect_uri=https%3A%2F%2Ftokens.example%2Fback"
    asked = f"response_type=code&client_id=abc&{back}"
    assert [line.strip() for line in providers.run("check", "acme").out.splitlines()[1:]] == [
        "client acme-main sends, with its secrets in place of these words:",
        f"authorize  GET https://login.acme.example/authorize?{asked}&scope=read%20write&prompt=consent&state=STATE",
        "code       POST https://api.acme.example/oauth2/token",
        "Content-Type: application/x-www-form-urlencoded",
        f"grant_type=authorization_code&code=CODE&{back}&{credentials}",
        "refresh    POST https://refresh.acme.example/main/again",
        "Content-Type: application/x-www-form-urlencoded",
        f"grant_type=refresh_token&refresh_token=REFRESH_TOKEN&{credentials}&lifetime=3600&long=true",
    ]


def test_check_shows_no_assertion(providers: Providers, tmp_path: Path) -> None:
    """What a private key signs is as good as a secret: stars stand in its place."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    providers.write(ACME, "client_auth = 'private_key_jwt'\n", CLIENT, f"private_key = 'file:{tmp_path / 'key.pem'}'\n")
    ended = providers.run("check", "acme")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("client_assertion=***") == 2


def test_no_secret_is_needed_to_describe(providers: Providers, tmp_path: Path) -> None:
    """Facts and requests are the same on a machine without secrets; check says which one worker and web would lack."""
    providers.write(
        *(ACME, QUIRKS.replace("client_secret_post", "private_key_jwt"), CLIENT),
        f"private_key = 'file:{tmp_path}/none.pem'\ncertificate = 'file:{tmp_path}/none.pem'\n",
    )
    providers.secrets.clear()

    assert providers.rows("list", "acme")[0][0] == "acme"
    assert ["client_auth", "yours", "private_key_jwt"] in providers.rows("show", "acme")
    ended = providers.run("check", "acme")
    assert (ended.code, ended.err) == (0, "")
    first, second, *rest = ended.out.splitlines()
    assert first == "provider acme and 1 client: nothing wrong"
    assert second.endswith("[clients.acme-main] client_secret: environment variable ACME_SECRET is not set")
    assert sum("client_assertion=***" in line for line in rest) == 2


def test_what_is_no_reference_is_checked_without_secrets_too(providers: Providers) -> None:
    """A secret in the place of a reference is a mistake of the file, whatever the machine has."""
    providers.write(ACME, CLIENT.replace("env:ACME_SECRET", "s3cret-of-acme"))
    providers.secrets.clear()
    ended = providers.run("check")

    assert ended.code == 2
    assert "[clients.acme-main] client_secret must be a reference" in ended.err


LITERAL = """
headers = { X-Api-Key = "s3cret-of-acme", X-Acme-Version = "7", Accept = "text/json", X-Client = "{client_id}" }
refresh.headers = { Authorization = "Bearer s3cret-of-acme", X-Tenant = "{tenant}" }
refresh.params = { api_key = "s3cret-of-acme", token_access_type = "offline" }
placeholders.tenant = {}
"""


def test_a_literal_key_is_hidden(providers: Providers) -> None:
    """A key that somebody wrote into a header or a parameter is shown by no command, and everything else is."""
    providers.write(ACME, LITERAL, CLIENT, 'placeholders = { tenant = "s3cret-of-acme" }\n')
    shown = {row[0]: row[-1] for row in providers.rows("show", "acme")}

    assert (
        shown["headers.X-Api-Key"] == shown["refresh.headers.Authorization"] == shown["refresh.params.api_key"] == "***"
    )
    assert (shown["headers.X-Acme-Version"], shown["headers.Accept"]) == ("7", "text/json")
    assert (shown["headers.X-Client"], shown["refresh.params.token_access_type"]) == ("{client_id}", "offline")
    asked = [line.strip() for line in providers.run("check", "acme").out.splitlines()]
    assert asked.count("X-Api-Key: HIDDEN") == 2
    assert asked.count("X-Acme-Version: 7") == asked.count("X-Client: abc") == 2
    assert "X-Tenant: HIDDEN" in asked
    assert asked[-1] == "grant_type=refresh_token&refresh_token=REFRESH_TOKEN&api_key=HIDDEN&token_access_type=offline"
    for command in (("list", "acme"), ("show", "acme")):
        assert '"X-Acme-Version": "7"' in providers.run(*command, "--json").out


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ('pkce = "required"\n', "code_verifier=CODE_VERIFIER"),
        ("", "Authorization: Basic abc:CLIENT_SECRET (in Base64)"),
        ('token_request_encoding = "json"\n', '{"grant_type": "refresh_token", "refresh_token": "REFRESH_TOKEN"}'),
        ('token_request_encoding = "query"\n', "?grant_type=refresh_token&refresh_token=REFRESH_TOKEN"),
        ('refresh.params.access = "{access_token}"\n', "access=ACCESS_TOKEN"),
        ('revocation_endpoint = "https://api.acme.example/gone"\n', "revoke     POST https://api.acme.example/gone"),
        ('userinfo_endpoint = "https://api.acme.example/me"\n', "userinfo   GET https://api.acme.example/me"),
        ('introspection_endpoint = "https://api.acme.example/i"\n', "introspect  POST https://api.acme.example/i"),
        (
            'upgrade = { endpoint = "https://up.acme.example/t", method = "GET", params = { t = "{access_token}" } }\n',
            "upgrade    GET https://up.acme.example/t",
        ),
        (
            'refresh.endpoint = "https://{host}/t"\nplaceholders.host = { source = "redirect", pattern = "[a-z.]+" }\n',
            "refresh    none: nothing fills in {host} of refresh.endpoint",
        ),
    ],
)
def test_check_shows_each_way_to_send(providers: Providers, facts: str, said: str) -> None:
    """Encodings, client authentication, a second exchange, and what only a grant can fill in are all told."""
    providers.write(ACME, facts, CLIENT)

    assert said in providers.run("check", "acme").out


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (ACME + 'client_atuh = "none"\n', "unknown key 'client_atuh' (did you mean 'client_auth'?)"),
        (ACME + "refresh.methd = 'GET'\n", "unknown key 'refresh.methd' (did you mean 'refresh.method'?)"),
        (ACME + "[providers.acme.anwser]\npath = 'data'\n", "unknown key 'anwser' (did you mean 'answer'?)"),
        (
            ACME + "[[providers.acme.errors]]\nstats = 400\noutcome = 'dead'\n",
            "[[providers.acme.errors]] number 1: unknown key 'stats' (did you mean 'status'?)",
        ),
        (ACME + "refresh.params = { tenant = '{tennant}' }\nplaceholders.tenant = {}\n", "(did you mean 'tenant'?)"),
        (ACME + "rotation = 'allways'\n", "rotation: "),
        (ACME + "access_lifetime = '1 hour'\n", "access_lifetime: '1 hour' is not a duration"),
        (ACME + "[[providers.acme.errors]]\nstatus = 401\noutcome = 'dead'\n", "a status alone does not end a grant"),
        (ACME + "placeholders.host = { source = 'redirect' }\n", "pattern is missing"),
        (ACME.replace("https://api", "http://api"), "token_endpoint: must be https://"),
        ("[providers.acme]\ntoken_endpoint = 'https://api.acme.example/t'\n", "authorization_endpoint is missing"),
        (ACME + CLIENT.replace('provider = "acme"', 'provider = "acne"'), "(did you mean 'acme'?)"),
        (ACME + CLIENT.replace("env:ACME_SECRET", "s3cret-of-acme"), "must be a reference, env:NAME or file:/path"),
        ("[provider.acme]\n", "unknown table [provider] (did you mean 'providers'?)"),
    ],
)
def test_check_says_what_is_wrong_and_where(providers: Providers, written: str, said: str) -> None:
    """Whatever is wrong is one line with the file, the table and the key, and for a typo the nearest known key."""
    providers.write(written)
    ended = providers.run("check")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"evergrant: {providers.configuration}: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1, ended.err


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Run an issuer beside the command."""
    with running_issuer() as found:
        yield found


def at(issuer: Issuer, *, token_endpoint: str | None = None, more: str = "") -> str:
    """Write down a provider as the issuer has it, or with another token endpoint."""
    return f"""
[providers.acme]
authorization_endpoint = "{issuer.url}/authorize"
token_endpoint = "{token_endpoint or f"{issuer.url}/token"}"
issuer = "{issuer.url}"
pkce = "supported"
{more}
"""


def test_an_issuer_that_says_the_same_is_nothing_to_report(providers: Providers, issuer: Issuer) -> None:
    """The issuer is asked only where that is said, and its agreement is exit code 0."""
    issuer.publish(code_challenge_methods_supported=["S256"])
    providers.write(at(issuer))
    assert providers.run("check", "acme").code == 0
    assert issuer.asked == []

    ended = providers.run("check", "acme", "--discover")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1:] == [f"acme: {issuer.url} says the same"]
    assert issuer.asked == ["/.well-known/openid-configuration"]


def test_a_token_endpoint_that_moved_is_reported_and_not_followed(providers: Providers, issuer: Issuer) -> None:
    """Both addresses are shown, the exit code is 1, and what is written down stays what it is."""
    issuer.publish()
    providers.write(at(issuer, token_endpoint="https://old.acme.example/token"))
    ended = providers.run("check", "acme", "--discover")

    assert (ended.code, ended.err) == (1, "")
    assert ended.out.splitlines()[1:] == [
        f"acme: {issuer.url} says something else",
        f"  token_endpoint: written down is https://old.acme.example/token, the issuer says {issuer.url}/token",
    ]
    shown = {row[0]: row[-1] for row in providers.rows("show", "acme")}
    assert shown["token_endpoint"] == "https://old.acme.example/token"


def test_what_an_issuer_offers_beside_is_shown_to_be_written_down(providers: Providers, issuer: Issuer) -> None:
    """More endpoints, another client authentication and PKCE are told as they would be written, and are no error."""
    issuer.publish(
        revocation_endpoint=f"{issuer.url}/revoke",
        introspection_endpoint="http://elsewhere.example/introspect",
        token_endpoint_auth_methods_supported=["client_secret_post", "private_key_jwt"],
        code_challenge_methods_supported=["S256"],
        authorization_response_iss_parameter_supported=True,
    )
    providers.write(at(issuer).replace('pkce = "supported"', ""))
    ended = providers.run("check", "acme", "--discover")

    assert (ended.code, ended.err) == (0, "")
    said = [line.strip() for line in ended.out.splitlines()]
    assert f'revocation_endpoint = "{issuer.url}/revoke"' in said
    assert (
        "client_auth: written down is client_secret_basic, the issuer says client_secret_post, private_key_jwt" in said
    )
    assert 'the issuer takes PKCE with S256; pkce = "supported" sends it' in said
    assert any("authorization_response_iss_parameter_supported = true" in line for line in said)
    assert any(line.startswith("introspection_endpoint: the issuer's address must be https://") for line in said)


def test_endpoints_may_be_found_by_their_issuer(providers: Providers, issuer: Issuer) -> None:
    """A provider of which only the issuer is known is complete enough to ask, and the answer is ready to copy."""
    issuer.publish()
    providers.write(f'[providers.acme]\nissuer = "{issuer.url}"\n')
    ended = providers.run("check", "acme", "--discover")

    assert (ended.code, ended.err) == (0, "")
    assert f'    token_endpoint = "{issuer.url}/token"' in ended.out.splitlines()

    # Its client may be written down before.
    providers.write(f'[providers.acme]\nissuer = "{issuer.url}"\n', CLIENT)
    ended = providers.run("check", "acme", "--discover")
    assert (ended.code, ended.err) == (0, "")
    assert "client acme-main sends nothing yet: its provider has no token_endpoint" in ended.out.splitlines()
    assert f'    token_endpoint = "{issuer.url}/token"' in ended.out.splitlines()


@pytest.mark.parametrize(
    ("published", "said"),
    [
        (None, "there is no metadata (status 404)"),
        ({"issuer": "https://evil.example"}, "the metadata names 'https://evil.example' as its issuer"),
    ],
)
def test_an_issuer_that_says_nothing_of_its_own_is_reported(
    providers: Providers, issuer: Issuer, published: dict[str, str] | None, said: str
) -> None:
    """Metadata that is missing, or that is somebody else's, is told with its reason and exit code 1."""
    if published is not None:
        issuer.publish(**published)
    providers.write(at(issuer))
    ended = providers.run("check", "acme", "--discover")

    assert (ended.code, ended.err) == (1, "")
    assert f"acme: {issuer.url} told nothing: {said}" in ended.out


def test_an_issuer_with_a_placeholder_is_asked_as_the_client_has_it(providers: Providers, issuer: Issuer) -> None:
    """The client's value fills the issuer's address; where nobody fills it, that is said and nobody is asked."""
    issuer.publish(issuer=f"{issuer.url}/staff")
    written = at(issuer, more="placeholders.realm = {}").replace(
        f'issuer = "{issuer.url}"', f'issuer = "{issuer.url}/{{realm}}"'
    )
    providers.write(written)
    ended = providers.run("check", "acme", "--discover")
    assert (ended.code, ended.err) == (0, "")
    assert "acme: not asked: no client fills in {realm} of its issuer" in ended.out.splitlines()
    assert issuer.asked == []

    providers.write(written, CLIENT, 'placeholders = { realm = "staff" }\n')
    ended = providers.run("check", "acme", "--discover")
    assert (ended.code, ended.err) == (0, "")
    assert f"acme (client acme-main): {issuer.url}/staff says the same" in ended.out.splitlines()
    assert issuer.asked == ["/staff/.well-known/openid-configuration"]


def test_without_an_issuer_nobody_is_asked(providers: Providers) -> None:
    """A provider without an issuer has nobody to ask, and that is no error."""
    providers.write(ACME)
    ended = providers.run("check", "acme", "--discover")

    assert (ended.code, ended.out.splitlines()[1:]) == (0, ["no issuer to ask"])


def test_check_says_what_would_come_of_an_answer(providers: Providers, tmp_path: Path) -> None:
    """An answer in a file is read by the provider's own facts; without a name or a file there is one clear error."""
    providers.write(ACME, QUIRKS, CLIENT)
    (tmp_path / "answer").write_text('HTTP/1.1 403 Forbidden\n\n{"meta": {"code": 17}}')
    asked = ("--answer", str(tmp_path / "answer"))

    ended = providers.run("check", "acme", *asked)
    assert (ended.code, ended.err) == (0, "")
    assert "answered like this, with status 403: dead, invalid_grant (its code is 17)\n" in ended.out
    unruled = providers.run("check", "acme", *asked, "--status", "200").out
    assert "answered like this, with status 200: in_doubt, unreadable_answer\n" in unruled
    for arguments, said in (
        (asked, "--answer needs the provider's NAME"),
        (("acme", "--answer", "none"), "'none': No such file"),
        (("acme", *asked, "--step", "upgrade"), "provider 'acme' has no upgrade"),
    ):
        ended = providers.run("check", *arguments)
        assert (ended.code, said in ended.err) == (2, True), ended


def test_check_says_that_no_configuration_was_found(loaded: LoadedCommandLine, tmp_path: Path) -> None:
    """Whoever runs it in the wrong folder is told that nothing of theirs was checked."""
    ended = loaded.run(CommandLine(folder=tmp_path), "providers", "check")
    assert "there is no config/evergrant.toml here, and EVERGRANT_CONFIG names no other file\n" in ended.out
