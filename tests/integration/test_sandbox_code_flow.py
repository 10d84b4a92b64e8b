"""The authorization code flow against the running sandbox, from the owner's page to the first tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.sandbox_application import (
    REDIRECT_URI,
    Application,
    Clock,
    application,
    redirect_parameters,
    world_at,
)
from worker.domain.secret import Secret
from worker.sandbox.codes import CODE_LIFETIME_S, pkce_challenge
from worker.sandbox.families import FamilyStatus, RevokedBecause
from worker.sandbox.misbehaviour import Misbehaviour, Order, Step
from worker.sandbox.owner import ConsentPageError, allow, deny
from worker.sandbox.profiles import ASKARA, RFC6749, Profile
from worker.sandbox.server import RunningSandbox

VERIFIER = "a-code-verifier-of-at-least-forty-three-characters"

CLOCK = Clock()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """Run one sandbox for this file; each test registers a client of its own."""
    with RunningSandbox(world=world_at(CLOCK)) as running:
        yield running


@pytest.fixture
def askara(sandbox: RunningSandbox) -> Iterator[Application]:
    """Register a client at the Askara profile."""
    with application(sandbox, ASKARA) as client:
        yield client


@pytest.fixture
def rfc6749(sandbox: RunningSandbox) -> Iterator[Application]:
    """Register a client at the RFC 6749 profile."""
    with application(sandbox, RFC6749) as client:
        yield client


def code_of(client: Application, **parameters: str | None) -> str:
    """Have the owner allow the client and return the code."""
    return redirect_parameters(allow(client.authorization_url(**parameters), account="ada@example.com"))["code"]


def test_askara_gives_tokens_exactly_as_its_guide_shows(askara: Application) -> None:
    """Askara's redirect has code and state only, and its answer the four members of the guide and a JWT."""
    redirect = redirect_parameters(allow(askara.authorization_url(), account="ada@example.com"))
    assert set(redirect) == {"code", "state"}
    assert redirect["state"] == "state-1"

    answer = askara.exchange(redirect["code"])

    assert answer.status_code == 200
    tokens = answer.json()
    assert list(tokens) == ["token_type", "expires_in", "access_token", "refresh_token"]
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 86_400
    claims = json.loads(base64.urlsafe_b64decode(tokens["access_token"].split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 86_400
    assert askara.sandbox.control.account_of(Secret(tokens["access_token"])) == "ada@example.com"


def test_rfc6749_gives_scope_issuer_and_no_cache(rfc6749: Application) -> None:
    """The RFC profile names the scope in its answer and itself in the redirect, and lets no cache keep tokens."""
    url = rfc6749.authorization_url(
        scope="profile", code_challenge=pkce_challenge(VERIFIER), code_challenge_method="S256"
    )
    redirect = redirect_parameters(allow(url, account="ada"))
    assert redirect["iss"] == rfc6749.sandbox.url + "/rfc6749"

    answer = rfc6749.exchange(redirect["code"], code_verifier=VERIFIER)

    assert answer.json()["scope"] == "profile"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("challenge", "verifier"),
    [(VERIFIER, VERIFIER + "x"), (VERIFIER, None), (None, VERIFIER)],
    ids=["wrong", "missing", "unasked-for"],
)
def test_a_code_verifier_must_fit_the_challenge(
    rfc6749: Application, challenge: str | None, verifier: str | None
) -> None:
    """A wrong, missing or unasked-for code_verifier is invalid_grant."""
    asked = {} if challenge is None else {"code_challenge": pkce_challenge(challenge), "code_challenge_method": "S256"}
    code = code_of(rfc6749, **asked)

    answer = rfc6749.exchange(code, **({} if verifier is None else {"code_verifier": verifier}))

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_wrong_verifier_leaves_the_code_to_its_owner(rfc6749: Application) -> None:
    """Whoever guesses a verifier cannot spoil the code for the client that has it."""
    code = code_of(rfc6749, code_challenge=pkce_challenge(VERIFIER), code_challenge_method="S256")
    assert rfc6749.exchange(code, code_verifier="x" * 43).status_code == 400

    assert rfc6749.exchange(code, code_verifier=VERIFIER).status_code == 200


def test_a_code_that_comes_twice_revokes_the_family(askara: Application) -> None:
    """The second exchange is invalid_grant, and the tokens of the first are revoked (RFC 6749 section 4.1.2)."""
    code = code_of(askara)
    tokens = askara.exchange(code).json()

    again = askara.exchange(code)

    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert askara.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert askara.sandbox.control.account_of(Secret(tokens["access_token"])) is None
    (family,) = askara.sandbox.control.families(askara.client_id, status=FamilyStatus.REVOKED)
    assert family.revoked_because is RevokedBecause.CODE_REUSED


def test_a_code_lives_a_minute(askara: Application) -> None:
    """A code is good just before its minute is over and invalid_grant after it."""
    first, second = code_of(askara), code_of(askara)
    CLOCK.advance(CODE_LIFETIME_S - 1)
    assert askara.exchange(first).status_code == 200
    CLOCK.advance(1)

    assert askara.exchange(second).json()["error"] == "invalid_grant"


def test_a_code_is_bound_to_redirect_uri_and_client(askara: Application) -> None:
    """Another redirect_uri, or another client, cannot exchange a code, nor revoke anything by trying."""
    code = code_of(askara)
    assert askara.exchange(code, redirect_uri=REDIRECT_URI + "/").json()["error"] == "invalid_grant"
    with application(askara.sandbox, ASKARA) as thief:
        assert thief.exchange(code).json()["error"] == "invalid_grant"

        tokens = askara.exchange(code).json()

        assert thief.exchange(code).json()["error"] == "invalid_grant"
    askara.refreshed(tokens["refresh_token"])


@pytest.mark.parametrize("profile", [ASKARA, RFC6749], ids=lambda profile: profile.name)
def test_a_denied_request_goes_back_with_access_denied(sandbox: RunningSandbox, profile: Profile) -> None:
    """Deny leads back to the client with error=access_denied and the state."""
    with application(sandbox, profile) as client:
        redirect = redirect_parameters(deny(client.authorization_url()))

    assert (redirect["error"], redirect["state"]) == ("access_denied", "state-1")
    assert ("iss" in redirect) is profile.answers_issuer


@pytest.mark.parametrize(
    "parameters",
    [
        {"redirect_uri": REDIRECT_URI + "?more=1"},
        {"redirect_uri": None},
        {"client_id": "nobody"},
        {"client_id": None},
    ],
    ids=["redirect-uri-differs", "redirect-uri-missing", "client-unknown", "client-missing"],
)
def test_an_untrusted_client_or_redirect_uri_shows_a_page(
    askara: Application, parameters: dict[str, str | None]
) -> None:
    """A wrong client_id or redirect_uri shows an error page and never redirects."""
    with pytest.raises(ConsentPageError, match=r"400 .*(client_id|redirect_uri)"):
        allow(askara.authorization_url(**parameters), account="ada")


def test_a_repeated_parameter_shows_a_page(askara: Application) -> None:
    """A parameter that is given twice is refused before anything is believed (RFC 6749 section 3.1)."""
    with pytest.raises(ConsentPageError, match="state is given more than once"):
        allow(askara.authorization_url() + "&state=other", account="ada")


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "profile everything"}, "invalid_scope"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
        ({"code_challenge": "x" * 43, "code_challenge_method": "plain"}, "invalid_request"),
    ],
)
def test_other_mistakes_go_back_to_the_client(
    rfc6749: Application, parameters: dict[str, str | None], error: str
) -> None:
    """What is wrong beside client and redirect URI is told to the client, with its state."""
    redirect = redirect_parameters(allow(rfc6749.authorization_url(**parameters), account="ada"))

    assert (redirect["error"], redirect["state"]) == (error, "state-1")


