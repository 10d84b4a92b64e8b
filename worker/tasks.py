"""What Celery's messages ask for. A task takes names, is safe to repeat, and leaves the work to the event loop."""

from __future__ import annotations

from typing import Any

from worker.celery_app import DRAIN, TICKET_EXPIRES, app, runtime
from worker.log_lines import bound_ids


@app.task(name="evergrant.tick", bind=True)
def tick(self: Any) -> None:  # noqa: ANN401 -- Celery ships no types
    """Rescue, scan, and send the tickets that the due grants call for."""
    container = runtime().container
    with bound_ids(scan=self.request.id), container.tracer.span("scan"):
        for ticket in runtime().run(container.dispatch.dispatch()):
            drain.apply_async(args=(ticket.client,), expires=TICKET_EXPIRES, headers=container.tracer.carry())


@app.task(name=DRAIN, bind=True)
def drain(self: Any, client: str) -> None:  # noqa: ANN401 -- Celery ships no types
    """Work through one client's due grants."""
    container = runtime().container
    configured = container.configuration.registry.clients.get(client)
    if configured is not None:
        seconds = container.configuration.worker.drain_time.total_seconds()
        # What is logged of it, down to each settle, names the scan that asked for it (Celery's parent) and this drain.
        with bound_ids(scan=self.request.parent_id, drain=self.request.id):
            # Not waited for: a thread that waits for a slow provider would be missing for everybody's ticks.
            work = container.drains.drain(configured, seconds)
            runtime().start(
                container.tracer.spanned(work, "drain", self.request.get, **{"evergrant.client": client}),
                "drain_failed",
            )


@app.task(name="evergrant.webhooks")
def webhooks() -> None:
    """Read what has happened since, and send a ticket for each webhook endpoint to which something is due."""
    for endpoint in runtime().run(runtime().container.webhooks.due()):
        deliver.apply_async(args=(endpoint,), expires=TICKET_EXPIRES)


@app.task(name="evergrant.deliver")
def deliver(endpoint: str) -> None:
    """Send what is due to one webhook endpoint."""
    runtime().wait_for(runtime().container.webhooks.deliver(endpoint))


@app.task(name="evergrant.mails")
def mails() -> None:
    """Note the grants that have died and send what is due."""
    container = runtime().container
    runtime().wait_for(container.mails.round(container.configuration.worker.drain_time.total_seconds()))


@app.task(name="evergrant.figures")
def figures() -> None:
    """Add up the hours that are over, and reckon what is to come, for the console."""
    runtime().wait_for(runtime().container.dispatch.reckon())


@app.task(name="evergrant.prune")
def prune() -> None:
    """Note the consents that are about to end, and remove what nobody needs any more."""
    runtime().wait_for(runtime().container.mails.notes.note_ends())
    runtime().wait_for(runtime().container.dispatch.prune())
