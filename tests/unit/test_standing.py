"""How a grant stands on its page: what is said is true at that instant, and there is a next step where one helps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.domain.grant import GrantState
from worker.domain.reconsent import WhyNot
from worker.storage.client_status import Hold
from worker.storage.grants import GrantView
from worker.web.console.advice import Surroundings, standing
from worker.web.verdict import Tone

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_KNOWN: dict[str, Any] = {
    "client": "acme-main",
    "state": GrantState.ACTIVE,
    "state_since": NOW - timedelta(days=3),
    "strikes": 0,
    "failures": 0,
}
GRANT = GrantView(**{**dict.fromkeys(GrantView.__slots__), **_KNOWN})
CALM = Surroundings(
    provider="Acme",
    hold=None,
    why_no_mail=WhyNot.NOT_NEEDED,
    mailed_at=None,
    ends_at=None,
    strikes=1,
    sends=True,
    now=NOW,
)
PAUSED = Hold(
    now=NOW,
    paused_by_operator=True,
    throttled_until=None,
    breaker_opened_at=None,
    breaker_reason=None,
    canary_at=None,
)
ENDING = replace(CALM, why_no_mail=None, ends_at=NOW + timedelta(days=6))


@pytest.mark.parametrize(
    ("ends_in", "said"),
    [
        (timedelta(minutes=40), "The stored access token serves meanwhile; it ends in 40 min."),
        (timedelta(0), "No access token is given out meanwhile: the stored one has ended."),
        (None, "No access token is given out meanwhile: when the stored one ends is not known."),
    ],
)
def test_in_doubt_the_stored_token_serves_until_its_end(ends_in: timedelta | None, said: str) -> None:
    """A grant in doubt promises its access token as long as that is given out, and no longer."""
    ends_at = NOW + ends_in if ends_in is not None else None
    found = standing(replace(GRANT, state=GrantState.IN_DOUBT, access_expires_at=ends_at), CALM)
    assert found.todo.startswith("Nothing to do: a worker presents it again")
    assert found.todo.endswith(said)


@pytest.mark.parametrize("state", [GrantState.IN_DOUBT, GrantState.SUSPECT])
def test_no_try_is_promised_while_nobody_tries(state: GrantState) -> None:
    """Of a doubt or a suspicion whose client is held back or not configured, the page says that instead."""
    grant = replace(GRANT, state=state)
    assert "gain" in standing(grant, CALM).todo
    held = standing(grant, replace(CALM, hold=PAUSED)).todo
    assert held.startswith("Not refreshed for now: client acme-main is held back. See the client.")
    assert standing(grant, replace(CALM, provider=None)).todo.startswith("Not refreshed: its client is not configured.")


def test_a_consent_that_ends_soon_is_no_calm() -> None:
    """It has a next step, whatever else is the matter with the grant; without an end that is near, all is calm."""
    assert standing(GRANT, CALM).tone is Tone.GOOD
    for grant in (GRANT, replace(GRANT, strikes=1), replace(GRANT, failures=2), replace(GRANT, lost_scopes=("mail",))):
        found = standing(grant, ENDING)
        assert (found.tone, found.headline) == (Tone.WATCH, "Kept alive, but its consent ends soon")
        assert found.cause == "Acme ends it on 7 March 2026; no refresh moves that."
        assert found.todo == "Send its owner a re-consent mail."
    assert standing(GRANT, replace(ENDING, hold=PAUSED)).tone is Tone.BAD


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mailed_at": NOW}, "Its owner was mailed on 1 March 2026 and has not come back yet. You can mail again."),
        ({"why_no_mail": WhyNot.UNDER_WAY}, "Nothing to do: a mail to its owner is on its way."),
        ({"why_no_mail": WhyNot.NO_ADDRESS}, "No mail can be sent: nobody to write to: set the grant's email"),
        ({"sends": False}, "No mail can be sent: set EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM"),
    ],
)
def test_the_next_step_is_one_that_is_there(changes: dict[str, Any], said: str) -> None:
    """Of a dead grant and of one that will be, the advice is what its owner's mails allow now."""
    for grant in (GRANT, replace(GRANT, state=GrantState.RECONSENT_REQUIRED)):
        assert standing(grant, replace(ENDING, **changes)).todo.startswith(said)
