"""Mails that somebody asks for: by name, in bulk, by an owner; and who is left alone, and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.conftest import ContainerMaker
from tests.support.database import execute
from tests.support.mail_server import MailServer
from tests.support.mailing import CONFIGURATION, ROUND, alive, dead, later, mails
from worker.bootstrap import Container
from worker.domain.reconsent import Asker, WhyNot

pytestmark = pytest.mark.anyio

MANUAL = CONFIGURATION.replace('client_id = "acme-main"', 'client_id = "a"\nreconsent_mails = "manual"').replace(
    'client_id = "acme-crm"', 'client_id = "b"\nreconsent_mails = "manual"'
)
LONG = timedelta(days=400)

Answers = dict[str, WhyNot | None]


@pytest.fixture
def server() -> Iterator[MailServer]:
    """Run a mail server."""
    with MailServer() as running:
        yield running


async def _ask_all(container: Container, client: str | None = None, *, dry_run: bool = False) -> Answers:
    found: Answers = {}
    async for page in container.mails.requests.ask_all(client, dry_run=dry_run):
        found |= {one.candidate.subject: one.why_not for one in page}
    return found


async def test_a_dry_run_says_the_same_and_changes_nothing(make_container: ContainerMaker, server: MailServer) -> None:
    """Who would get a mail and who not, each with a reason; then it is done, and everybody gets theirs once."""
    async with make_container(MANUAL, smtp_url=server.url) as container:
        for subject in ("first", "second"):
            await dead(container, subject, since=LONG)
        await dead(container, "other", client="acme-crm")
        await dead(container, "without", email=None)
        await dead(container, "left behind", client="gone")
        await alive(container, await dead(container, "alive"))
        expected: Answers = {
            "first": None,
            "second": None,
            "without": WhyNot.NO_ADDRESS,
        }
        everywhere = expected | {"other": None, "left behind": WhyNot.NOT_CONFIGURED}

        assert await _ask_all(container, "acme-main", dry_run=True) == expected
        assert await _ask_all(container, dry_run=True) == everywhere
        assert await mails(container) == []
        assert await _ask_all(container) == everywhere
        assert await _ask_all(container) == {
            subject: why_not or WhyNot.UNDER_WAY for subject, why_not in everywhere.items()
        }
        await container.mails.round(ROUND)
        assert sorted(received.recipients[0] for received in server.received) == [
            "first@example.com",
            "other@example.com",
            "second@example.com",
        ]
        assert {(mail.kind, mail.state) for mail in await mails(container)} == {("operator", "sent")}


async def test_who_is_named_is_mailed_despite_what_protects_from_a_bulk(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """Cool-down and cap hold for a bulk; by name a mail goes out, though not twice within minutes."""
    configuration = MANUAL + '[mails]\ncap = 1\ncool_down = "1h"\n'
    async with make_container(configuration, smtp_url=server.url) as container:
        grant_id = await dead(container, "customer-1")

        async def ask(asker: Asker) -> WhyNot | None:
            [one] = await container.mails.requests.ask([grant_id, uuid4()], asker)
            await container.mails.round(ROUND)
            return one.why_not

        assert await ask(Asker.OPERATOR_BY_NAME) is None
        assert await ask(Asker.OPERATOR_BY_NAME) is WhyNot.ASKED_BEFORE
        await later(container, timedelta(minutes=6))
        assert await ask(Asker.OWNER) is WhyNot.CAPPED
        assert await ask(Asker.OPERATOR_IN_BULK) is WhyNot.CAPPED
        await execute(container, "UPDATE grants SET state_since = now()")  # it came back, and has died again
        assert await ask(Asker.OPERATOR_IN_BULK) is WhyNot.COOLING_DOWN
        assert await ask(Asker.OPERATOR_BY_NAME) is None
        assert len(server.received) == 2


async def test_a_refused_address_is_left_alone_until_it_is_named_or_corrected(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """An address that the server does not know is not tried again in bulk; a refusal for other reasons is."""
    server.faults.at_recipient = lambda address: "550 5.1.1 unknown" if "wrong" in address else "554 5.7.1 relay denied"
    async with make_container(MANUAL, smtp_url=server.url) as container:
        wrong = await dead(container, "wrong")
        await dead(container, "relayed")
        assert await _ask_all(container) == {"wrong": None, "relayed": None}
        await container.mails.round(ROUND)
        server.faults.at_recipient = lambda _address: None

        assert await _ask_all(container) == {"wrong": WhyNot.ADDRESS_REFUSED, "relayed": None}
        await container.operations.acts.set_email(wrong, "right@example.com")
        assert await _ask_all(container) == {"wrong": None, "relayed": WhyNot.UNDER_WAY}
        await container.mails.round(ROUND)
        assert sorted(received.recipients[0] for received in server.received) == [
            "relayed@example.com",
            "right@example.com",
        ]


async def test_an_asked_for_mail_takes_the_place_of_one_that_waits(
    make_container: ContainerMaker, server: MailServer
) -> None:
    """Tomorrow's digest is not sent as well; the reminders are."""
    configuration = CONFIGURATION.replace('client_id = "acme-main"', 'client_id = "a"\nreconsent_mails = "digest"')
    async with make_container(configuration, smtp_url=server.url) as container:
        grant_id = await dead(container, "customer-1")
        await container.mails.round(ROUND)
        [asked] = await container.mails.requests.ask([grant_id], Asker.OPERATOR_BY_NAME)
        assert asked.why_not is None
        await container.mails.round(ROUND)
        assert {(mail.kind, mail.state) for mail in await mails(container)} == {
            ("death", "cancelled"),
            ("operator", "sent"),
            ("reminder", "waiting"),
        }
        await later(container, timedelta(days=1))
        await container.mails.round(ROUND)
        assert len(server.received) == 1
