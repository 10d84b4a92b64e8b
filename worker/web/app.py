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
from worker.web import consent, health, metrics, page, reconsent
from worker.web.api.application import add_api
from worker.web.gauges import DatabaseGauges
from worker.web.headers import SecurityHeaders
from worker.web.pages import Pages

HERE: Final = Path(__file__).parent


def create_web_app(create: Callable[[], Container], registry: CollectorRegistry = REGISTRY) -> FastAPI:
    """Create the application.

    Args:
        create: makes the container, on the loop that serves.
        registry: what `/metrics` shows of this process.

    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        container = create()
        app.state.container = container
        clients = list(container.configuration.registry.clients)
        app.state.gauges = DatabaseGauges(container.engine, clients, container.webhooks)
        storing = asyncio.create_task(container.consent_store.keep_storing())
        try:
            yield
        finally:
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)
            await container.close()

    app = FastAPI(title="Evergrant", version=software(), lifespan=lifespan, openapi_url=None)
    app.state.pages = Pages(HERE / "templates")
    app.state.registry = registry
    app.add_middleware(SecurityHeaders)
    app.include_router(consent.router)
    app.include_router(reconsent.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(page.router)
    add_api(app)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app
