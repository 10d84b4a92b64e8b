"""Which failures are the database's own answer, and which mean that it is not there."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, NoResultFound, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from worker.storage.away import has_answered


def failed(kind: type[DBAPIError], cause: psycopg.Error, *, ended: bool = False) -> DBAPIError:
    """Return SQLAlchemy's error for one of the driver's."""
    return kind("SELECT", {}, cause, connection_invalidated=ended)


@pytest.mark.parametrize(
    "error",
    [
        failed(ProgrammingError, errors.UndefinedTable()),
        failed(OperationalError, errors.QueryCanceled()),
        failed(OperationalError, errors.LockNotAvailable()),
        NoResultFound(),
    ],
)
def test_a_statement_that_is_refused_is_an_answer(error: BaseException) -> None:
    """Whoever says what is wrong with a statement, or gives it up, is there."""
    assert has_answered(error)


@pytest.mark.parametrize(
    "error",
    [
        failed(OperationalError, psycopg.OperationalError("connection refused")),
        failed(OperationalError, errors.AdminShutdown(), ended=True),
        PoolTimeoutError(),
        TimeoutError(),
        ConnectionRefusedError(),
    ],
)
def test_silence_and_a_session_that_ends_are_none(error: BaseException) -> None:
    """A database that nobody reaches, or that goes away, has said nothing of the statement."""
    assert not has_answered(error)
