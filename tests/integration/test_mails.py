"""Mails from a death to the owner's mailbox: once each, gathered, reminded, held back, tried again, given up."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import everything_in, execute, rows, value
from tests.support.mail_server import MailServer
from tests.support.mailing import AT_ONCE, CONFIGURATION, ROUND, alive, dead, later, mails
from worker.bootstrap import Container
from worker.domain.mail_fate import DOUBTS
from worker.storage.mail_claim import LEASE

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
LONG = timedelta(days=30)


@pytest.fixture
def server() -> Iterator[MailServer]:
    """Run a mail server."""
    with MailServer() as running:
        yield running


async def _states(container: Container) -> Counter[tuple[str, str]]:
    return Counter((mail.kind, mail.state) for mail in await mails(container))


async def test_a_death_is_mailed_once_with_a_link_and_nothing_of_it_is_stored(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """However often and by however many is looked, one mail names client and account; no table holds the link."""
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        await dead(container, "customer-42", client="acme-crm")
        for _ in range(3):
            await asyncio.gather(*(container.mails.round(ROUND) for _ in range(3)))

        [received] = server.received
        assert received.recipients == ("customer-42@example.com",)
        assert "Acme CRM" in received.text
        assert "customer-42" in received.text
        secret = received.link.rpartition("/")[2]
        assert secret not in await everything_in(container, "reconsent_mails")
        [event] = await rows(container, "SELECT type, data FROM events")
        assert event.type == "grant.reconsent_mailed"
        assert "example.com" not in str(event.data)
        assert await _states(container) == {("death", "sent"): 1, ("reminder", "waiting"): 2}


async def test_nothing_is_sent_before_the_delay_or_after_a_week(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """A death of this moment waits for the brake; who died long ago is left to the operator."""
    async with make_container(CONFIGURATION, smtp_url=server.url) as container:
        await dead(container, "just-now")
        await dead(container, "long-ago", since=8 * DAY)
        await dead(container, "nobody-to-write-to", email=None)
        await container.mails.round(ROUND)
        assert server.received == []
        assert [mail.subject for mail in await mails(container)] == ["just-now"]

        await later(container, timedelta(minutes=1))
        await container.mails.round(ROUND)
        assert [received.recipients for received in server.received] == [("just-now@example.com",)]


async def test_reminders_come_until_the_grant_is_back(make_container: ContainerMaker, server: MailServer) -> None:
    """After three and seven days the owner is reminded, under another link; once the grant is alive nothing comes."""
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        back, away = await dead(container, "back"), await dead(container, "away")
        await container.mails.round(ROUND)
        await later(container, 3 * DAY)
        await container.mails.round(ROUND)
        assert Counter(mail.recipients[0] for mail in server.received) == {
            "back@example.com": 2,
            "away@example.com": 2,
        }
        assert len({mail.link for mail in server.received}) == 4

        await alive(container, back)
        await execute(container, "DELETE FROM grants WHERE id = :id", id=away)
        assert await container.mails.notes.note_ends() == 0
        await later(container, LONG)
        await container.mails.round(ROUND)
        assert len(server.received) == 4
        assert await _states(container) == {
            ("death", "sent"): 2,
            ("reminder", "sent"): 2,
            ("reminder", "cancelled"): 2,
        }


async def test_an_owner_with_many_gets_one_mail(make_container: ContainerMaker, server: MailServer) -> None:
    """Grants of one owner that died together share a mail and a link; the next ones wait for the cool-down."""
    configuration = CONFIGURATION + '[mails]\ndelay = "0s"\ncool_down = "1h"\n'
    async with make_container(configuration, smtp_url=server.url) as container:
        for subject, client in (("one", "acme-main"), ("two", "acme-main"), ("three", "acme-crm")):
            await dead(container, subject, client=client, email="ada@example.com")
        await container.mails.round(ROUND)
        [received] = server.received
        assert received.message["Subject"] == "Acme CRM, Acme (3) ↻"
        assert all(subject in received.html for subject in ("one", "two", "three"))
        assert received.link

        await dead(container, "four", email="ada@example.com")
        await container.mails.round(ROUND)
        assert len(server.received) == 1
        await later(container, timedelta(hours=1))
        await container.mails.round(ROUND)
        assert server.received[1].message["Subject"] == "Acme · four ↻"


async def test_a_client_may_gather_or_leave_it_to_its_operator(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """`digest` waits for the time of day at which all go out; `manual` sends nothing of itself."""
    configuration = CONFIGURATION.replace('client_id = "acme-main"', 'client_id = "a"\nreconsent_mails = "digest"')
    configuration = configuration.replace('client_id = "acme-crm"', 'client_id = "b"\nreconsent_mails = "manual"')
    async with make_container(configuration + AT_ONCE, smtp_url=server.url) as container:
        await dead(container, "gathered", since=DAY)
        await dead(container, "left", client="acme-crm")
        await container.mails.round(ROUND)
        assert server.received == []
        [mail] = await mails(container)
        now = await container.grants.now()
        assert (mail.due_at.hour, mail.due_at.minute) == (8, 0)
        assert now < mail.due_at <= now + DAY

        await later(container, DAY)
        await container.mails.round(ROUND)
        assert [received.recipients for received in server.received] == [("gathered@example.com",)]


async def test_reminders_end_where_mails_are_left_to_the_operator(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """A client that becomes `manual` reminds nobody any more."""
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        await dead(container, "customer-1")
        await container.mails.round(ROUND)
    manual = CONFIGURATION.replace('client_id = "acme-main"', 'client_id = "a"\nreconsent_mails = "manual"')
    async with make_container(manual + AT_ONCE, smtp_url=server.url) as container:
        await later(container, LONG)
        await container.mails.round(ROUND)
        assert len(server.received) == 1
        assert await _states(container) == {("death", "sent"): 1, ("reminder", "cancelled"): 2}


async def test_fallback_recipients_get_what_has_no_owner(make_container: ContainerMaker, server: MailServer) -> None:
    """Where the owner's address is not known, all of the client's fallback recipients are written to at once."""
    configuration = CONFIGURATION.replace(
        'client_id = "acme-main"', 'client_id = "a"\nfallback_recipients = ["ops@example.com", "crm@example.com"]'
    )
    async with make_container(configuration + AT_ONCE, smtp_url=server.url) as container:
        await dead(container, "without", email=None)
        await dead(container, "with")
        await container.mails.round(ROUND)

        assert {received.recipients for received in server.received} == {
            ("ops@example.com", "crm@example.com"),
            ("with@example.com",),
        }


async def test_a_new_address_counts_at_once(make_container: ContainerMaker, server: MailServer) -> None:
    """A mail that waits goes to where the owner is by then."""
    server.faults.at_recipient = lambda address: "450 4.2.1 later" if address == "old@example.com" else None
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        grant_id = await dead(container, "moved", email="old@example.com")
        await container.mails.round(ROUND)
        await container.operations.acts.set_email(grant_id, "new@example.com")
        await later(container, DAY)
        await container.mails.round(ROUND)

        assert [received.recipients for received in server.received] == [("new@example.com",)]


async def test_a_braked_client_mails_nobody(make_container: ContainerMaker, server: MailServer) -> None:
    """While abnormally many die, mails wait; others' go out. They follow once the brake is off."""
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        await dead(container, "held")
        await dead(container, "free", client="acme-crm")
        await execute(container, "INSERT INTO client_status (client, braked_at) VALUES ('acme-main', now())")
        await container.mails.round(ROUND)
        assert [received.recipients for received in server.received] == [("free@example.com",)]

        await container.statuses.resume("acme-main")
        await container.mails.round(ROUND)
        assert [received.recipients for received in server.received][1:] == [("held@example.com",)]


