"""The sandbox as a Starlette application: which path is answered by what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from worker.domain.secret import Secret
from worker.sandbox.authorization_server import AuthorizationServer
from worker.sandbox.authorize import AuthorizationEndpoint
from worker.sandbox.control_api import ControlApi
from worker.sandbox.metrics import exposition
from worker.sandbox.pages import page
from worker.sandbox.profiles import PROFILES, Profile
from worker.sandbox.token_endpoint import TokenEndpoint
from worker.sandbox.token_tools import IntrospectionEndpoint, RevocationEndpoint, metadata
from worker.sandbox.userinfo import Userinfo

_PRUNE_EVERY_S: Final = 30.0  # far below the retention, so the state never holds much more than it must
_PRUNE_ON_AFTER_S: Final = 0.1  # while there is more to forget: most of the time stays with requests


def make_application(server: AuthorizationServer, control_token: Secret) -> Starlette:
    """Return the application; while it runs it prunes the state, and with its end the state is released."""
    # The token endpoints come first: routes are tried in order, and these are asked most.
    routes: list[BaseRoute] = [_token_route(server, profile) for profile in PROFILES.values()]
    for profile in PROFILES.values():
        routes += _authorization_routes(server, profile)
        if profile.token_tools:
            routes += _token_tool_routes(server, profile)
    routes += [
        Route("/userinfo", Userinfo(server).answer),
        Mount("/control", routes=ControlApi(server, control_token).routes()),
        Route("/metrics", _metrics),
        Route("/healthz", _health),
        Route("/", _index(server)),
    ]

    @asynccontextmanager
    async def lifespan(_application: Starlette) -> AsyncIterator[None]:
        pruning = asyncio.create_task(_prune_now_and_then(server))
        yield
        pruning.cancel()
        with suppress(asyncio.CancelledError):
            await pruning
        server.close()

    return Starlette(routes=routes, lifespan=lifespan)


def _token_route(server: AuthorizationServer, profile: Profile) -> Route:
    return Route(profile.prefix + profile.token_path, TokenEndpoint(server, profile), methods=["POST"])


def _authorization_routes(server: AuthorizationServer, profile: Profile) -> list[BaseRoute]:
    endpoint = AuthorizationEndpoint(server, profile)
    path = profile.prefix + "/authorize"
    return [Route(path, endpoint.show, methods=["GET"]), Route(path, endpoint.decide, methods=["POST"])]


def _token_tool_routes(server: AuthorizationServer, profile: Profile) -> list[BaseRoute]:
    async def answer_metadata(_request: Request) -> Response:
        return JSONResponse(metadata(server, profile))

    return [
        Route(profile.prefix + "/revoke", RevocationEndpoint(server, profile), methods=["POST"]),
        Route(profile.prefix + "/introspect", IntrospectionEndpoint(server, profile), methods=["POST"]),
        # RFC 8414 section 3.1: the well-known part goes before the issuer's path.
        Route("/.well-known/oauth-authorization-server" + profile.prefix, answer_metadata),
    ]


async def _prune_now_and_then(server: AuthorizationServer) -> None:
    while True:
        forgotten = server.prune()
        await asyncio.sleep(_PRUNE_ON_AFTER_S if forgotten else _PRUNE_EVERY_S)


async def _metrics(_request: Request) -> Response:
    return PlainTextResponse(exposition())


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _index(server: AuthorizationServer) -> Callable[[Request], Awaitable[Response]]:
    profiles = [
        (
            profile.title,
            [
                ("Authorization", server.issuer(profile) + "/authorize"),
                ("Token", server.issuer(profile) + profile.token_path),
            ],
        )
        for profile in PROFILES.values()
    ]

    async def answer_index(_request: Request) -> Response:
        return page("index.html", title="Sandbox authorization server", profiles=profiles)

    return answer_index
