"""An operator's hand on grants and clients, over the API and the command line: refresh, pause, resume, revoke."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import api, problem
from tests.support.database import execute, rows, value
from tests.support.installation import Installation, installed
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.settling import claim, drain
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from worker.sandbox.families import FamilyStatus
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox

NOBODY = "018f3c5e-0000-4000-8000-000000000000"


@pytest.fixture
def client(sandbox: RunningSandbox) -> SandboxClient:
    """Register a client at a provider that revokes tokens (RFC 7009)."""
    return register(
        sandbox, name="ours", profile=RFC6749, provider=f'revocation_endpoint = "{sandbox.url}/rfc6749/revoke"'
    )


@pytest.fixture
def web(client: SandboxClient, make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve the API."""
    with make_web(client.toml, **client.environment) as running:
        yield running


@pytest.fixture
def http(web: RunningWeb) -> Iterator[httpx.Client]:
    """Open a client that may do everything."""
    with api(web) as opened:
        yield opened


def events_of(web: RunningWeb, grant_id: UUID) -> list[str]:
    """Return the types of a grant's events, in order."""
    found = web.run(rows(web.container, "SELECT type FROM events WHERE grant_id = :id ORDER BY id", id=grant_id))
    return [row.type for row in found]


def state_of(web: RunningWeb, grant_id: UUID) -> tuple[Any, ...]:
    """Return a grant's state, and whether and when it is due."""
    query = "SELECT state, state_reason, rotate_at IS NOT NULL, rotate_at <= now() FROM grants WHERE id = :id"
    [row] = web.run(rows(web.container, query, id=grant_id))
    return tuple(row)


def test_a_grant_is_refreshed_now(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """However long its token still lives, the grant has a new one afterwards, and the answer shows no token."""
    [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client, due=False))

    refreshed = http.post(f"/v1/grants/{grant_id}/refresh")

    assert (refreshed.status_code, refreshed.json()["generation"]) == (200, 1)
    assert not {"access_token", "refresh_token"} & set(refreshed.json())
    token = http.get(f"/v1/grants/{grant_id}/access-token").json()["access_token"]
    assert token != seeded.access_token.reveal()
    assert token not in refreshed.text


