"""`/metrics`: what this machine's processes counted, and the gauges from the database."""

from __future__ import annotations

from fastapi import Request, Response

from worker.exposition import exposition
from worker.web.page_route import public_router

router = public_router()


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Answer a scrape. Without the database the counters are still served."""
    gauges = await request.app.state.gauges.read()
    body, content_type = exposition(request.app.state.registry, request.headers.get("accept", ""), gauges)
    return Response(body, headers={"Content-Type": content_type})
