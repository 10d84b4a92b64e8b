"""Lines of JSON that are made in one pass say what a chain of processors would have made of them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.secret import Secret
from worker.log_lines import FixedLine, bound_ids, json_line, json_logger
from worker.log_redaction import FORBIDDEN

LOGGER = SimpleNamespace(name="evergrant")
TEXT = st.text(max_size=9)
PLAIN = st.one_of(TEXT, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.uuids())
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=2), st.dictionaries(TEXT, PLAIN, max_size=2))
NAMES = TEXT.filter(lambda name: name not in FORBIDDEN | {"exc_info", "level", "logger", "timestamp"})


def line(event: dict[str, Any], method: str = "info") -> dict[str, Any]:
    """Make one line and read it back."""
    read: dict[str, Any] = json.loads(json_line(LOGGER, method, event))
    return read


def logger_of(level: str, written: list[bytes]) -> Any:
    """Return a logger that gives its lines to a list."""
    made: Any = json_logger(level)
    return made(SimpleNamespace(name="evergrant", msg=written.append), [], {})


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_every_value_comes_back(event: dict[str, Any]) -> None:
    """Text in any script, numbers, and what JSON has no word for: as the standard library's encoder writes them."""
    event = {"event": "x", **event}
    made = line(dict(event))
    stamp = datetime.fromisoformat(made.pop("timestamp"))
    assert (made.pop("level"), made.pop("logger")) == ("info", "evergrant")
    assert made == json.loads(json.dumps(event, default=str))
    assert stamp.utcoffset() == timedelta()


@given(client=TEXT, number=st.integers(), grant=st.uuids(), scan=st.none() | TEXT)
def test_a_fixed_line_is_what_a_free_one_would_be(client: str, number: int, grant: UUID, scan: str | None) -> None:
    """Values of the three kinds, ids that are bound beside them, and one that a field gives way to."""
    written: list[bytes] = []
    logger = logger_of("info", written)
    fields: dict[str, Any] = {"client": client, "100 %s": number, "grant": grant}
    fixed = FixedLine(logger, "it_%s", {"client": str, "100 %s": int, "grant": UUID})
    with bound_ids(scan=scan), bound_ids(**({"client": "bound"} if scan else {})):
        fixed.write(*fields.values())
        logger.info("it_%s", **fields)
    one, other = (json.loads(found) | {"timestamp": None} for found in written)
    assert one == other


def test_a_fixed_line_has_a_level_and_no_secret() -> None:
    """Where INFO is not shown nothing is written; a name under which nothing is shown is refused at once."""
    written: list[bytes] = []
    FixedLine(logger_of("warning", written), "x", {"client": str}).write("main")
    assert written == []
    with pytest.raises(ValueError, match="x: nothing is ever shown of code, password"):
        FixedLine(logger_of("info", written), "x", {"password": str, "code": str})


def test_a_fixed_line_on_a_terminal_shows_text() -> None:
    """Where lines are not JSON, they go the ordinary way, and an id is written as in every other line."""
    shown: list[dict[str, Any]] = []
    plain: Any = structlog.make_filtering_bound_logger("info")
    terminal = plain(SimpleNamespace(info=lambda **event: shown.append(event)), [], {})
    grant = UUID("cf4d5e5e-c3f6-48a5-8462-57bb3f418b31")
    FixedLine(terminal, "x", {"client": str, "grant": UUID, "generation": int}).write("main", grant, 4)
    assert shown == [{"event": "x", "client": "main", "grant": str(grant), "generation": 4}]


def test_ids_that_are_bound_stand_in_every_line_and_give_way_to_its_own() -> None:
    """Blocks may be nested; a line's own field of that name counts."""
    with bound_ids(scan="s"), bound_ids(drain="d"):
        assert line({"event": "x"}).items() >= {"scan": "s", "drain": "d"}.items()
        assert line({"event": "x", "scan": "mine"})["scan"] == "mine"
    assert "scan" not in line({"event": "x"})


def test_secrets_are_stars_by_name_type_and_in_tracebacks() -> None:
    """Nothing of a secret is written, wherever it stands in an event."""
    hidden = "s3cr3t-Value.0123"
    event = {"event": "x", "code": hidden, "its": Secret(hidden), "in_it": {"refresh_token": hidden}}
    error = ValueError(f"https://issuer.example/?code={hidden}")
    made = json_line(LOGGER, "exception", {**event, "exc_info": error})
    assert hidden.encode() not in made
    read = json.loads(made)
    assert (read["code"], read["its"], read["in_it"], read["level"]) == (
        "***",
        "***",
        {"refresh_token": "***"},
        "error",
    )
    assert "ValueError" in read["exception"]
