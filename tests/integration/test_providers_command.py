"""`evergrant providers`: what is known of each provider and how sure it is, and what is wrong with a configuration."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.command_line import CommandLine, Ended
from tests.support.issuer import Issuer, running_issuer
from tests.support.loaded_command_line import LoadedCommandLine
from worker.packaged import catalogue_path

ACME = """
[providers.acme]
display_name = "Acme Works"
authorization_endpoint = "https://login.acme.example/authorize"
token_endpoint = "https://api.acme.example/oauth2/token"
"""
QUIRKS = """
client_auth = "client_secret_post"
rotation = "always"
old_token = "grace"
reuse_grace = "30s"
inferred = ["client_auth", "refresh.params"]
authorize_params = { prompt = "consent" }
placeholders.tenant = { pattern = "[a-z]+", default = "main" }
sources = ["the guide of Acme Works"]
[providers.acme.refresh]
endpoint = "https://refresh.acme.example/{tenant}/again"
params = { lifetime = 3600, long = true }
[providers.acme.answer]
path = "data"
[[providers.acme.errors]]
status = [400, 403]
field = "meta.code"
value = 17
outcome = "dead"
[[providers.acme.errors]]
description = "(?i)slow down"
outcome = "throttled"
retry_after = "10m"
"""
CLIENT = """
[clients.acme-main]
provider = "acme"
client_id = "abc"
client_secret = "env:ACME_SECRET"
redirect_uri = "https://tokens.example/back"
"""


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedCommandLine]:
    """Load the program once for all tests of this file."""
    with LoadedCommandLine() as found:
        yield found


class Providers:
    """Runs `evergrant providers` in a folder of its own."""

    def __init__(self, loaded: LoadedCommandLine, folder: Path) -> None:
        self._loaded = loaded
        self._folder = folder
        self.configuration = folder / "evergrant.toml"
        self.configuration.write_text("", encoding="utf-8")

    def write(self, *parts: str) -> None:
        """Write the configuration."""
        self.configuration.write_text("".join(parts), encoding="utf-8")

    def run(self, *arguments: str) -> Ended:
        """Run one command; it never shows a secret."""
        environment = {"EVERGRANT_CONFIG": str(self.configuration), "ACME_SECRET": "s3cret-of-acme"}
        command_line = CommandLine(folder=self._folder, environment=environment)
        ended = self._loaded.run(command_line, "providers", *arguments)
        assert "s3cret-of-acme" not in ended.out + ended.err
        return ended

    def rows(self, *arguments: str) -> list[list[str]]:
        """Run a command that succeeds with a table, and return the cells below its heads."""
        ended = self.run(*arguments)
        assert (ended.code, ended.err) == (0, "")
        return [re.split(r"\s{2,}", line) for line in ended.out.splitlines()[1:]]


@pytest.fixture
def providers(loaded: LoadedCommandLine, tmp_path: Path) -> Providers:
    """Give each test a folder with an empty configuration."""
    return Providers(loaded, tmp_path)


def shipped() -> set[str]:
    """Return the names in the catalogue."""
    return set(tomllib.loads(catalogue_path().read_text(encoding="utf-8")))


def test_the_list_has_every_provider_on_one_line(providers: Providers) -> None:
    """Without a word every provider of the catalogue is listed, once; JSON has the same ones, with their hosts."""
    listed = providers.rows("list")
    assert [row[0] for row in listed] == sorted(shipped())

    found = {entry["name"]: entry for entry in json.loads(providers.run("list", "--json").out)}
    assert set(found) == shipped()
    assert found["askara"]["hosts"] == ["app.askara.loc", "api.askara.ai"]


@pytest.mark.parametrize("word", ["acme", "ACME", "works", "refresh.acme", "login.acme.example"])
def test_the_list_is_searched_by_name_and_host(providers: Providers, word: str) -> None:
    """A part of the name, the display name or any endpoint's host finds a provider, in upper or lower case."""
    providers.write(ACME, QUIRKS)

    assert providers.rows("list", word) == [
        ["acme", "Acme Works", "always", "grace", "client_secret_post", "yours"],
    ]


def test_the_list_says_how_sure_it_is(providers: Providers) -> None:
    """Facts out of documentation, overridden ones and a deployment's own are told apart; an unknown one says so."""
    [askara] = providers.rows("list", "askara")
    assert askara == ["askara", "Askara", "always", "invalidated", "client_secret_post", "docs"]

    providers.write("[providers.askara]\nrotation = 'sometimes'\ninferred = ['client_auth']\n", ACME)
    rows = {row[0]: row for row in providers.rows("list", "a")}
    assert (rows["askara"][2], rows["askara"][-1]) == ("sometimes", "inferred + yours")
    assert rows["acme"][2:] == ["unknown", "unknown", "client_secret_basic", "yours"]


def test_a_provider_that_is_not_refreshed_has_no_rotation(providers: Providers) -> None:
    """Where the access token itself is exchanged, or never ends, the list says that in the place of a rotation."""
    providers.write(ACME, 'style = "no_refresh"\n')

    [row] = providers.rows("list", "acme")
    assert row[2:4] == ["no_refresh", "-"]


def test_a_word_that_nothing_has_is_said(providers: Providers) -> None:
    """A search without a result fails with one line, which names the nearest provider."""
    ended = providers.run("list", "askra")

    assert (ended.code, ended.out) == (1, "")
    said = "evergrant: no provider has 'askra' in its name or its hosts (did you mean 'askara'?)\n"
    assert ended.err == said


