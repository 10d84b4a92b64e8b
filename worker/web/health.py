"""Health: `/healthz` says that this process lives, `/readyz` whether it can work, and why not."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse

from worker.probes import Answer, alive_answer, ready_answer
from worker.readiness import readiness
from worker.web.dependencies import TheContainer
from worker.web.page_route import public_router

router = public_router()


@router.get("/healthz")
async def healthz(container: TheContainer) -> JSONResponse:
    """Say whether the event loop turns, as it does to answer this, and its threads are there; nothing else is asked."""
    return _json(alive_answer(container.complaints()))


@router.get("/readyz")
async def readyz(_request: Request, container: TheContainer) -> JSONResponse:
    """Say whether the database and the broker answer."""
    return _json(ready_answer(await readiness(container.engine, container.settings.broker_url)))


def _json(answer: Answer) -> JSONResponse:
    return JSONResponse(answer.body, answer.status)
