"""Files as an export from another system has them: JSON Lines and CSV, good lines and bad ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any

from worker.sandbox.control import SeededGrant


def line_of(grant: SeededGrant, client: str, **more: Any) -> dict[str, Any]:
    """Return the fields of a line that offers a grant of the sandbox's, with more, or without those that are None."""
    fields = {
        "client": client,
        "subject": grant.account,
        "refresh_token": grant.refresh_token.reveal(),
        "access_token": grant.access_token.reveal(),
        "expires_in": grant.expires_in,
        **more,
    }
    return {name: value for name, value in fields.items() if value is not None}


def made_up(number: int, client: str, **more: Any) -> dict[str, Any]:
    """Return the fields of a line whose tokens nobody has issued."""
    return {"client": client, "subject": f"customer-{number}", "refresh_token": f"rt-of-{number}", **more}


def json_lines(lines: Iterable[Mapping[str, Any] | str]) -> str:
    """Write lines, those that are text as they stand."""
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)


def comma_separated(lines: Iterable[Mapping[str, Any]]) -> str:
    """Write lines below the names of all their fields."""
    given = list(lines)
    names = list(dict.fromkeys(name for line in given for name in line))
    written = StringIO()
    table = csv.DictWriter(written, names)
    table.writeheader()
    table.writerows(given)
    return written.getvalue()
