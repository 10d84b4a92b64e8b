"""Whatever happens, no secret stands in what an installation tells: logs, traces, metrics, mails, pages, problems.

Worker, beat and web run as in production at the most talkative level, with traces and mails, while owners consent,
grants are rotated and die, answers are lost, a worker is killed and the database goes away. Then all is searched.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import psutil
import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.consenting import Browser, expect_callback, query_of
from tests.support.database import execute
from tests.support.deployment import Deployment, deployed
from tests.support.mail_server import MailServer
from tests.support.sandbox_clients import SECRET, SandboxClient, adopt, register
from tests.support.tcp_proxy import TcpProxy
from tests.support.trace_receiver import TraceReceiver
from tests.support.waiting import until, wait_until
from worker.bootstrap import Container
from worker.domain.roles import Role
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.server import RunningSandbox
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing, parse_keys
from worker.supervisor import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

GRANTS = 12
_MISBEHAVIOURS = (
    Misbehaviour.LOST_REPLY,
    Misbehaviour.ERROR_BEFORE,
    Misbehaviour.HTML_PAGE,
    Misbehaviour.TRUNCATED_JSON,
    Misbehaviour.THROTTLED,
)


class Told:
    """Everything that was said to anybody, and the secrets that must not be in it."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.secrets: set[str] = set()

    def say(self, where: str, text: str) -> None:
        """Keep what was said."""
        self.said[where] = self.said.get(where, "") + text

    def keep_secret(self, *secrets: str) -> None:
        """Note what nobody may be told."""
        self.secrets |= {secret for secret in secrets if secret}

    def leaks(self) -> list[str]:
        """Return where a secret stands, in any of the forms that it may have; never the secret."""
        found = []
        for number, secret in enumerate(sorted(self.secrets)):
            forms = {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
            found += [
                f"{where} (secret {number})" for where, text in self.said.items() if any(f in text for f in forms)
            ]
        return found


def stored_tokens(database_url: str, keys: Secret) -> Iterator[str]:
    """Give every token that is stored now."""
    ring = KeyRing(parse_keys(keys), os.urandom)
    with psycopg.connect(database_url) as connection:
        for grant_id, access, refresh in connection.execute("SELECT id, access_token, refresh_token FROM grants"):
            if access:
                yield ring.open(access, ACCESS_TOKEN, grant_id).reveal()
            if refresh:
                yield ring.open(refresh, REFRESH_TOKEN, grant_id).reveal()


@contextmanager
def web_of(deployment: Deployment) -> Iterator[httpx.Client]:
    """Start the web process and open a browser on it."""
    url = deployment.environment["EVERGRANT_PUBLIC_URL"]
    deployment.start("web", "web", "--port", str(urlsplit(url).port))
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:

        def ready() -> bool:
            try:
                return http.get("/readyz").is_success
            except httpx.HTTPError:
                return False

        wait_until(ready, 60.0, "the web process is ready")
        yield http


def consents(told: Told, http: httpx.Client, client: SandboxClient) -> None:
    """Let owners consent, deny, and come back with what was never given out."""
    owner = Browser(http=http)
    for subject, change in (("owner-1", {}), ("owner-2", {"state": "never-given-out"}), ("owner-3", {"code": "wrong"})):
        location = owner.connect(client.name, subject, email=f"{subject}@example.com")
        returned = owner.allow(location)
        told.keep_secret(query_of(location)["state"], returned["code"], http.cookies["evergrant_browser"])
        told.say("pages", owner.call_back({**returned, **change}).text)


def problems(told: Told, http: httpx.Client, client: SandboxClient, api_token: str) -> None:
    """Ask the API for what it refuses, with secrets in every place where one can stand."""
    offered = "offered-refresh-token-7f3a"
    told.keep_secret(api_token, offered, "a-wrong-api-token-51c9")
    good, bad = {"Authorization": f"Bearer {api_token}"}, {"Authorization": "Bearer a-wrong-api-token-51c9"}
    body = {"client": client.name, "subject": "x", "refresh_token": offered, "expires_in": "never"}
    for answer in (
        http.get("/v1/grants", headers=bad),
        http.post("/v1/grants", headers=good, json=body),
        http.post("/v1/grants", headers=good, json={**body, "unknown": offered}),
        http.post("/v1/grants", headers=good, content=f'{{"refresh_token": "{offered}"'),
        http.get(f"/v1/grants?cursor={offered}", headers=good),
        http.get("/v1/access-token", headers=good, params={"client": client.name, "subject": "nobody"}),
        http.get(f"/reconsent/{offered}"),
        http.get("/oauth/callback", params={"code": offered, "state": offered}),
    ):
        assert answer.status_code >= 400
        # A page may hold its own address; an answer's text may not repeat what was sent.
        told.say("problems", answer.text + str(answer.headers))


async def rotated_until(container: Container, condition: Callable[[], object], what: str) -> None:
    """Make every grant that nobody has under lease due, again and again, until something is the case."""
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        await execute(
            container,
            """
            UPDATE grants SET rotate_at = now()
             WHERE id IN (SELECT id FROM grants WHERE rotate_at IS NOT NULL AND leased_until IS NULL
                             FOR UPDATE SKIP LOCKED)
            """,
        )
        await asyncio.sleep(0.3)


async def troubles(
    told: Told, container: Container, sandbox: RunningSandbox, deployment: Deployment, database: TcpProxy
) -> None:
    """Rotate while answers are lost and garbled, a worker is killed and the database goes away."""
    keys = Secret(deployment.environment["EVERGRANT_KEYS"])
    direct = container.settings.require_database().reveal()
    for misbehaviour in _MISBEHAVIOURS:
        sandbox.control.order(Order(kind=misbehaviour, times=2, retry_after=1))
        await rotated_until(container, lambda: not sandbox.control.standing_orders(), f"{misbehaviour} met somebody")
        told.keep_secret(*stored_tokens(direct, keys))
    deployment.processes["worker-1"].kill()
    deployment.processes["worker-1"].wait()
    deployment.start("worker-1b", "worker")
    # What was in flight is in doubt, and dies of it where a token is used once: either is an outcome.
    await rotated_until(
        container,
        lambda: any(event in deployment.log("worker-1b") for event in ("grant_rotated", "refresh_failed")),
        "the next worker refreshes",
    )
    database.refuse()
    await until(lambda: '"level": "error"' in deployment.log("worker-1b"), 60.0, "the worker misses its database")
    database.accept()
    told.keep_secret(*stored_tokens(direct, keys))


async def test_no_secret_is_told(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """None of the tokens, codes, states, links, client secrets, keys and passwords used stands in anything told."""
    told = Told()
    client = register(sandbox, behaviour=Behaviour(access_lifetime=60), provider="strikes = 1")
    public_url = f"http://127.0.0.1:{free_port()}"
    told.keep_secret(SECRET, keys.reveal().partition(":")[2])
    told.keep_secret(urlsplit(database_url).password or "", urlsplit(broker_url).password or "")
    configuration = client.toml + '\n[mails]\ndelay = "0s"\ncool_down = "0s"\n'
    with (
        TraceReceiver() as traces,
        MailServer() as mails,
        TcpProxy(database_url) as database,
        deployed(
            tmp_path,
            database_url=database.url,
            broker_url=broker_url,
            keys=keys,
            configuration=configuration,
            CLIENT_SECRET=SECRET,
            EVERGRANT_LOG_LEVEL="debug",
            EVERGRANT_PUBLIC_URL=public_url,
            EVERGRANT_SMTP_URL=mails.url,
            EVERGRANT_MAIL_FROM="Tokens <tokens@example.com>",
            OTEL_EXPORTER_OTLP_ENDPOINT=traces.url,
            OTEL_BSP_SCHEDULE_DELAY="200",
        ) as deployment,
        web_of(deployment) as http,
    ):
        async with make_container(client.toml, **client.environment) as container:
            expect_callback(sandbox, client, public_url)
            consents(told, http, client)
            for _grant_id, grant in await adopt(container, sandbox, client, GRANTS):
                told.keep_secret(grant.refresh_token.reveal(), grant.access_token.reveal())
            _token_id, api_token = await container.api_access.create(Role.ADMIN, client=None, name="searched")
            problems(told, http, client, api_token.reveal())

            sandbox.control.revoke_consent(client.name, "ada@example.com")
            await rotated_until(container, lambda: '"outcome": "dead"' in deployment.log("worker-1"), "one has died")
            (mail, *_more) = await mails.until(1, 60.0)
            link = mail.link.rpartition("/")[2]
            # After the mail: so many deaths as may come of these set the brake on, and nobody is mailed then.
            await troubles(told, container, sandbox, deployment, database)
            told.say("pages", http.get(f"/reconsent/{link}").text)
            told.say("metrics", http.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text)
            told.say("pages", "".join(http.get(path).text for path in ("/readyz", "/openapi.json", "/")))
        for process in deployment.processes.values():
            if process.poll() is None:
                told.say("process list", " ".join(psutil.Process(process.pid).cmdline()))
        deployment.stop()
        for name in deployment.processes:
            told.say(f"log of {name}", deployment.log(name))
        told.say("traces", "".join(body.decode("latin-1") for body in traces.bodies))
        told.say("mails", "".join(received.message.as_string() for received in mails.received))

    assert {"rotate", "refresh", "settle", "POST"} <= {span.name for span in traces.spans}
    for event in ("grant_rotated", "refresh_failed", "mail_sent", "request_answered"):
        assert any(event in text for where, text in told.said.items() if where.startswith("log of")), event
    assert len(told.secrets) > 4 * GRANTS
    assert told.leaks() == []
    # The link is in the mail, for its owner, and nowhere else.
    told.secrets = {link}
    assert {leak.partition(" (")[0] for leak in told.leaks()} <= {"mails", "pages"}
