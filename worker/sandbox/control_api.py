"""The control API under `/control`: registers clients, seeds grants, orders misbehaviour, tells what was seen."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from worker.domain.secret import Secret
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.behaviour import BEHAVIOUR
from worker.sandbox.clients import Client, new_client
from worker.sandbox.connection import BodyTooLargeError, read_body
from worker.sandbox.control_messages import (
    CHANGE_REDIRECT_URIS,
    CHANGE_SECRET,
    FAMILIES,
    MAX_FAMILIES_AT_ONCE,
    PLACED_ORDER,
    PLACED_ORDERS,
    REGISTER_CLIENT,
    REVOKE_CONSENT,
    SEED_GRANTS,
    TOKEN_RECORD,
    SeedGrants,
)
from worker.sandbox.families import FamilyStatus, RevokedBecause
from worker.sandbox.issuing import start_family
from worker.sandbox.misbehaviour import ORDER
from worker.sandbox.profiles import PROFILES
from worker.sandbox.report import REPORT
from worker.sandbox.tallies import Tally
from worker.sandbox.userinfo import bearer_token

_STATUS: Final = TypeAdapter(FamilyStatus)
_SHA256_BYTES: Final = 32

Message = TypeVar("Message")
Handler = Callable[[Request], Awaitable[Response]]


class _ProblemError(Exception):
    """A control request that cannot be done: HTTP status and what to do instead."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class ControlApi:
    """The handlers of the control API. Each needs the control token as a bearer token."""

    def __init__(self, server: AuthorizationServer, control_token: Secret) -> None:
        self._server = server
        self._control_token = control_token

    def routes(self) -> list[BaseRoute]:
        """Return the routes to mount under `/control`."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/report", self._report),
            ("GET", "/clients", self._list_clients),
            ("POST", "/clients", self._register_client),
            ("PUT", "/clients/{client_id}/behaviour", self._change_behaviour),
            ("PUT", "/clients/{client_id}/secret", self._change_secret),
            ("PUT", "/clients/{client_id}/redirect-uris", self._change_redirect_uris),
            ("POST", "/clients/{client_id}/grants", self._seed_grants),
            ("GET", "/clients/{client_id}/families", self._list_families),
            ("POST", "/clients/{client_id}/revoke-consent", self._revoke_consent),
            ("POST", "/families/{family_id:int}/revoke", self._revoke_family),
            ("GET", "/refresh-tokens/{sha256}", self._token_record),
            ("GET", "/misbehaviours", self._list_orders),
            ("POST", "/misbehaviours", self._place_order),
            ("DELETE", "/misbehaviours/{order_id:int}", self._cancel_order),
        ]
        return [Route(path, self._guarded(handler), methods=[method]) for method, path, handler in table]

    def _guarded(self, handler: Handler) -> Handler:
        expected = self._control_token.reveal().encode()

        async def guarded(request: Request) -> Response:
            token = bearer_token(request)
            if token is None or not hmac.compare_digest(token.reveal().encode(), expected):
                detail = "send the control token as `Authorization: Bearer`"
                return JSONResponse({"detail": detail}, HTTPStatus.UNAUTHORIZED, {"www-authenticate": "Bearer"})
            try:
                return await handler(request)
            except _ProblemError as problem:
                return JSONResponse({"detail": problem.detail}, problem.status)

        return guarded

    async def _report(self, request: Request) -> Response:
        client_id = request.query_params.get("client_id")
        if client_id is not None:
            self._known_client(client_id)
        return _json(REPORT.dump_json(self._server.report(client_id)))

    async def _list_clients(self, _request: Request) -> Response:
        return JSONResponse([_shown(client) for client in self._server.clients.all()])

    async def _register_client(self, request: Request) -> Response:
        message = await _read(request, REGISTER_CLIENT)
        if self._server.clients.find(message.client_id) is not None:
            raise _ProblemError(HTTPStatus.CONFLICT, f"client {message.client_id} is already registered")
        profile = PROFILES[message.profile]
        client = new_client(
            client_id=message.client_id,
            profile=profile,
            name=message.name or message.client_id,
            secret=None if message.client_secret is None else Secret(message.client_secret),
            redirect_uris=message.redirect_uris,
            behaviour=message.behaviour or profile.default_behaviour,
        )
        self._save(client)
        return JSONResponse(_shown(client), HTTPStatus.CREATED)

    async def _change_behaviour(self, request: Request) -> Response:
        client = self._client(request).with_behaviour(await _read(request, BEHAVIOUR))
        self._save(client)
        return JSONResponse(_shown(client))

    async def _change_secret(self, request: Request) -> Response:
        message = await _read(request, CHANGE_SECRET)
        client = self._client(request).with_secret(Secret(message.client_secret), keep_previous=message.keep_previous)
        self._save(client)
        return JSONResponse(_shown(client))

    async def _change_redirect_uris(self, request: Request) -> Response:
        message = await _read(request, CHANGE_REDIRECT_URIS)
        client = self._client(request).with_redirect_uris(message.redirect_uris)
        self._save(client)
        return JSONResponse(_shown(client))

    async def _seed_grants(self, request: Request) -> Response:
        client = self._client(request)
        message = await _read(request, SEED_GRANTS)
        with self._server.transaction():
            numbers = range(message.first_number, message.first_number + message.count)
            grants = [self._seed_grant(client, message, number) for number in numbers]
            self._server.tallies.count(client.client_id, Tally.GRANTS_SEEDED, message.count)
        return JSONResponse({"grants": grants}, HTTPStatus.CREATED)

    def _seed_grant(self, client: Client, message: SeedGrants, number: int) -> dict[str, Any]:
        account = f"{message.account_prefix}{number}"
        family_id, answer = start_family(
            self._server,
            client=client,
            account=account,
            scope=" ".join(client.profile.scopes),
            now=self._server.world.now(),
            access_lifetime=message.access_lifetime,
        )
        assert answer.refresh_token is not None
        return {
            "family_id": family_id,
            "account": account,
            "scope": answer.scope,
            "refresh_token": answer.refresh_token.reveal(),
            "access_token": answer.access_token.reveal(),
            "expires_in": answer.expires_in,
        }

    async def _list_families(self, request: Request) -> Response:
        client = self._client(request)
        wanted = request.query_params
        try:
            status = _STATUS.validate_python(wanted["status"]) if "status" in wanted else None
            after = int(wanted.get("after", "0"))
            limit = int(wanted.get("limit", str(MAX_FAMILIES_AT_ONCE)))
        except ValueError as error:
            detail = "status is alive, revoked or expired; after and limit are numbers"
            raise _ProblemError(HTTPStatus.BAD_REQUEST, detail) from error
        families = self._server.families.listing(
            client.client_id,
            status=status,
            after=after,
            limit=max(1, min(limit, MAX_FAMILIES_AT_ONCE)),
            now=self._server.world.now(),
        )
        return _json(FAMILIES.dump_json(families))

    async def _revoke_consent(self, request: Request) -> Response:
        client = self._client(request)
        message = await _read(request, REVOKE_CONSENT)
        with self._server.transaction():
            revoked = self._server.families.revoke_account(
                client.client_id,
                message.account,
                because=RevokedBecause.CONSENT_REVOKED,
                now=self._server.world.now(),
            )
        return JSONResponse({"revoked": revoked})

    async def _revoke_family(self, request: Request) -> Response:
        family_id: int = request.path_params["family_id"]
        if not self._server.families.exists(family_id):
            raise _ProblemError(HTTPStatus.NOT_FOUND, f"there is no family {family_id}")
        with self._server.transaction():
            revoked = self._server.families.revoke(
                family_id, because=RevokedBecause.CONSENT_REVOKED, now=self._server.world.now()
            )
        return JSONResponse({"revoked": int(revoked)})

    async def _token_record(self, request: Request) -> Response:
        try:
            refresh_hash = bytes.fromhex(request.path_params["sha256"])
        except ValueError:
            refresh_hash = b""
        if len(refresh_hash) != _SHA256_BYTES:
            raise _ProblemError(HTTPStatus.BAD_REQUEST, "name the refresh token by its SHA-256, 64 hex digits")
        record = self._server.families.token_record(refresh_hash)
        if record is None:
            raise _ProblemError(HTTPStatus.NOT_FOUND, "no refresh token of that SHA-256 is recorded")
        return _json(TOKEN_RECORD.dump_json(record))

    async def _list_orders(self, _request: Request) -> Response:
        return _json(PLACED_ORDERS.dump_json(self._server.orders.all()))

    async def _place_order(self, request: Request) -> Response:
        order = await _read(request, ORDER)
        if order.client_id is not None:
            self._known_client(order.client_id)
        if order.family_id is not None and not self._server.families.exists(order.family_id):
            raise _ProblemError(HTTPStatus.NOT_FOUND, f"there is no family {order.family_id}")
        with self._server.transaction():
            placed = self._server.orders.place(order)
        return _json(PLACED_ORDER.dump_json(placed), HTTPStatus.CREATED)

    async def _cancel_order(self, request: Request) -> Response:
        with self._server.transaction():
            cancelled = self._server.orders.cancel(request.path_params["order_id"])
        return JSONResponse({"cancelled": int(cancelled)})

    def _client(self, request: Request) -> Client:
        return self._known_client(request.path_params["client_id"])

    def _known_client(self, client_id: str) -> Client:
        client = self._server.clients.find(client_id)
        if client is None:
            raise _ProblemError(HTTPStatus.NOT_FOUND, f"no client {client_id} is registered; register it first")
        return client

    def _save(self, client: Client) -> None:
        with self._server.transaction():
            self._server.clients.save(client)


async def _read(request: Request, shape: TypeAdapter[Message]) -> Message:
    try:
        return shape.validate_json(await read_body(request.receive))
    except BodyTooLargeError as error:
        raise _ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error
    except ValidationError as error:
        # Where and what, but never the value: it may be a secret.
        problems = [f"{'.'.join(str(part) for part in line['loc'])}: {line['msg']}" for line in error.errors()]
        raise _ProblemError(HTTPStatus.BAD_REQUEST, "; ".join(problems)) from error


def _json(body: bytes, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(body, status, media_type="application/json")


def _shown(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "profile": client.profile.name,
        "public": not client.secret_hashes,
        "redirect_uris": client.redirect_uris,
        "behaviour": BEHAVIOUR.dump_python(client.behaviour, mode="json"),
    }
