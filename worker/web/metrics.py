"""`/metrics`: what this machine's processes counted, and the gauges from the database."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from sqlalchemy.exc import SQLAlchemyError

from worker.logging import get_logger
from worker.metrics import exposition
from worker.web.page_route import public_router

router = public_router()
log = get_logger("evergrant.web")


class _Once:
    """Gives metrics that were read already to the library's writer."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Answer a scrape. Without the database the counters are still served."""
    body = exposition(request.app.state.registry)
    try:
        gauges = CollectorRegistry()
        gauges.register(_Once(await request.app.state.gauges.read()))
        body += generate_latest(gauges)
    except (SQLAlchemyError, OSError) as error:
        log.warning("gauges_unreadable", error=type(error).__name__)
    return Response(body, media_type=CONTENT_TYPE_LATEST)