def test_show_marks_each_fact(providers: Providers) -> None:
    """Certain, inferred, overridden, default and unknown are told apart, and the catalogue's own value stays seen."""
    providers.write(
        '[providers.askara]\nauthorization_endpoint = "https://login.askara.example/authorize"\nstrikes = 3\n'
        'inferred = ["client_auth"]\n'
    )
    facts = {key: (known, value) for key, known, value in providers.rows("show", "askara")}

    assert facts["token_endpoint"] == ("certain", "https://api.askara.ai/oauth2/token")
    assert facts["client_auth"] == ("inferred", "client_secret_post")
    assert facts["authorization_endpoint"] == (
        "yours",
        "https://login.askara.example/authorize (the catalogue has https://app.askara.loc/authorize)",
    )
    assert facts["strikes"] == ("yours", "3")
    assert facts["request_timeout"] == ("default", "20s")
    assert facts["refresh_lifetime"] == ("unknown", "unknown")
    assert facts["scope_separator"] == ("certain", '" "')
    assert any(key.startswith("sources.") and known == "-" for key, (known, _) in facts.items())


def test_show_writes_every_quirk_out(providers: Providers) -> None:
    """Sub-tables are shown by their whole paths, rules as sentences, the short way to write parameters as the long."""
    providers.write(ACME, QUIRKS)
    facts = {row[0]: row[-1] for row in providers.rows("show", "acme")}

    assert facts["refresh.endpoint"] == "https://refresh.acme.example/{tenant}/again"
    assert (facts["refresh.params.lifetime"], facts["refresh.params.long"]) == ("3600", "true")
    assert facts["authorize.params.prompt"] == "consent"
    assert facts["placeholders.tenant.default"] == "main"
    assert facts["answer.path"] == "data"
    assert facts["errors.1"] == "status 400, 403, meta.code is 17: dead"
    assert facts["errors.2"] == "the description matches (?i)slow down: throttled, wait 10m"
    assert facts["reuse_grace"] == "30s"


def test_show_as_json_has_the_facts_and_the_marks(providers: Providers) -> None:
    """`--json` has every key of the schema, null for what is unknown, and beside them how each fact is known."""
    providers.write("[providers.askara]\nstrikes = 3\n")
    found = json.loads(providers.run("show", "askara", "--json").out)

    assert (found["name"], found["rotation"], found["refresh_lifetime"]) == ("askara", "always", None)
    known = found["known"]
    assert (known["rotation"], known["strikes"], known["pkce"]) == ("certain", "yours", "unknown")


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_provider_that_nobody_knows_is_named(providers: Providers, command: str) -> None:
    """An unknown name is wrong use, and the nearest known one is suggested."""
    ended = providers.run(command, "askarra")

    assert (ended.code, ended.out) == (2, "")
    said = "evergrant: provider 'askarra' is unknown (did you mean 'askara'?); `evergrant providers list` shows all\n"
    assert ended.err == said


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


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ('pkce = "required"\n', "code_verifier=CODE_VERIFIER"),
        ("", "Authorization: Basic abc:CLIENT_SECRET (in Base64)"),
        ('token_request_encoding = "json"\n', '{"grant_type": "refresh_token", "refresh_token": "REFRESH_TOKEN"}'),
        ('token_request_encoding = "query"\n', "?grant_type=refresh_token&refresh_token=REFRESH_TOKEN"),
        ('refresh.params.access = "{access_token}"\n', "access=ACCESS_TOKEN"),
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
        (ACME + "[[providers.acme.errors]]\nstats = 400\noutcome = 'dead'\n", "(did you mean 'errors.0.status'?)"),
        (ACME + "refresh.params = { tenant = '{tennant}' }\nplaceholders.tenant = {}\n", "(did you mean 'tenant'?)"),
        (ACME + "rotation = 'allways'\n", "rotation: "),
        (ACME + "access_lifetime = '1 hour'\n", "access_lifetime: '1 hour' is not a duration"),
        (ACME + "[[providers.acme.errors]]\nstatus = 401\noutcome = 'dead'\n", "a status alone does not end a grant"),
        (ACME + "placeholders.host = { source = 'redirect' }\n", "pattern is missing"),
        (ACME.replace("https://api", "http://api"), "token_endpoint: must be https://"),
        ("[providers.acme]\ntoken_endpoint = 'https://api.acme.example/t'\n", "authorization_endpoint is missing"),
        (ACME + CLIENT.replace('provider = "acme"', 'provider = "acne"'), "(did you mean 'acme'?)"),
        (ACME + CLIENT.replace("env:ACME_SECRET", "s3cret-of-acme"), "must be a reference, env:NAME or file:/path"),
        ("[provider.acme]\n", "unknown table [provider] (known: providers, clients, worker)"),
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
    assert any(line.startswith("introspection_endpoint: the issuer's address must be https://") for line in said)


def test_endpoints_may_be_found_by_their_issuer(providers: Providers, issuer: Issuer) -> None:
    """A provider of which only the issuer is known is complete enough to ask, and the answer is ready to copy."""
    issuer.publish()
    providers.write(f'[providers.acme]\nissuer = "{issuer.url}"\n')
    ended = providers.run("check", "acme", "--discover")

    assert (ended.code, ended.err) == (0, "")
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