def test_a_pause_keeps_a_grant_from_being_refreshed_until_it_is_resumed(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """Paused, it is not claimed though it was due; resumed, it is; each act leaves one event and may be repeated."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client))

    paused = [http.post(f"/v1/grants/{grant_id}/pause") for _ in range(2)]
    web.run(drain(web.container, client))

    assert [answer.status_code for answer in paused] == [200, 200]
    assert paused[0].json() == paused[1].json()
    assert (paused[0].json()["state"], paused[0].json()["state_reason"]) == ("paused", "operator")
    assert sandbox.control.report().refreshes_presented == 0
    resumed = [http.post(f"/v1/grants/{grant_id}/resume") for _ in range(2)]
    assert [answer.json()["state"] for answer in resumed] == ["active", "active"]
    assert state_of(web, grant_id) == ("active", None, True, True)
    web.run(drain(web.container, client))
    assert sandbox.control.report().rotations == 1
    assert events_of(web, grant_id) == ["grant.created", "grant.paused", "grant.resumed"]


def test_a_resumed_grant_is_due_when_it_would_have_been(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """While its access token is fresh a resume causes no refresh; a thousand of them make no herd."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    http.post(f"/v1/grants/{grant_id}/pause")
    web.run(execute(web.container, "UPDATE grants SET strikes = 1"))

    found = http.post(f"/v1/grants/{grant_id}/resume").json()
    assert web.run(value(web.container, "SELECT strikes FROM grants")) == 0, (
        "it is no strike's interval that it waits for"
    )
    lasts = datetime.fromisoformat(found["access_expires_at"]) - datetime.fromisoformat(found["created_at"])
    waits = datetime.fromisoformat(found["rotate_at"]) - datetime.fromisoformat(found["created_at"])

    assert 0.5 * lasts < waits < 0.9 * lasts


def test_what_is_under_way_at_a_pause_is_stored(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """A refresh that left before the pause brings its tokens, and the grant stays paused with them."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, token_endpoint_at=provider.url)
        with make_web(client.toml, **client.environment) as web, api(web) as http, ThreadPoolExecutor(1) as pool:
            [(grant_id, _)] = web.run(adopt(web.container, sandbox, client))
            provider.hold()
            draining = pool.submit(web.run, drain(web.container, client))
            wait_until(lambda: provider.held, 20, "the refresh is answered")

            assert http.post(f"/v1/grants/{grant_id}/pause").json()["state"] == "paused"
            provider.release()
            draining.result()

            found = http.get(f"/v1/grants/{grant_id}").json()
            assert (found["state"], found["generation"], found["rotate_at"]) == ("paused", 1, None)
            http.post(f"/v1/grants/{grant_id}/resume")
            web.run(drain(web.container, client))
    assert sandbox.control.report().presented_more_than_once == 0


def test_a_doubt_outlives_a_pause(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """What was in doubt, or came to be while it was paused, is in doubt again when it is resumed, not due at once."""
    adopted = web.run(adopt(web.container, sandbox, client, 2, due=False))
    (before, _), (meanwhile, _) = adopted
    web.run(execute(web.container, "UPDATE grants SET rotate_at = now() WHERE id = :id", id=before))
    web.run(claim(web.container, client, 1, timedelta(milliseconds=1)))
    web.run(web.container.dispatch.dispatch())
    assert state_of(web, before)[0] == "in_doubt"
    http.post(f"/v1/grants/{before}/pause")
    web.run(execute(web.container, "UPDATE grants SET rotate_at = now() WHERE id = :id", id=meanwhile))
    web.run(claim(web.container, client, 1, timedelta(milliseconds=1)))
    http.post(f"/v1/grants/{meanwhile}/pause")
    web.run(web.container.dispatch.dispatch())

    for grant_id in (before, meanwhile):
        assert state_of(web, grant_id)[0] == "paused"
        assert http.post(f"/v1/grants/{grant_id}/resume").json()["state"] == "in_doubt"
        # The stored access token lives for an hour: the single-use token is probed shortly before that ends.
        assert state_of(web, grant_id) == ("in_doubt", "no_answer", True, False)


@pytest.mark.parametrize("state", ["reconsent_required", "revoked"])
def test_what_has_ended_is_neither_paused_nor_resumed(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client, state: str
) -> None:
    """Only its owner brings back a grant that is dead or revoked; the acts say so and change nothing."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    web.run(execute(web.container, "UPDATE grants SET state = :state, rotate_at = NULL", state=state))

    for act in ("pause", "resume"):
        answer = http.post(f"/v1/grants/{grant_id}/{act}")
        problem(answer, 409, "grant-needs-owner" if state == "reconsent_required" else "grant-revoked")
    assert state_of(web, grant_id)[0] == state
    assert events_of(web, grant_id) == ["grant.created"]


def test_a_revoked_grant_has_ended_at_its_provider_too(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """DELETE gives the refresh token back, erases it here, ends the grant with one event, and may be repeated."""
    [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client))

    revoked = [http.delete(f"/v1/grants/{grant_id}") for _ in range(2)]

    assert [answer.status_code for answer in revoked] == [200, 200]
    assert [answer.json()["at_provider"] for answer in revoked] == ["revoked", "erased"]
    [kept] = web.run(rows(web.container, "SELECT refresh_token, access_token, captured FROM grants"))
    assert tuple(kept) == (b"", None, None)
    assert (revoked[0].json()["grant"]["state"], revoked[0].json()["grant"]["rotate_at"]) == ("revoked", None)
    assert sandbox.control.account_of(seeded.access_token) is None
    assert events_of(web, grant_id) == ["grant.created", "grant.revoked"]
    web.run(drain(web.container, client))
    assert sandbox.control.report().refreshes_presented == 0


def test_tokens_are_erased_without_the_provider_where_that_is_asked(
    sandbox: RunningSandbox, make_web: WebMaker
) -> None:
    """While the provider cannot be reached the tokens are kept for the next try; with `force` nothing of them stays."""
    with TcpProxy(sandbox.url) as provider:
        endpoint = f'revocation_endpoint = "{provider.url}/rfc6749/revoke"'
        client = register(sandbox, profile=RFC6749, provider=endpoint)
        with make_web(client.toml, **client.environment) as web, api(web) as http:
            [(grant_id, _)] = web.run(adopt(web.container, sandbox, client))
            provider.refuse()
            is_kept = "SELECT refresh_token <> '' AND access_token IS NOT NULL FROM grants"

            kept = http.delete(f"/v1/grants/{grant_id}").json()["at_provider"], web.run(value(web.container, is_kept))
            assert kept == ("not_confirmed", True)
            forced = http.delete(f"/v1/grants/{grant_id}", params={"force": "true"}).json()

            assert (forced["at_provider"], forced["erased"]) == ("not_confirmed", True)
            noted = "SELECT details FROM audit_log WHERE act = 'grant.revoke' ORDER BY id"
            assert [row.details for row in web.run(rows(web.container, noted))] == [{}, {"forced": True}]
            [left] = web.run(rows(web.container, "SELECT refresh_token, access_token, captured FROM grants"))
            assert tuple(left) == (b"", None, None)


def test_what_its_owner_consents_to_during_a_revocation_is_left_alone(
    web: RunningWeb, sandbox: RunningSandbox, client: SandboxClient, http: httpx.Client
) -> None:
    """While the revocation waits for a request under way its owner is back: the answer says so, and it is alive."""
    [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client, due=False))
    leased = "lease_id = gen_random_uuid(), leased_until = now() + interval '1 minute', spend_started_at = now()"
    free = "lease_id = NULL, leased_until = NULL, spend_started_at = NULL"
    web.run(execute(web.container, f"UPDATE grants SET {leased}"))
    with ThreadPoolExecutor(1) as pool:
        revoking = pool.submit(http.delete, f"/v1/grants/{grant_id}")
        wait_until(lambda: state_of(web, grant_id)[0] == "revoked", 20, "it is revoked here")
        back = f"state = 'active', state_since = now(), rotate_at = now() + interval '1 hour', {free}"
        web.run(execute(web.container, f"UPDATE grants SET {back}"))
        answer = revoking.result().json()

    assert (answer["at_provider"], answer["grant"]["state"]) == ("consented_again", "active")
    assert sandbox.control.account_of(seeded.access_token) is not None


def test_the_token_that_a_refresh_under_way_brings_is_given_back(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """Revoked while a refresh is under way, a grant's newest refresh token is the one that its provider hears of."""
    with TcpProxy(sandbox.url) as provider:
        client = register(
            sandbox,
            profile=RFC6749,
            token_endpoint_at=provider.url,
            provider=f'revocation_endpoint = "{sandbox.url}/rfc6749/revoke"',
        )
        with make_web(client.toml, **client.environment) as web, api(web) as http, ThreadPoolExecutor(2) as pool:
            [(grant_id, _)] = web.run(adopt(web.container, sandbox, client))
            provider.hold()
            draining = pool.submit(web.run, drain(web.container, client))
            wait_until(lambda: provider.held, 20, "the refresh is answered")
            revoking = pool.submit(http.delete, f"/v1/grants/{grant_id}")
            wait_until(lambda: state_of(web, grant_id)[0] == "revoked", 20, "it is revoked here")
            provider.release()
            draining.result()

            assert revoking.result().json()["at_provider"] == "revoked"
            assert web.run(value(web.container, "SELECT generation FROM grants")) == 1
            [family] = sandbox.control.families(client.name)
            assert family.status is FamilyStatus.REVOKED


def test_what_the_provider_does_not_confirm_is_said_and_may_be_tried_again(
    sandbox: RunningSandbox, make_web: WebMaker
) -> None:
    """With the provider away the grant ends here, the answer says so, and a repetition ends it there."""
    with TcpProxy(sandbox.url) as provider:
        client = register(sandbox, profile=RFC6749, provider=f'revocation_endpoint = "{provider.url}/rfc6749/revoke"')
        with make_web(client.toml, **client.environment) as web, api(web) as http:
            [(grant_id, seeded)] = web.run(adopt(web.container, sandbox, client))
            provider.refuse()
            first = http.delete(f"/v1/grants/{grant_id}").json()
            provider.accept()
            second = http.delete(f"/v1/grants/{grant_id}").json()

    assert (first["at_provider"], first["grant"]["state"]) == ("not_confirmed", "revoked")
    assert second["at_provider"] == "revoked"
    assert sandbox.control.account_of(seeded.access_token) is None


def test_a_provider_without_such_an_endpoint_is_not_asked(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """Where nothing can be revoked, the grant ends here and the answer says that it lives on there."""
    client = register(sandbox)
    with make_web(client.toml, **client.environment) as web, api(web) as http:
        [(grant_id, _)] = web.run(adopt(web.container, sandbox, client))

        revoked = http.delete(f"/v1/grants/{grant_id}").json()

    assert (revoked["at_provider"], revoked["grant"]["state"]) == ("not_offered", "revoked")


def test_acts_on_what_is_not_there_find_nothing(http: httpx.Client, web: RunningWeb) -> None:
    """An unknown id is a 404 for each act, and leaves no event."""
    for act in ("refresh", "pause", "resume"):
        problem(http.post(f"/v1/grants/{uuid4()}/{act}"), 404, "not-found")
    problem(http.delete(f"/v1/grants/{uuid4()}"), 404, "not-found")
    assert web.run(value(web.container, "SELECT count(*) FROM events")) == 0


def test_a_client_is_paused_and_resumed(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """Its grants are not refreshed meanwhile; the list tells, and each change leaves one event."""
    web.run(adopt(web.container, sandbox, client))

    paused = [http.post(f"/v1/clients/{client.name}/pause").json() for _ in range(2)]
    web.run(drain(web.container, client))
    [listed] = http.get("/v1/clients").json()["items"]

    assert paused[0] == paused[1]
    assert (paused[0]["client"], paused[0]["provider"]) == (client.name, f"at-{client.name}")
    assert (listed["paused_by_operator"], listed["grants"]["active"], listed["overdue"]) == (True, 1, 1)
    assert sandbox.control.report().refreshes_presented == 0
    assert http.post(f"/v1/clients/{client.name}/resume").json()["paused_by_operator"] is False
    web.run(drain(web.container, client))
    assert sandbox.control.report().rotations == 1
    found = web.run(rows(web.container, "SELECT type FROM events WHERE grant_id IS NULL ORDER BY id"))
    assert [row.type for row in found] == ["client.paused", "client.resumed"]


def test_an_operators_word_on_deaths_is_taken(
    sandbox: RunningSandbox, web: RunningWeb, client: SandboxClient, http: httpx.Client
) -> None:
    """Resumed with or without it the brake is off; only with it, also where nothing was held back, it is overruled."""
    web.run(adopt(web.container, sandbox, client))
    overruled = "SELECT braked_at IS NULL, brake_overruled_at > now() - interval '1 minute' FROM client_status"
    web.run(
        execute(
            web.container, "INSERT INTO client_status (client, braked_at) VALUES (:client, now())", client=client.name
        )
    )

    assert http.post(f"/v1/clients/{client.name}/resume").json()["braked_at"] is None
    assert [tuple(row) for row in web.run(rows(web.container, overruled))] == [(True, None)]
    answered = http.post(f"/v1/clients/{client.name}/resume", params={"deaths_are_real": "true"})

    assert answered.status_code == 200
    assert [tuple(row) for row in web.run(rows(web.container, overruled))] == [(True, True)]
    noted = web.run(rows(web.container, "SELECT details FROM audit_log WHERE act = 'client.resume' ORDER BY id"))
    assert [row.details for row in noted] == [{}, {"deaths_are_real": True}]


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Give one installation to the tests of the command line."""
    with installed(tmp_path_factory.mktemp("installation"), database_server, migrated_template) as found:
        yield found


def test_the_command_line_does_the_same(installation: Installation) -> None:
    """`grants pause`, `resume` and `revoke` act once, say what came of it, and fail where nothing can be done."""
    grant_id = installation.adopt(installation.seed())
    state = f"SELECT state FROM grants WHERE id = '{grant_id}'"
    expected = [
        ("pause", f"{grant_id} is paused", "paused"),
        ("pause", f"{grant_id} was paused already", "paused"),
        ("resume", f"{grant_id} is refreshed again", "active"),
        ("resume", f"{grant_id} was not paused", "active"),
        ("revoke", f"{grant_id} is revoked here; its provider has no endpoint to revoke it at", "revoked"),
    ]

    for act, said, is_then in expected:
        ended = installation.run_quickly("grants", act, grant_id)
        assert (ended.code, ended.out, ended.err) == (0, f"{said}\n", "")
        assert installation.query(state) == [(is_then,)]

    refused = installation.run_quickly("grants", "pause", grant_id)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == f"evergrant: grant {grant_id} is revoked: see `evergrant grants show`\n"
    for act in ("pause", "resume", "revoke"):
        ended = installation.run_quickly("grants", act, NOBODY)
        assert (ended.code, ended.out, ended.err) == (1, "", f"evergrant: there is no grant {NOBODY}\n")
