"""The page on which a resource owner allows or denies a client, and the redirect that follows."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, assert_never
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from worker.domain.secret import Secret
from worker.sandbox.authorization_request import (
    AuthorizationRequest,
    SentToClient,
    ShownToOwner,
    read_authorization_request,
    redirect_location,
)
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.codes import CODE_LIFETIME_S, CodeFacts
from worker.sandbox.connection import BodyTooLargeError, read_body
from worker.sandbox.pages import page
from worker.sandbox.profiles import Profile
from worker.sandbox.refusal import ErrorCode, Refusal

_SUGGESTED_ACCOUNT: Final = "ada@example.com"
_MAX_ACCOUNT: Final = 200  # characters: longer than any name or address that a person types


class AuthorizationEndpoint:
    """Shows the request of one profile's client, and turns the owner's decision into a redirect."""

    def __init__(self, server: AuthorizationServer, profile: Profile) -> None:
        self._server = server
        self._profile = profile

    async def show(self, request: Request) -> Response:
        """Answer GET: the page, an error page, or a refusal sent to the client."""
        pairs = request.query_params.multi_items()
        asked = read_authorization_request(self._server.clients, self._profile, pairs)
        match asked:
            case AuthorizationRequest():
                account = asked.login_hint or _SUGGESTED_ACCOUNT
                return self._consent_page(asked, account=account, pairs=pairs)
            case SentToClient():
                return self._refused(asked)
            case ShownToOwner():
                return _error_page(asked.description)
            case _:
                assert_never(asked)

    async def decide(self, request: Request) -> Response:
        """Answer POST: judge the request again, for the form's hidden fields are the browser's to change."""
        try:
            body = await read_body(request.receive)
        except BodyTooLargeError as error:
            return _error_page(str(error))
        form = parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
        chosen = dict(form)
        asked_pairs = [(name, value) for name, value in form if name not in {"account", "decision"}]
        asked = read_authorization_request(self._server.clients, self._profile, asked_pairs)
        match asked:
            case AuthorizationRequest():
                return self._decided(asked, chosen, asked_pairs)
            case SentToClient():
                return self._refused(asked)
            case ShownToOwner():
                return _error_page(asked.description)
            case _:
                assert_never(asked)

    def _decided(
        self, asked: AuthorizationRequest, chosen: dict[str, str], pairs: Iterable[tuple[str, str]]
    ) -> Response:
        account = chosen.get("account", "").strip()
        match chosen.get("decision"):
            case "allow" if 0 < len(account) <= _MAX_ACCOUNT:
                return self._redirect(asked.redirect_uri, {"code": self._issue_code(asked, account)}, asked.state)
            case "allow":
                message = f"Give an account name of at most {_MAX_ACCOUNT} characters."
                return self._consent_page(asked, account=account[:_MAX_ACCOUNT], pairs=pairs, problem=message)
            case "deny":
                denied = Refusal(error=ErrorCode.ACCESS_DENIED, description="the resource owner denied the request")
                return self._refused(SentToClient(redirect_uri=asked.redirect_uri, state=asked.state, refusal=denied))
            case _:
                return _error_page("The form was sent without a decision.")

    def _issue_code(self, asked: AuthorizationRequest, account: str) -> str:
        code = self._server.world.new_token()
        facts = CodeFacts(
            client_id=asked.client.client_id,
            redirect_uri=asked.redirect_uri,
            account=account,
            scope=asked.scope,
            challenge=asked.challenge,
            expires_at=self._server.world.now() + CODE_LIFETIME_S,
            family_id=None,
        )
        with self._server.transaction():
            self._server.codes.add(Secret(code), facts)
        return code

    def _refused(self, sent: SentToClient) -> Response:
        refusal = sent.refusal
        parameters = {"error": str(refusal.error), "error_description": refusal.description}
        return self._redirect(sent.redirect_uri, parameters, sent.state)

    def _redirect(self, redirect_uri: str, parameters: dict[str, str], state: str | None) -> Response:
        issuer = self._server.issuer(self._profile) if self._profile.answers_issuer else None
        location = redirect_location(redirect_uri, {**parameters, "state": state, "iss": issuer})
        # 303 makes the browser follow with GET and without the form (RFC 9700 section 4.12).
        return RedirectResponse(location, HTTPStatus.SEE_OTHER, {"cache-control": "no-store"})

    def _consent_page(
        self, asked: AuthorizationRequest, *, account: str, pairs: Iterable[tuple[str, str]], problem: str | None = None
    ) -> Response:
        return page(
            "authorize.html",
            status=HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST,
            title=f"{self._profile.title}: allow {asked.client.name}?",
            profile=self._profile,
            client=asked.client,
            scopes=[(scope, self._profile.scopes[scope]) for scope in asked.scope.split()],
            account=account,
            max_account=_MAX_ACCOUNT,
            hidden=list(pairs),
            problem=problem,
        )


def _error_page(description: str) -> Response:
    return page("error.html", status=HTTPStatus.BAD_REQUEST, title="This link does not work", description=description)
