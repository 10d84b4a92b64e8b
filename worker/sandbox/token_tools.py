"""What a client may do with its tokens beside refreshing: revoke (RFC 7009), introspect (RFC 7662), find endpoints."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from worker.domain.secret import Secret
from worker.sandbox.access_token_validity import is_valid, revoke_access_token
from worker.sandbox.access_tokens import AccessClaims
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.client_request import ClientRequest, counted_refusal, read_client_request
from worker.sandbox.connection import send_reply
from worker.sandbox.families import RevokedBecause
from worker.sandbox.profiles import Profile
from worker.sandbox.refusal import ErrorCode, Refusal, invalid_request
from worker.sandbox.replies import Answered, json_reply, refusal_reply
from worker.sandbox.token_meaning import TokenFacts, TokenMeaning, token_hash, token_meaning


class RevocationEndpoint:
    """Ends the grant of a refresh token, or a single access token; an unknown token is a success (RFC 7009 2.2)."""

    def __init__(self, server: AuthorizationServer, profile: Profile) -> None:
        self._server = server
        self._profile = profile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request = await read_client_request(self._server, self._profile, scope, receive)
        reply = refusal_reply(request) if isinstance(request, Refusal) else self._answer(request)
        await send_reply(reply, scope, receive, send)

    def _answer(self, request: ClientRequest) -> Answered:
        refusal = self._revoke(request)
        if refusal is None:
            return json_reply({})
        return refusal_reply(counted_refusal(self._server, request.client.client_id, refusal))

    def _revoke(self, request: ClientRequest) -> Refusal | None:
        if "token" not in request.parameters:
            return invalid_request("token is missing")
        token = Secret(request.parameters["token"])
        facts = self._server.families.find_token(token_hash(token))
        claims = self._server.access_tokens.read(token)
        owner = facts or claims
        if owner is None:
            return None
        if owner.client_id != request.client.client_id:
            # RFC 7009 section 2.1: a token of another client is refused.
            return Refusal(error=ErrorCode.UNAUTHORIZED_CLIENT, description="the token was issued to another client")
        with self._server.transaction():
            if claims is not None:
                revoke_access_token(self._server, claims)
            else:
                self._server.families.revoke(
                    owner.family_id, because=RevokedBecause.REVOKED_BY_CLIENT, now=self._server.world.now()
                )
        return None


class IntrospectionEndpoint:
    """Tells a client whether one of its tokens is active; introspecting a refresh token does not spend it."""

    def __init__(self, server: AuthorizationServer, profile: Profile) -> None:
        self._server = server
        self._profile = profile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request = await read_client_request(self._server, self._profile, scope, receive)
        reply = refusal_reply(request) if isinstance(request, Refusal) else self._introspect(request)
        await send_reply(reply, scope, receive, send)

    def _introspect(self, request: ClientRequest) -> Answered:
        if "token" not in request.parameters:
            missing = invalid_request("token is missing")
            return refusal_reply(counted_refusal(self._server, request.client.client_id, missing))
        token = Secret(request.parameters["token"])
        claims = self._server.access_tokens.read(token)
        if claims is not None:
            active = claims.client_id == request.client.client_id and is_valid(self._server, claims)
            return json_reply(self._about_access_token(claims) if active else {"active": False})
        facts = self._server.families.find_token(token_hash(token))
        meaning = token_meaning(
            facts,
            client_id=request.client.client_id,
            behaviour=request.client.behaviour,
            now=self._server.world.now(),
        )
        if facts is None or meaning is not TokenMeaning.FRESH:
            return json_reply({"active": False})
        return json_reply(self._about_refresh_token(facts))

    def _about_access_token(self, claims: AccessClaims) -> dict[str, object]:
        return {
            "active": True,
            "token_type": "Bearer",
            "client_id": claims.client_id,
            "username": claims.account,
            "sub": claims.account,
            "scope": claims.scope,
            "iss": claims.issuer,
            "iat": claims.issued_at,
            "exp": claims.expires_at,
            "jti": claims.token_id,
        }

    def _about_refresh_token(self, facts: TokenFacts) -> dict[str, object]:
        about: dict[str, object] = {
            "active": True,
            "client_id": facts.client_id,
            "username": facts.account,
            "sub": facts.account,
            "scope": facts.scope,
            "iss": self._server.issuer(self._profile),
            "iat": int(facts.issued_at),
        }
        end = facts.refresh_end
        return about if end is None else about | {"exp": int(end)}


def metadata(server: AuthorizationServer, profile: Profile) -> dict[str, object]:
    """Return the authorization server metadata of a profile (RFC 8414 section 2)."""
    issuer = server.issuer(profile)
    methods = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + "/authorize",
        "token_endpoint": issuer + profile.token_path,
        "revocation_endpoint": issuer + "/revoke",
        "introspection_endpoint": issuer + "/introspect",
        "scopes_supported": list(profile.scopes),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": [*methods, "none"],
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
    }
