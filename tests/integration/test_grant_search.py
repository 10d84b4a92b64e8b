"""Searching grants: every order visits each grant once, forwards and backwards, and along indexes."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import ContainerMaker
from worker.domain.grant import GrantState
from worker.storage.grant_search import GrantSearch, Order, Search, key_of
from worker.web.console.csv_export import csv_lines

CLIENTS = ("acme", "other")


pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _filled(database_url: str) -> None:
    """Fill the database with 90 grants of two clients: due, under way, dead and paused, many at the same instants."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""
            INSERT INTO grants (id, client, subject, state, state_reason, refresh_token, rotate_at, leased_until,
                                lease_id, state_since, email, account)
            SELECT gen_random_uuid(), CASE WHEN n % 3 = 0 THEN 'other' ELSE 'acme' END, 'Subject-' || n,
                   CASE WHEN n % 7 = 0 THEN 'reconsent_required' WHEN n % 11 = 0 THEN 'paused' ELSE 'active' END,
                   CASE WHEN n % 7 = 0 THEN 'invalid_grant' WHEN n % 11 = 0 THEN 'operator' END, '\\x00',
                   CASE WHEN n % 7 = 0 OR n % 11 = 0 THEN NULL ELSE now() + (n / 10) * interval '1 minute' END,
                   CASE WHEN n % 13 = 1 THEN now() + interval '1 minute' END,
                   CASE WHEN n % 13 = 1 THEN gen_random_uuid() END, now() - (n / 10) * interval '1 hour',
                   CASE WHEN n % 2 = 0 THEN 'Owner' || n || '@example.com' END, CASE WHEN n % 5 = 0 THEN 'Acc-' || n END
              FROM generate_series(1, 90) AS n
        """)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("order", Order)
async def test_pages_hold_each_grant_once_and_lead_back(
    make_container: ContainerMaker, order: Order, *, descending: bool
) -> None:
    """Page by page everything comes once and in order, though many share an instant; the way back is the same."""
    async with make_container("") as container:
        grants = GrantSearch(container.engine)
        search = Search(order=order, descending=descending, limit=7)
        pages: list[list[UUID]] = []
        keys = []
        while True:
            found = await grants.find(search, CLIENTS)
            pages.append([grant.id for grant in found.grants])
            keys += [key_of(order, grant) for grant in found.grants]
            if not found.has_after:
                break
            search = replace(search, after=key_of(order, found.grants[-1]))
        seen = [grant_id for page in pages for grant_id in page]
        active = sum(n % 7 != 0 and n % 11 != 0 for n in range(1, 91))
        expected = {Order.SUBJECT: 90, Order.DUE: active, Order.SINCE: 90 - active}[order]
        assert (len(seen), len(set(seen))) == (expected, expected)
        if order is not Order.SUBJECT:
            assert keys == sorted(keys, reverse=descending)  # type: ignore[type-var]

        search = replace(search, after=None, before=keys[len(keys) - len(pages[-1])])
        for page in reversed(pages[:-1]):
            found = await grants.find(search, CLIENTS)
            assert [grant.id for grant in found.grants] == page
            search = replace(search, before=key_of(order, found.grants[0]))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("SUBJECT-1", 11),
        ("owner1", 5),
        ("Acc-5", 1),
        ("Acc-", 0),
        ("subject-77", 1),
        ("ubject", 0),
        ("%", 0),
        (str(uuid4()), 0),
    ],
)
async def test_text_is_what_something_begins_with(make_container: ContainerMaker, text: str, count: int) -> None:
    """Subjects and addresses are found by their beginnings in any case, accounts in full, nothing else."""
    async with make_container("") as container:
        found = await GrantSearch(container.engine).find(Search(text=text), CLIENTS)
    assert len(found.grants) == count


async def test_filters_hold_together_and_a_cut_is_said(make_container: ContainerMaker) -> None:
    """Client, state, reason and text all hold; where more begins so than is looked at, that is said."""
    async with make_container("") as container:
        grants = GrantSearch(container.engine)
        search = Search(client="other", state=GrantState.RECONSENT_REQUIRED, reason="invalid_grant", text="subject-")
        found = await grants.find(search, CLIENTS)
        assert {grant.subject for grant in found.grants} == {"Subject-21", "Subject-42", "Subject-63", "Subject-84"}
        assert not found.is_cut
        assert (await grants.find(Search(text="subject-"), CLIENTS, begins_at_most=10)).is_cut


@pytest.mark.parametrize("begins_at_most", [10, 1_000])
async def test_an_export_by_text_is_whole(make_container: ContainerMaker, begins_at_most: int) -> None:
    """Whether few or many begin with a text, each comes once and in order; what does not begin so does not come."""
    async with make_container("") as container:
        search = Search(text="subject-1", limit=3)
        grants = GrantSearch(container.engine)
        text = "".join([part async for part in csv_lines(grants, search, CLIENTS, begins_at_most=begins_at_most)])
    written = [tuple(line.split(",")[1:3]) for line in text.splitlines()[1:]]
    assert written == sorted(written)
    assert {subject for _client, subject in written} == {f"Subject-{n}" for n in (1, *range(10, 20))}
    assert len(written) == 11
