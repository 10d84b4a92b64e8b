"""Who is mailed, when, and how often; and where a mail stands after each answer of the server."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from worker.domain.address import for_the_wire, is_address
from worker.domain.delivery import Accepted, Deferred, Delivery, Doubtful, Refused, Trouble, is_address_wrong, readable
from worker.domain.grant import GrantState
from worker.domain.mail_fate import ATTEMPTS, DOUBTS, RETRY_LONGEST, fate, retry_wait
from worker.domain.reconsent import Addressee, Asker, MailPolicy, MailState, WhyNot, next_digest, why_not

NOW = datetime(2026, 10, 7, 12, tzinfo=UTC)
DRAWS = st.floats(min_value=0, max_value=1, exclude_max=True)
DELIVERIES = st.sampled_from(
    [
        Accepted(),
        Refused(status=550, reply="no"),
        Deferred(status=450, reply="later"),
        Doubtful(what="lost"),
        Trouble(status=None, what="away"),
    ]
)
ADDRESSEES = st.builds(
    Addressee,
    state=st.sampled_from(GrantState),
    ends_soon=st.booleans(),
    configured=st.booleans(),
    recipient=st.sampled_from([None, "ada@example.com"]),
    under_way=st.booleans(),
    last_sent_at=st.none() | st.datetimes(timezones=st.just(UTC), max_value=NOW.replace(tzinfo=None)),
    has_fresh_link=st.booleans(),
    sent=st.integers(0, 9),
    address_refused=st.booleans(),
)


@given(addressee=ADDRESSEES)
def test_whoever_may_be_mailed_in_bulk_may_be_mailed_by_name(addressee: Addressee) -> None:
    """Naming a grant overrules protections and adds none; nobody is ever mailed without a need and an address."""
    policy = MailPolicy()
    reasons = {asker: why_not(addressee, asker, policy, NOW) for asker in Asker}

    if reasons[Asker.OPERATOR_IN_BULK] is None:
        assert reasons[Asker.OPERATOR_BY_NAME] is None
        assert reasons[Asker.OWNER] is (WhyNot.ASKED_BEFORE if addressee.has_fresh_link else None)
    needed = addressee.state is GrantState.RECONSENT_REQUIRED or addressee.ends_soon
    for asker, reason in reasons.items():
        if reason is None:
            assert needed, asker
            assert addressee.recipient is not None
            assert not addressee.under_way
        assert (reason is WhyNot.NOT_NEEDED) == (not needed)


@given(delivery=DELIVERIES, attempts=st.integers(1, 500), doubts=st.integers(0, 10), draw=DRAWS)
def test_every_attempt_ends_or_is_repeated_within_an_hour(
    delivery: Delivery, attempts: int, doubts: int, draw: float
) -> None:
    """A mail that waits has a wait, one that has ended none; nothing is tried for ever."""
    decided = fate(delivery, attempts=attempts, doubts=doubts, draw=draw)

    assert (decided.state is MailState.WAITING) == (decided.wait is not None)
    assert decided.wait is None or timedelta(0) < decided.wait <= RETRY_LONGEST
    assert decided.counted == (not isinstance(delivery, Trouble))
    assert decided.in_doubt == isinstance(delivery, Doubtful)
    if isinstance(delivery, Deferred) and attempts >= ATTEMPTS:
        assert decided.state is MailState.GIVEN_UP
    if isinstance(delivery, Doubtful) and doubts + 1 >= DOUBTS:
        assert decided.state is MailState.GIVEN_UP


@given(draw=DRAWS)
def test_a_mail_that_is_not_taken_is_tried_for_days(draw: float) -> None:
    """Its attempts together take longer than a weekend's half and shorter than a link is good for."""
    together = sum((retry_wait(attempt, draw) for attempt in range(1, ATTEMPTS)), timedelta(0))

    assert timedelta(days=1) < together < timedelta(days=4)


@given(
    now=st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001 -- hypothesis adds the zone
    at=st.times(),
)
def test_the_next_digest_is_within_a_day(now: datetime, at: time) -> None:
    """It lies ahead, a day away at most, at the time of day that was set."""
    found = next_digest(now, at)

    assert now < found <= now + timedelta(days=1)
    assert found.time() == at


def test_which_refusals_are_about_the_address() -> None:
    """Enhanced codes decide (RFC 3463), the reply's code where there are none."""
    about = [(550, "5.1.1 unknown"), (552, "5.2.2 mailbox full"), (550, "no such user"), (553, "bad name")]
    others = [(550, "5.7.1 relay denied"), (554, "5.7.1 spam"), (554, "transaction failed"), (None, "no SMTPUTF8")]

    assert all(is_address_wrong(status, reply) for status, reply in about)
    assert not any(is_address_wrong(status, reply) for status, reply in others)


@given(reply=st.text())
def test_a_reply_is_shown_as_one_printable_line(reply: str) -> None:
    """Whatever a server says, it breaks no table and no log."""
    shown = readable(reply)

    assert shown.isprintable()
    assert len(shown) <= 300


@given(text=st.text())
def test_an_address_is_one_and_stays_one(text: str) -> None:
    """What is taken for an address has no comma, space, bracket or line end, and a domain that servers know."""
    if is_address(text):
        assert not set(text) & set(' ,;:<>"()[]\\\r\n')
        assert for_the_wire(text).rpartition("@")[2].isascii()


def test_addresses_that_people_have_and_tricks_that_they_do_not() -> None:
    """Plus signs, other letters and long domains pass; lists, names and comments do not."""
    good = ["a@b", "ada.lovelace+tokens@example.com", "o'neill@example.com", "bücher@bücher.example"]
    bad = [
        "",
        "a",
        "a@",
        "@b",
        "a@b,c@d",
        "a@b, c@d",
        "Ada <a@b>",
        "<a@b>",
        "a b@c",
        "a@b c",
        "a..b@c",
        "a@b..c",
        "a@b@c",
    ]

    assert all(map(is_address, good))
    assert not any(map(is_address, [*bad, "a@b@c", "a@b\r\nBcc: c@d", f"{'x' * 250}@example.com"]))
