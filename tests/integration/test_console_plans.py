"""What the console's lists are read by: an index of their own, however many mails and entries there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import ContainerMaker
from tests.support.plans import plans_of
from worker.bootstrap import Container
from worker.domain.audit import Act
from worker.domain.reconsent import MailState
from worker.storage.mail_addressees import MailAddressees
from worker.storage.mail_list import newest_mails

pytestmark = pytest.mark.anyio

Reading = Callable[[Container], Awaitable[object]]

_FILL = """
    INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, state, sent_at, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'client-' || n % 100, 'ada', now(), 'death', 'ada@example.com',
           CASE WHEN n < 5 THEN 'waiting' ELSE 'sent' END, now(), now() + n * interval '1 ms'
      FROM generate_series(1, 20000) AS n;
    INSERT INTO audit_log (kind, actor, act, outcome, client, grant_id)
    SELECT 'person', 'Ada', CASE WHEN n < 50 THEN 'grant.pause' ELSE 'access_token.give' END, 'done', 'acme',
           '00000000-0000-0000-0000-000000000001'
      FROM generate_series(1, 20000) AS n;
    ANALYZE reconsent_mails, audit_log
"""


@pytest.fixture
def filled(database_url: str) -> str:
    """Fill a database with mails that were sent, and access tokens that were given out."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_FILL)
    return database_url


@pytest.mark.parametrize(
    ("index", "read"),
    [
        (
            "ix_reconsent_mails_open",
            lambda container: newest_mails(
                container.engine, client=None, states=(MailState.WAITING, MailState.SENDING), before=None, limit=50
            ),
        ),
        (
            "ix_reconsent_mails_client",
            lambda container: newest_mails(container.engine, client="client-1", states=(), before=None, limit=50),
        ),
        (
            "ix_reconsent_mails_answered",
            lambda container: MailAddressees(container.engine, {"client-1": ("ada@example.com",)}).by_id([uuid4()]),
        ),
        ("ix_audit_log_acts_by_actor", lambda container: container.audit.list(actor="Grace", tokens=False, limit=50)),
        ("ix_audit_log_acts_by_act", lambda container: container.audit.list(act=Act.GRANT_REVOKED, limit=50)),
        ("ix_audit_log_acts", lambda container: container.audit.list(tokens=False, limit=50)),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
@pytest.mark.usefixtures("filled")
async def test_a_list_is_read_by_its_own_index(make_container: ContainerMaker, index: str, read: Reading) -> None:
    """Mails that wait, one client's, the last to an address; what somebody did, one act, all beside access tokens."""
    async with make_container("") as container:
        engine = container.engine.sync_engine
        with plans_of(engine) as plans:
            await read(container)
        [ran] = plans.statements
        async with container.engine.connect() as connection:
            explained = await connection.exec_driver_sql(f"EXPLAIN {ran.sql}", dict(ran.parameters))
            plan = "\n".join(explained.scalars())
    assert f"{index} " in plan, plan
