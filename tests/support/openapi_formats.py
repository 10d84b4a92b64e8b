"""What schemathesis must know to make values of this API's own formats; loaded by its command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st

from worker.usecases.consent import LONGEST_SUBJECT
from worker.web.api.values import write_cursor

_NAMES = st.text(min_size=1, max_size=LONGEST_SUBJECT).filter(str.isprintable)
# Of tokens and consents: nobody means any other.
_OUR_AGE = st.datetimes(datetime(2000, 1, 2), datetime(2199, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds are given without a zone, and `timezones` adds it

schemathesis.openapi.format("printable", _NAMES)
schemathesis.openapi.format("date-time", _OUR_AGE.map(datetime.isoformat))
schemathesis.openapi.format("cursor", st.builds(write_cursor, _NAMES, _NAMES))


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, object]) -> None:
    """Let each request be a new one: a key that was made up before belongs to another."""
    key = case.headers.get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch("[!-~]{1,255}", key):
        case.headers["Idempotency-Key"] = uuid4().hex
