"""Refreshing against the running sandbox: rotation, reuse, grace, expiry and concurrency over real HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest

from tests.support.sandbox_application import Clock, application, world_at
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour, Latency, Rotation
from worker.sandbox.families import FamilyStatus, RevokedBecause
from worker.sandbox.profiles import ASKARA, RFC6749, Profile
from worker.sandbox.server import RunningSandbox
from worker.sandbox.token_meaning import Delivery

CLOCK = Clock()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """Run one sandbox for this file; each test registers a client of its own."""
    with RunningSandbox(world=world_at(CLOCK)) as running:
        yield running


@pytest.mark.parametrize("profile", [ASKARA, RFC6749], ids=lambda profile: profile.name)
def test_twenty_refreshes_each_rotate(sandbox: RunningSandbox, profile: Profile) -> None:
    """Twenty refreshes in a row give twenty new refresh tokens and access tokens that work."""
    with application(sandbox, profile) as client:
        grant = client.seed_one()
        tokens = [grant.refresh_token]
        for _ in range(20):
            answer = client.refresh(tokens[-1]).json()
            assert sandbox.control.account_of(Secret(answer["access_token"])) == grant.account
            tokens.append(Secret(answer["refresh_token"]))
        report = sandbox.control.report(client.client_id)

    assert len(set(tokens)) == 21
    assert (report.rotations, report.refreshes_presented, report.double_spends) == (20, 20, 0)
    assert report.presented_more_than_once == 0


def test_a_reused_token_revokes_the_family(sandbox: RunningSandbox) -> None:
    """A consumed token presented again is invalid_grant and takes every token of the grant with it."""
    with application(sandbox, ASKARA) as client:
        old = client.seed_one().refresh_token
        answer = client.refresh(old).json()
        newest, access_token = Secret(answer["refresh_token"]), Secret(answer["access_token"])

        reused = client.refresh(old)

        assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
        assert client.refresh(newest).json()["error"] == "invalid_grant"
        assert sandbox.control.account_of(access_token) is None
        (family,) = sandbox.control.families(client.client_id)
        assert (family.status, family.revoked_because) == (FamilyStatus.REVOKED, RevokedBecause.REFRESH_TOKEN_REUSED)
        report = sandbox.control.report(client.client_id)
        assert (report.double_spends, report.presented_more_than_once) == (1, 1)
        assert sandbox.control.refresh_token_record(old).delivery is Delivery.DELIVERED


def test_a_lenient_client_keeps_its_family_after_reuse(sandbox: RunningSandbox) -> None:
    """Where reuse does not revoke, the old token is invalid_grant and the newest one goes on."""
    with application(sandbox, ASKARA, Behaviour(reuse_revokes_family=False)) as client:
        old = client.seed_one().refresh_token
        newest = client.refreshed(old)

        assert client.refresh(old).json()["error"] == "invalid_grant"
        client.refreshed(newest)


def test_inside_the_grace_the_same_pair_is_given_again(sandbox: RunningSandbox) -> None:
    """Within the grace a consumed token gets its pair again with the time that is left; after it, reuse revokes."""
    with application(sandbox, RFC6749, Behaviour(reuse_grace=30, access_lifetime=3600)) as client:
        old = client.seed_one().refresh_token
        first = client.refresh(old).json()
        CLOCK.advance(29)

        again = client.refresh(old).json()

        assert again == first | {"expires_in": 3571}
        CLOCK.advance(1)
        assert client.refresh(old).json()["error"] == "invalid_grant"
        assert client.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
        report = sandbox.control.report(client.client_id)
        assert (report.grace_replays, report.rotations, report.double_spends) == (1, 1, 2)


@pytest.mark.parametrize(("ends_on_use", "status"), [(False, 200), (True, 400)])
def test_the_grace_may_end_with_the_first_use(sandbox: RunningSandbox, ends_on_use: bool, status: int) -> None:
    """Once the new token was used, the grace of the old one ends where the client is set so, and only there."""
    with application(sandbox, ASKARA, Behaviour(reuse_grace=30, grace_ends_on_use=ends_on_use)) as client:
        old = client.seed_one().refresh_token
        client.refreshed(client.refreshed(old))

        assert client.refresh(old).status_code == status


def test_without_rotation_the_token_stays(sandbox: RunningSandbox) -> None:
    """A client without rotation gets no refresh token and goes on with its old one, as often as it likes."""
    with application(sandbox, ASKARA, Behaviour(rotation=Rotation.NEVER)) as client:
        grant = client.seed_one()
        answers = [client.refresh(grant.refresh_token).json() for _ in range(3)]
        report = sandbox.control.report(client.client_id)

    assert all("refresh_token" not in answer and "access_token" in answer for answer in answers)
    assert (report.rotations, report.double_spends, report.presented_more_than_once) == (0, 0, 1)


def test_an_idle_token_expires_and_use_keeps_it_alive(sandbox: RunningSandbox) -> None:
    """Each refresh starts the idle timeout anew; without one the grant is expired, not revoked."""
    with application(sandbox, ASKARA, Behaviour(refresh_idle_timeout=100)) as client:
        token = client.seed_one().refresh_token
        for _ in range(3):
            CLOCK.advance(99)
            token = client.refreshed(token)
        CLOCK.advance(100)

        assert client.refresh(token).json()["error"] == "invalid_grant"
        (family,) = sandbox.control.families(client.client_id)
        assert family.status is FamilyStatus.EXPIRED


def test_no_refresh_outlives_the_absolute_lifetime(sandbox: RunningSandbox) -> None:
    """A grant refreshed all along still ends with its absolute lifetime."""
    with application(sandbox, ASKARA, Behaviour(absolute_lifetime=100, refresh_idle_timeout=90)) as client:
        token = client.seed_one().refresh_token
        CLOCK.advance(60)
        token = client.refreshed(token)
        CLOCK.advance(40)

        assert client.refresh(token).json()["error"] == "invalid_grant"
        assert sandbox.control.report(client.client_id).families[FamilyStatus.EXPIRED] == 1


def test_an_access_token_expires(sandbox: RunningSandbox) -> None:
    """An access token works to the end of its seconds and not beyond; a seeded one may be given fewer."""
    with application(sandbox, ASKARA) as client:
        (grant,) = client.seed(access_lifetime=60)
        assert grant.expires_in == 60
        CLOCK.advance(59.5)
        assert sandbox.control.account_of(grant.access_token) == grant.account
        CLOCK.advance(0.5)

        assert sandbox.control.account_of(grant.access_token) is None


@pytest.mark.parametrize("presentations", [2, 8])
def test_presentations_at_once_rotate_exactly_once(sandbox: RunningSandbox, presentations: int) -> None:
    """Of several presentations of one token at once, one rotates and the rest are invalid_grant."""
    with application(sandbox, ASKARA) as client, ThreadPoolExecutor(presentations) as pool:
        token = client.seed_one().refresh_token

        statuses = Counter(answer.status_code for answer in pool.map(client.refresh, [token] * presentations))

        assert statuses == {200: 1, 400: presentations - 1}
        report = sandbox.control.report(client.client_id)
        assert (report.rotations, report.double_spends) == (1, presentations - 1)


def test_presentations_at_once_in_the_grace_get_one_pair(sandbox: RunningSandbox) -> None:
    """With a grace, all of them get the same pair, though each of the later ones was a double spend."""
    behaviour = Behaviour(reuse_grace=30, latency=Latency(fixed=0.2))
    with application(sandbox, ASKARA, behaviour) as client, ThreadPoolExecutor(4) as pool:
        token = client.seed_one().refresh_token

        pairs = {answer.json()["refresh_token"] for answer in pool.map(client.refresh, [token] * 4)}

        assert len(pairs) == 1
        report = sandbox.control.report(client.client_id)
        assert (report.rotations, report.grace_replays, report.double_spends) == (1, 3, 3)


def test_a_narrower_scope_is_granted_and_a_wider_refused(sandbox: RunningSandbox) -> None:
    """A refresh may narrow the scope; asking for more than was granted is invalid_scope and spends nothing."""
    with application(sandbox, RFC6749) as client:
        token = client.seed_one().refresh_token
        refused = client.refresh(token, scope="profile everything")
        narrowed = client.refresh(token, scope="profile")
        widened = client.refresh(narrowed.json()["refresh_token"])

    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    assert narrowed.json()["scope"] == "profile"
    assert widened.json()["scope"] == "profile organization"


def test_a_token_of_another_client_is_unknown(sandbox: RunningSandbox) -> None:
    """Another client's refresh token is invalid_grant, and presenting it does the owner no harm."""
    with application(sandbox, ASKARA) as owner, application(sandbox, ASKARA) as stranger:
        token = owner.seed_one().refresh_token

        assert stranger.refresh(token).json()["error"] == "invalid_grant"
        assert sandbox.control.refresh_token_record(token).presented == 0
        owner.refreshed(token)