async def test_what_the_server_will_never_take_is_shown_and_what_it_takes_later_is_tried_again(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """5yz ends a mail with the server's words, in an event too; after 4yz it is the same mail under the same link."""
    server.faults.at_recipient = lambda address: "550 5.1.1 no such user here" if "gone" in address else None
    server.faults.at_data = lambda address: "451 4.7.1 greylisted, wait" if "grey" in address else None
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        await dead(container, "gone")
        await dead(container, "grey")
        await dead(container, "nonsense", email="a@b, c@d.example")
        await container.mails.round(ROUND)

        grey, gone, nonsense = sorted(
            await mails(container), key=lambda mail: ["grey", "gone", "nonsense"].index(mail.subject)
        )
        assert (gone.state, gone.last_error_status, gone.last_error) == ("refused", 550, "5.1.1 no such user here")
        assert (grey.state, grey.last_error_status, grey.attempts) == ("waiting", 451, 1)
        assert (nonsense.state, nonsense.last_error) == ("refused", "the address is not an e-mail address")
        failed = await rows(container, "SELECT subject, data FROM events WHERE type = 'grant.reconsent_mail_failed'")
        assert {event.subject: event.data["status"] for event in failed} == {"gone": 550, "nonsense": None}

        server.faults.at_data = lambda _address: None
        await later(container, timedelta(minutes=1))
        await container.mails.round(ROUND)
        [received] = server.received
        assert received.message["Message-ID"] == f"<{grey.message_id}@example.com>"
        assert {
            mail.attempts for mail in await mails(container) if mail.subject == "grey" and mail.kind == "death"
        } == {2}


async def test_while_the_server_is_away_everything_waits(make_container: ContainerMaker, server: MailServer) -> None:
    """Nothing counts as an attempt, the reason is shown, and all come once it is back."""
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        for number in range(5):
            await dead(container, f"customer-{number}")
        server.stop()
        await container.mails.round(ROUND)
        stored = await mails(container)
        assert {(mail.state, mail.attempts, mail.doubts) for mail in stored} == {("waiting", 0, 0)}
        assert any(mail.last_error and "connect" in mail.last_error.lower() for mail in stored)

    server.start()
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        await later(container, timedelta(minutes=1))
        await container.mails.round(ROUND)
        assert len(server.received) == 5


async def test_a_lost_answer_alone_makes_a_mail_come_again_as_itself(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """It was taken and not said so: it goes out again with the same Message-ID and link, and not for ever."""
    server.faults.hangs_up_after = lambda _address: True
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        await dead(container, "customer-1")
        for attempt in range(1, DOUBTS + 2):
            await container.mails.round(ROUND)
            assert len(server.received) == min(attempt, DOUBTS)
            await later(container, DAY)

        assert len({received.message["Message-ID"] for received in server.received}) == 1
        assert len({received.link for received in server.received}) == 1
        [mail] = await mails(container)
        assert (mail.state, mail.doubts) == ("given_up", DOUBTS)


async def test_a_worker_that_ended_while_sending_leaves_a_doubt(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """Its mail is not touched while it may still be sending, and goes out again after; its late word still counts."""
    async with make_container(CONFIGURATION + AT_ONCE, smtp_url=server.url) as container:
        sender = container.mails.sender
        assert sender is not None
        await dead(container, "customer-1")
        await container.mails.notes.note_deaths()
        claimed = await sender._claims.claim()
        assert claimed is not None
        await container.mails.round(ROUND)
        assert server.received == []

        await later(container, LEASE)
        await container.mails.round(ROUND)
        [received] = server.received
        assert received.message["Message-ID"] == f"<{claimed.message_id}@example.com>"
        assert await value(container, "SELECT doubts FROM reconsent_mails WHERE kind = 'death'") == 1


async def test_consents_that_end_are_told_ahead_once(make_container: ContainerMaker, server: MailServer) -> None:
    """Where no refresh moves the end, there is an event and a mail before it, however the end is counted down."""
    configuration = CONFIGURATION.replace('client_auth = "none"', 'client_auth = "none"\nrefresh_lifetime = "90d"')
    async with make_container(configuration + AT_ONCE, smtp_url=server.url) as container:
        ending = await dead(container, "ending")
        await dead(container, "not-yet")
        await execute(
            container,
            """
            UPDATE grants
               SET state = 'active', rotate_at = now(), consented_at = now() - interval '84 days',
                   refresh_expires_at = now() + interval '1 day' * CASE subject WHEN 'ending' THEN 6 ELSE 8 END
            """,
        )
        assert await container.mails.notes.note_ends() == 1
        await execute(container, "UPDATE grants SET refresh_expires_at = refresh_expires_at + interval '1 second'")
        assert await container.mails.notes.note_ends() == 0
        await container.mails.round(ROUND)
        await container.mails.round(ROUND)

        [received] = server.received
        assert received.recipients == ("ending@example.com",)
        assert re.search(r"⇥ \d{4}-\d\d-\d\d", received.text)
        assert await value(container, "SELECT count(*) FROM events WHERE type = 'grant.expiring'") == 1
        [event] = await rows(container, "SELECT grant_id, data FROM events WHERE type = 'grant.expiring'")
        assert event.grant_id == ending
        assert event.data["ends_at"]
        assert await _states(container) == {("expiring", "sent"): 1}
