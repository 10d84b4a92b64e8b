"""Arrays written by hand are read by PostgreSQL as what they were."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.storage.arrays import array_literal

_TEXT = st.text(st.characters(exclude_characters="\x00", codec="utf-8"))
_KINDS: dict[str, st.SearchStrategy[Any]] = {
    "uuid": st.uuids(),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "bytea": st.binary(),
    "timestamptz": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 -- hypothesis adds the zone
    "text": _TEXT,
    "jsonb": st.dictionaries(_TEXT, _TEXT).map(json.dumps),
}


@pytest.mark.parametrize("sql_type", _KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_what_is_read(database_url: str, sql_type: str, data: st.DataObject) -> None:
    """Quotes, backslashes, braces, commas, NULL and the word NULL come back as they went."""
    values = data.draw(st.lists(st.none() | _KINDS[sql_type] | (st.just("NULL") if sql_type == "text" else st.none())))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET timezone TO 'UTC'")
        found = connection.execute(f"SELECT CAST(%s AS {sql_type}[])", [array_literal(sql_type, values)]).fetchone()
    assert found is not None
    expected = [json.loads(value) if sql_type == "jsonb" and value is not None else value for value in values]
    assert found[0] == expected
