"""Where sealed columns are: the tables, by which key their rows are walked through, and to what a seal is bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from worker.storage.sealing import ACCESS_TOKEN, ANSWER, CODE_VERIFIER, REFRESH_TOKEN, Column


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedTable:
    """One table with sealed columns."""

    name: str
    key: str  #: its primary key
    key_type: str
    lowest: Any  #: a key below all others
    row: str  #: the column that a seal is bound to
    columns: tuple[Column, ...]


_NO_ID: Final = UUID(int=0)

#: Every sealed column there is. A new one that is left out here fails a test.
SEALED_TABLES: Final = (
    SealedTable(
        name="grants", key="id", key_type="uuid", lowest=_NO_ID, row="id", columns=(REFRESH_TOKEN, ACCESS_TOKEN)
    ),
    SealedTable(
        name="authorization_requests",
        key="state_hash",
        key_type="bytea",
        lowest=b"",
        row="id",
        columns=(CODE_VERIFIER,),
    ),
    SealedTable(name="idempotent_requests", key="id", key_type="uuid", lowest=_NO_ID, row="id", columns=(ANSWER,)),
)
