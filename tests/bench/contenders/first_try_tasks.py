"""A user's own Celery application: a task a grant, which holds the row's lock while it asks the provider.

Its settings come from the environment, as a user's would. `FIRST_TRY_SHARED=1` keeps one httpx client in each process.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final

import httpx
import psycopg
from celery import Celery

QUEUE: Final = "grants"
WARM_QUEUE: Final = "warm"
SHARED: Final = "FIRST_TRY_SHARED"

app = Celery("first_try", broker=os.environ.get("FIRST_TRY_BROKER"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue=WARM_QUEUE,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": "first_try:"},
)

_SELECT: Final = "SELECT refresh_token FROM clear_grants WHERE id = %s FOR UPDATE"
_STORE: Final = """
    UPDATE clear_grants
       SET refresh_token = %s, access_token = %s, expires_at = now() + %s * interval '1 second',
           rotated_at = clock_timestamp()
     WHERE id = %s
"""


@cache
def _connection() -> psycopg.Connection:
    """Keep one connection in each process."""
    return psycopg.connect(os.environ["FIRST_TRY_DATABASE"], autocommit=True)


@cache
def _client() -> httpx.Client:
    return httpx.Client()


@app.task(name="refresh")
def refresh(grant: int) -> None:
    """Refresh one grant."""
    post = _client().post if SHARED in os.environ else httpx.post
    with _connection().transaction(), _connection().cursor() as cursor:
        found = cursor.execute(_SELECT, [grant]).fetchone()
        if found is None:
            return
        response = post(
            f"{os.environ['FIRST_TRY_ENDPOINT']}/token",
            data={"grant_type": "refresh_token", "refresh_token": found[0]},
            auth=("bench", "the bench's client secret"),
        )
        answer = response.raise_for_status().json()
        cursor.execute(_STORE, [answer["refresh_token"], answer["access_token"], answer["expires_in"], grant])
