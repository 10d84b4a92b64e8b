"""The authorization code flow with PKCE (OpenID Connect Core, section 3.1; RFC 7636), done by Authlib.

What a request needs to remember until its answer comes stands sealed in a cookie of the browser that began it, and so
binds the answer to that browser. Beside what Authlib checks (signature, `aud`, `exp`, `nonce`), the issuer is compared
three times: the one that discovery names with the configured one, the one of the answer (RFC 9207), and that of the ID
token.
"""

from __future__ import annotations

import base64
import hmac
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.deprecate import AuthlibDeprecationWarning
from joserfc.errors import JoseError

from worker.domain.errors import SealError
from worker.domain.own_path import FIRST_PAGE
from worker.domain.secret import Secret
from worker.oauth.client_authentication import basic
from worker.openid.table import SignInRules
from worker.storage.sealing import Column, KeyRing

with warnings.catch_warnings():
    # Authlib would rather have httpx's successor, which nothing else here needs.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import StarletteOAuth2App

#: How long somebody may take at the provider: a password, a second factor, a call to the help desk.
REQUEST_LIFETIME: Final = timedelta(minutes=10)
#: Seconds for each request to the provider: somebody waits in front of a browser.
_TIMEOUT: Final = 10.0
#: Characters of a cookie: with its name and attributes it may have 4,096 (RFC 6265, section 6.1).
_LONGEST_REMEMBERED: Final = 3_800
_REQUEST: Final = Column("sign_in", "request")
_BROWSER: Final = "browser"
_DISCOVERY: Final = "/.well-known/openid-configuration"
#: Signatures by the client's own secret, or none at all, are no word of the provider's (RFC 8725, section 3.1).
_ASYMMETRIC: Final = ("RS", "ES", "PS", "Ed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is remembered of a request."""

    state: str
    nonce: str
    code_verifier: str
    return_to: str
    ends_at: float  #: seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A request that a browser is to be sent off with."""

    location: str
    remembered: Secret  #: for the cookie


class WhyNotSignedIn(StrEnum):
    """Why an answer signs nobody in."""

    NOT_BEGUN_HERE = "not_begun_here"  #: no cookie, another state, or too late
    DENIED = "denied"  #: the provider or the person said no
    WRONG_ISSUER = "wrong_issuer"
    NOT_ANSWERED = "not_answered"  #: the provider could not be reached, or said something else than a token
    NOT_GENUINE = "not_genuine"  #: the ID token is not the provider's, not for us, or not for this request


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSignedIn:
    """An answer that signs nobody in."""

    why: WhyNotSignedIn
    detail: str = ""  #: for our own log; nothing secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognized:
    """Whom the provider has recognized."""

    issuer: str
    subject: str
    name: str
    groups: Sequence[str]
    return_to: str


class ProviderUnavailableError(Exception):
    """The provider's own description could not be had, or is another's."""


class OpenIdFlow:
    """Signs people in at one OpenID provider.

    Args:
        rules: `[sign_in]`.
        redirect_uri: where answers come.
        keys: seal what is remembered.
        now: the time, seconds since 1970.

    """

    def __init__(self, rules: SignInRules, redirect_uri: str, keys: KeyRing, now: Callable[[], float]) -> None:
        self.rules = rules
        self._redirect_uri = redirect_uri
        self._keys = keys
        self._now = now
        secret = rules.client_secret
        self._app = StarletteOAuth2App(
            framework=None,
            name="sign_in",
            client_id=rules.client_id,
            client_secret=secret.reveal() if secret is not None else None,
            server_metadata_url=f"{rules.issuer.rstrip('/')}{_DISCOVERY}",
            client_auth_methods=[("client_secret_basic", _basic)],
            client_kwargs={
                "scope": " ".join(rules.scopes),
                "code_challenge_method": "S256",
                "timeout": _TIMEOUT,
                **({} if secret is not None else {"token_endpoint_auth_method": "none"}),
            },
        )

    async def begin(self, return_to: str) -> Begun:
        """Return where to send a browser, and what it must bring back.

        Args:
            return_to: the page of ours that was wanted.

        Raises:
            ProviderUnavailableError: the provider does not answer, or calls itself otherwise than `issuer` says.

        """
        await self._metadata()
        made = await self._app.create_authorization_url(self._redirect_uri)
        asked = Asked(
            state=made["state"],
            nonce=made["nonce"],
            code_verifier=made["code_verifier"],
            return_to=return_to,
            ends_at=self._now() + REQUEST_LIFETIME.total_seconds(),
        )
        remembered = self._remembered(asked)
        if len(remembered) > _LONGEST_REMEMBERED:  # signing in matters more than the page that was wanted
            remembered = self._remembered(replace(asked, return_to=FIRST_PAGE))
        return Begun(location=made["url"], remembered=Secret(remembered))

    def is_answer(self, answer: Mapping[str, str], remembered: Secret | None) -> bool:
        """Tell whether parameters answer a request that this browser began a while ago; the provider is not asked.

        Args:
            answer: the parameters that the browser brought.
            remembered: what its cookie holds.

        """
        return self._answered(answer, remembered) is not None

    async def finish(self, answer: Mapping[str, str], remembered: Secret | None) -> Recognized | NotSignedIn:
        """Return whom an answer of the provider's signs in.

        Args:
            answer: the parameters that the browser brought.
            remembered: what its cookie holds.

        """
        asked = self._answered(answer, remembered)
        if asked is None:
            return NotSignedIn(why=WhyNotSignedIn.NOT_BEGUN_HERE)
        try:
            metadata = await self._metadata()
        except ProviderUnavailableError as error:
            return NotSignedIn(why=WhyNotSignedIn.NOT_ANSWERED, detail=str(error))
        # RFC 9207 section 2.4: a provider that says it names itself must do so.
        said = answer.get("iss")
        is_due = metadata.get("authorization_response_iss_parameter_supported") is True
        if (said is None and is_due) or (said is not None and said != self.rules.issuer):
            return NotSignedIn(why=WhyNotSignedIn.WRONG_ISSUER)
        if "error" in answer or "code" not in answer:
            return NotSignedIn(why=WhyNotSignedIn.DENIED, detail=answer.get("error", "no code"))
        return await self._recognized(asked, answer["code"], metadata)

    async def _recognized(self, asked: Asked, code: str, metadata: Mapping[str, Any]) -> Recognized | NotSignedIn:
        try:
            token = await self._app.fetch_access_token(
                redirect_uri=self._redirect_uri, code=code, code_verifier=asked.code_verifier
            )
            claims = await self._app.parse_id_token(token, nonce=asked.nonce)
            if claims is None:
                return NotSignedIn(why=WhyNotSignedIn.NOT_GENUINE, detail="the answer holds no ID token")
            told = await self._told(token, claims, metadata)
        except JoseError as error:
            # Keys and description are read again at the next attempt: the provider may have changed them.
            for kept in ("jwks", "_loaded_at"):
                self._app.server_metadata.pop(kept, None)
            return NotSignedIn(why=WhyNotSignedIn.NOT_GENUINE, detail=str(error))
        except (AuthlibBaseError, httpx.HTTPError, ValueError, KeyError, TypeError, RuntimeError) as error:
            detail = str(error.error) if isinstance(error, AuthlibBaseError) else type(error).__name__
            return NotSignedIn(why=WhyNotSignedIn.NOT_ANSWERED, detail=detail)
        subject = str(claims["sub"])
        return Recognized(
            issuer=self.rules.issuer,
            subject=subject,
            name=next((str(told[key]) for key in ("email", "preferred_username", "name") if told.get(key)), subject),
            groups=_texts(told.get(self.rules.groups_claim)),
            return_to=asked.return_to,
        )

    async def _told(
        self, token: Mapping[str, Any], claims: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the ID token's claims, with those of userinfo where the groups stand only there."""
        if self.rules.groups_claim in claims or not metadata.get("userinfo_endpoint") or "access_token" not in token:
            return claims
        told = await self._app.userinfo(token=token)
        # OpenID Connect Core section 5.3.2: another subject's claims must not be used.
        return {**told, **claims} if told.get("sub") == claims["sub"] else claims

    async def _metadata(self) -> Mapping[str, Any]:
        try:
            found: dict[str, Any] = await self._app.load_server_metadata()
        except (httpx.HTTPError, ValueError) as error:
            message = f"{self.rules.issuer}{_DISCOVERY} does not answer with a description: {type(error).__name__}"
            raise ProviderUnavailableError(message) from None
        if found.get("issuer") != self.rules.issuer:
            found.pop("_loaded_at", None)  # read again: it may be mended
            message = (
                f"the provider calls itself {found.get('issuer')!r}, and [sign_in] issuer is {self.rules.issuer!r}"
            )
            raise ProviderUnavailableError(message)
        if self.rules.client_secret is not None:
            # OpenID Connect Discovery section 3: where nothing is said, `client_secret_basic` is what it takes.
            taken = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
            method = "client_secret_basic" if "client_secret_basic" in taken else "client_secret_post"
            self._app.client_kwargs["token_endpoint_auth_method"] = method
        offered = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        found["id_token_signing_alg_values_supported"] = [one for one in offered if str(one).startswith(_ASYMMETRIC)]
        return found

    def _remembered(self, asked: Asked) -> str:
        sealed = self._keys.seal(Secret(json.dumps(asdict(asked))), _REQUEST, _BROWSER)
        return base64.urlsafe_b64encode(sealed).decode("ascii")

    def _answered(self, answer: Mapping[str, str], remembered: Secret | None) -> Asked | None:
        asked = self._asked(remembered)
        is_it = asked is not None and hmac.compare_digest(asked.state.encode(), answer.get("state", "").encode())
        return asked if is_it else None

    def _asked(self, remembered: Secret | None) -> Asked | None:
        if remembered is None:
            return None
        try:
            opened = self._keys.open(base64.urlsafe_b64decode(remembered.reveal()), _REQUEST, _BROWSER)
        except (ValueError, SealError):
            return None
        asked = Asked(**json.loads(opened.reveal()))
        return asked if self._now() < asked.ends_at else None


def _basic(client: Any, _method: str, uri: str, headers: dict[str, str], body: str) -> tuple[Any, ...]:  # noqa: ANN401 -- Authlib ships no types
    # RFC 6749 section 2.3.1: form-encoded before it is Basic, which Authlib leaves out.
    return uri, {**headers, **basic(client.client_id, client.client_secret)}, body


def _texts(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
