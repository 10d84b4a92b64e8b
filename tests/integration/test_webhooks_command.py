"""`evergrant webhooks …` as an operator uses it, and what a scrape says of endpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.command_line import Ended
from tests.support.installation import Installation, installed
from tests.support.scraping import sample
from tests.support.webhook_receiver import TAKEN, Reply, WebhookReceiver
from tests.support.webhooks import ENVIRONMENT, OTHER_SECRET, SECRET, deliver, endpoint, happen
from worker.domain.webhook import ATTEMPTS


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    """Run a receiver."""
    with WebhookReceiver(SECRET) as running:
        yield running


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str, receiver: WebhookReceiver
) -> Iterator[Installation]:
    """Give one installation with one endpoint to all tests of this file; one of them lets something happen in it."""
    folder = tmp_path_factory.mktemp("installation")
    with installed(folder, database_server, migrated_template) as found:
        configuration = folder / "evergrant.toml"
        configuration.write_text(configuration.read_text("utf-8") + endpoint(receiver.url), "utf-8")
        yield replace(found, command_line=found.command_line.having(**ENVIRONMENT))


def test_an_operator_sees_and_sends_again(installation: Installation, receiver: WebhookReceiver) -> None:
    """List, pause and resume, dead and replay: what each says, in words and as JSON."""

    def hooks(*words: str) -> Ended:
        ended = installation.run_quickly("webhooks", *words)
        assert SECRET not in ended.out + ended.err
        assert receiver.url not in ended.out + ended.err
        return ended

    assert hooks("list").out.splitlines()[1].split() == ["billing", "ok", "0", "0", "-", "0", "-", "-"]
    assert hooks("replay", "--dead").out == "billing: 0 events to be sent again\n"
    installation.adopt(installation.seed())

    [listed] = json.loads(hooks("list", "--json").out)
    assert (listed["name"], listed["waiting"], listed["dead"]) == ("billing", 1, 0)
    assert hooks("pause", "billing").out == "billing is paused\n"
    assert hooks("pause", "billing").out == "billing was paused already\n"
    assert "paused by an operator" in hooks("list").out
    assert hooks("resume", "billing").out == "billing has its events again\n"
    assert hooks("resume", "billing").out == "nothing held billing back\n"

    assert hooks("replay", "billing", "--since", "1h").out == "billing: 1 event to be sent again\n"
    installation.query(
        f"UPDATE webhook_deliveries SET dead_at = now(), failures = {ATTEMPTS}, last_error = 'it answered 500'"
    )
    [dead] = json.loads(hooks("dead", "--json").out)
    assert (dead["endpoint"], dead["type"], dead["last_error"]) == ("billing", "grant.created", "it answered 500")
    assert hooks("dead", "billing").out.splitlines()[1].endswith("it answered 500")
    assert hooks("replay", "billing", "--dead").out == "billing: 1 event to be sent again\n"
    assert hooks("replay", "--event", str(dead["event"])).out == "billing: 1 event to be sent again\n"
    assert hooks("dead").out.splitlines()[1:] == []


def test_an_endpoint_is_tried(installation: Installation, receiver: WebhookReceiver) -> None:
    """`webhooks test` sends a signed message of its own and says what came of it, in its exit code too."""
    receiver.answer = lambda _message: TAKEN
    good = installation.run_quickly("webhooks", "test", "billing")
    assert (good.code, good.out.startswith("billing answered 204 in ")) == (0, True)
    [message] = receiver.received
    assert (message.type, message.data) == ("webhook.test", {"endpoint": "billing"})

    receiver.answer = lambda _message: Reply(status=500)
    failed = installation.run_quickly("webhooks", "test", "billing")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("evergrant: billing: it answered 500 (")
    receiver.answer = lambda _message: Reply(status=410)
    assert installation.run_quickly("webhooks", "test", "billing").code == 1
    other = installation.run_quickly("webhooks", "test", "billing", changes={"HOOK_SECRET": OTHER_SECRET})
    assert other.err.startswith("evergrant: billing: it answered 401 (")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("test", "bilin"), 2, "webhook endpoint 'bilin' is not configured (did you mean 'billing'?)"),
        (("replay",), 2, "say what to send again, by one of --event, --since and --dead"),
        (("replay", "--dead", "--event", "1"), 2, "say what to send again"),
        (("replay", "--since", "yesterday"), 2, "is neither a duration such as 2h nor"),
        (("replay", "--since", "2026-03-01T12:00:00"), 2, "is neither a duration such as 2h nor"),
        (("replay", "--event", "99"), 1, "there is no event 99 that this was to be sent to"),
    ],
)
def test_wrong_use_is_told(installation: Installation, words: tuple[str, ...], code: int, said: str) -> None:
    """One line that says what to do next, and an exit code."""
    ended = installation.run_quickly("webhooks", *words)
    assert ended.code == code, ended
    assert said in " ".join(ended.err.replace("│", " ").split())


def test_a_new_secret_is_one_that_is_taken(installation: Installation) -> None:
    """`webhooks secret` prints what the configuration accepts."""
    made = installation.run_quickly("webhooks", "secret").out.strip()
    assert made.startswith("whsec_")
    assert installation.run_quickly("webhooks", "list", changes={"HOOK_SECRET": made}).code == 0


def test_a_scrape_tells_of_endpoints(make_web: WebMaker) -> None:
    """Deliveries by outcome, and gauges of what waits and what is dead, for the configured endpoints alone."""
    with WebhookReceiver(SECRET) as receiver, make_web(endpoint(receiver.url), **ENVIRONMENT) as web:
        hooks = web.container.webhooks
        web.run(deliver(hooks))
        web.run(happen(web.container, "grant.created", grant=uuid4()))
        web.run(deliver(hooks))
        receiver.answer = lambda _message: Reply(status=500)
        web.run(happen(web.container, "grant.created", "grant.in_doubt", grant=uuid4()))
        web.run(deliver(hooks))
        scrape = httpx.get(f"{web.url}/metrics", trust_env=False).text

    assert sample(scrape, "evergrant_webhook_deliveries_total", endpoint="billing", outcome="delivered") == 1
    assert sample(scrape, "evergrant_webhook_deliveries_total", endpoint="billing", outcome="failed") == 1
    assert sample(scrape, "evergrant_webhook_duration_seconds_count", endpoint="billing") == 2
    assert sample(scrape, "evergrant_webhook_waiting", endpoint="billing") == 2
    assert sample(scrape, "evergrant_webhook_dead", endpoint="billing") == 0
    assert sample(scrape, "evergrant_webhook_paused", endpoint="billing") == 0
    assert (sample(scrape, "evergrant_webhook_oldest_waiting_seconds", endpoint="billing") or 0) > 0