def test_only_askara_insists_on_state(askara: Application, rfc6749: Application) -> None:
    """A request without state is refused by Askara and accepted by the RFC profile."""
    assert redirect_parameters(allow(askara.authorization_url(state=None), account="a"))["error"] == "invalid_request"
    assert "code" in redirect_parameters(allow(rfc6749.authorization_url(state=None), account="a"))


def test_a_public_client_needs_pkce_and_no_secret(sandbox: RunningSandbox) -> None:
    """A client without a secret exchanges its code with PKCE alone, and is refused without it."""
    with application(sandbox, RFC6749, public=True) as client:
        refused = redirect_parameters(allow(client.authorization_url(), account="ada"))
        code = code_of(client, code_challenge=pkce_challenge(VERIFIER), code_challenge_method="S256")

        assert refused["error"] == "invalid_request"
        assert client.exchange(code, code_verifier=VERIFIER).status_code == 200


def test_the_page_escapes_and_prefills(sandbox: RunningSandbox) -> None:
    """Names and state are escaped, login_hint fills in the account, and the page is shut to scripts and frames."""
    sandbox.control.register_client(
        client_id="hostile",
        client_secret=Secret("s"),
        redirect_uris=(REDIRECT_URI,),
        profile=ASKARA,
        name="<script>alert(1)</script>",
    )
    with application(sandbox, ASKARA, client_id="hostile") as client:
        url = client.authorization_url(state='"><script>alert(2)</script>', login_hint="grace@example.com")
        shown = client.http.get(url)
        redirect = redirect_parameters(allow(url, account="grace"))

    assert "<script>" not in shown.text
    assert "&lt;script&gt;alert(1)" in shown.text
    assert 'value="grace@example.com"' in shown.text
    assert "Read your name and e-mail address" in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert redirect["state"] == '"><script>alert(2)</script>'


def test_an_empty_account_shows_the_page_again(askara: Application) -> None:
    """Allowing without an account name shows the form again, says why, and issues nothing."""
    url = askara.authorization_url()
    asked = dict(httpx.URL(url).params)

    answer = askara.http.post(url.partition("?")[0], data=asked | {"account": "  ", "decision": "allow"})

    assert answer.status_code == 400
    assert "Give an account name" in answer.text


def test_a_form_without_decision_does_nothing(askara: Application) -> None:
    """A form that says neither allow nor deny is an error page."""
    url = askara.authorization_url()

    answer = askara.http.post(url.partition("?")[0], data=dict(httpx.URL(url).params) | {"account": "ada"})

    assert (answer.status_code, answer.is_redirect) == (400, False)


def test_a_code_exchange_meets_the_faults_ordered_for_it(askara: Application) -> None:
    """An order for the code exchange spares refreshes and meets the next code, whose good use follows."""
    order = Order(kind=Misbehaviour.ERROR_BEFORE, client_id=askara.client_id, times=1, step=Step.CODE_EXCHANGE)
    askara.sandbox.control.order(order)
    askara.refreshed(askara.seed_one().refresh_token)
    code = code_of(askara)

    assert askara.exchange(code).status_code == 503
    assert askara.exchange(code).status_code == 200


def test_consent_revoked_at_the_code_exchange_ends_the_new_family(askara: Application) -> None:
    """With revoked consent ordered, the exchanged tokens are dead on arrival."""
    askara.sandbox.control.order(
        Order(kind=Misbehaviour.REVOKED_CONSENT, client_id=askara.client_id, times=1, step=Step.CODE_EXCHANGE)
    )

    tokens = askara.exchange(code_of(askara)).json()

    assert askara.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