def test_latency_delays_the_answer_and_not_the_others(sandbox: RunningSandbox) -> None:
    """A client with a long latency waits for its answers while another client's come at once."""
    with (
        application(sandbox, ASKARA, Behaviour(latency=Latency(fixed=1.0))) as slow,
        application(sandbox, ASKARA) as fast,
    ):
        slow_token, fast_token = slow.seed_one().refresh_token, fast.seed_one().refresh_token
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(slow.refresh, slow_token)
            for _ in range(5):
                fast_token = fast.refreshed(fast_token)
            assert not waiting.done()
            assert waiting.result().elapsed.total_seconds() >= 1.0


def test_an_answer_leaves_at_once(sandbox: RunningSandbox) -> None:
    """No answer waits for the acknowledgement of its first part, which would take 40 ms each on one connection."""
    with application(sandbox, ASKARA) as client:
        token = client.seed_one().refresh_token
        seconds = []
        for _ in range(21):
            answer = client.refresh(token)
            token = Secret(answer.json()["refresh_token"])
            seconds.append(answer.elapsed.total_seconds())

    assert median(seconds) < 0.03


def test_the_tail_of_the_latency_is_drawn(sandbox: RunningSandbox) -> None:
    """Where the draw falls into the tail's share, the answer takes the tail's seconds."""
    in_tail = Behaviour(latency=Latency(fixed=0.0, tail_share=0.6, tail=0.3))
    out_of_tail = Behaviour(latency=Latency(fixed=0.0, tail_share=0.4, tail=0.3))
    with application(sandbox, ASKARA, in_tail) as slow, application(sandbox, ASKARA, out_of_tail) as fast:
        assert slow.refresh(slow.seed_one().refresh_token).elapsed.total_seconds() >= 0.3
        assert fast.refresh(fast.seed_one().refresh_token).elapsed.total_seconds() < 0.3


def test_behaviour_changes_hold_from_the_next_request(sandbox: RunningSandbox) -> None:
    """A client's rules can be changed while it runs."""
    with application(sandbox, ASKARA) as client:
        token = client.seed_one().refresh_token
        sandbox.control.change_behaviour(client.client_id, Behaviour(access_lifetime=120))

        assert client.refresh(token).json()["expires_in"] == 120
