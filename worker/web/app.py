"""The web application: one container for its lifetime, routes by subject."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from prometheus_client import REGISTRY, CollectorRegistry

from worker.bootstrap import Container, software
from worker.keepers import keep
from worker.web import consent, health, metrics, reconsent, sign_in, sign_in_openid
from worker.web.access_log import AccessLog
from worker.web.api.application import add_api
from worker.web.console import application as console_pages
from worker.web.gauges import DatabaseGauges
from worker.web.headers import SecurityHeaders
from worker.web.own_port import OwnPort
from worker.web.pages import Pages
from worker.web.sign_in_rate import SignInRate

HERE: Final = Path(__file__).parent
#: Everything but the JSON API and the static files. Each route declares its role, or that it is public.
ROUTERS: Final = (
    consent.router,
    reconsent.router,
    health.router,
    metrics.router,
    sign_in.public,
    sign_in.router,
    sign_in_openid.router,
    *console_pages.ROUTERS,
)


def create_web_app(
    create: Callable[[], Container], registry: CollectorRegistry = REGISTRY, *, metrics_port: int | None = None
) -> FastAPI:
    """Create the application.

    Args:
        create: makes the container, on the loop that serves.
        registry: what `/metrics` shows of this process.
        metrics_port: where `/metrics` is served instead, and the probes as well; None: there is one port for all.

    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        container = create()
        app.state.container = container
        clients = list(container.configuration.registry.clients)
        app.state.gauges = DatabaseGauges(
            container.engine,
            clients,
            container.webhooks,
            counts_workers=container.configuration.worker.session_lock,
        )
        keepers = [
            asyncio.create_task(keep(container.observers, keeper))
            for keeper in (
                container.dispatch.keep_draining,
                container.tally.keep_writing,
                container.ring_note.keep_writing,
            )
        ]
        try:
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await container.rotation.settles.keep_what_waits()
            await container.close()

    app = FastAPI(title="Evergrant", version=software(), lifespan=lifespan, openapi_url=None)
    app.state.pages = Pages(HERE / "templates")
    app.state.registry = registry
    app.state.sign_in_rate = SignInRate()
    if metrics_port is not None:
        app.add_middleware(OwnPort, port=metrics_port)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AccessLog)
    for router in ROUTERS:
        # As they are, each with what it declares: `include_router` would build its routes anew at the first request.
        app.router.routes.extend(router.routes)
    add_api(app)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app
