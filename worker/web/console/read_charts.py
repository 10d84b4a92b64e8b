"""Reading what the charts of a page are drawn of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.storage.forecasts import Kind, read_forecast
from worker.storage.refresh_hours import read_hours
from worker.web.console.charts import Span, ends_chart, load_chart, looks_back, refreshes_chart, success_chart


async def read_charts(engine: AsyncEngine, span: Span, now: datetime, *, client: str | None) -> Mapping[str, Any]:
    """Return the charts of one client or of all, by what templates call them.

    Args:
        engine: the process's connections.
        span: how far those of the past look back.
        now: the database's clock.
        client: only this client's.

    """
    since, width = looks_back(span, now)
    hours = await read_hours(engine, since=since, width=width, client=client)
    load = await read_forecast(engine, Kind.REFRESHES, client=client)
    ends = await read_forecast(engine, Kind.ENDS, client=client)
    return {
        "span": span,
        "spans": list(Span),
        "refreshes": refreshes_chart(hours, span, now),
        "success": success_chart(hours, span, now),
        "load": load_chart(load, now),
        "load_made_at": load.made_at,
        "ends": ends_chart(ends, now),
    }
