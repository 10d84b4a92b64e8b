"""A settlement as an entry of the escrow: JSON, with its tokens sealed as they would be in the table."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from worker.domain.grant import Lease
from worker.domain.settlement import StoreTokens
from worker.storage.sealed_settlement import SealedSettlement
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing, key_id_of

#: What the name of every entry ends with.
SUFFIX: Final = ".settlement"
#: Under which the broker's server has them.
KEY: Final = "evergrant:escrow"
_INSTANTS: Final = ("issued_at", "access_expires_at", "refresh_expires_at", "rotate_at")
_SEALED: Final = ("access_token", "refresh_token")
_IDS: Final = ("id", "lease_id")
#: What an entry of an older version does not have.
_LATER_COLUMNS: Final = {"account": None, "account_source": None}


def entry_name(lease: Lease) -> str:
    """Return the name under which the settlement of a lease waits."""
    return f"{lease.lease_id}{SUFFIX}"


def dump(sealed: SealedSettlement) -> str:
    """Write a settlement of tokens as JSON; the tokens in it are sealed.

    Raises:
        ValueError: for any other settlement, for only tokens are worth keeping.

    """
    if sealed.kind is not StoreTokens:
        raise ValueError("only tokens go into the escrow")
    return json.dumps({name: _plain(value) for name, value in sealed.columns.items()})


def load(text: str) -> SealedSettlement:
    """Read what `dump` wrote; what is damaged, or was written by another version, raises one error or another."""
    read = {name: _value(name, value) for name, value in json.loads(text).items()}
    columns = {**_LATER_COLUMNS, **read}
    lease = Lease(grant_id=columns["id"], lease_id=columns["lease_id"], generation=columns["generation"])
    return SealedSettlement(kind=StoreTokens, lease=lease, columns=columns)


def reseal_settlement(entry: str, keys: KeyRing) -> str:
    """Return an entry whose tokens are sealed under the key that seals now; whatever is wrong with it is raised."""
    sealed = load(entry)
    row = sealed.lease.grant_id
    columns = dict(sealed.columns)
    for column in (ACCESS_TOKEN, REFRESH_TOKEN):
        held = columns[column.column]
        if held is not None and key_id_of(held) != keys.sealing_id:
            columns[column.column] = keys.reseal(held, column, row)
    return entry if columns == sealed.columns else dump(replace(sealed, columns=columns))


def key_ids(entry: str) -> list[str]:
    """Return the ids of the keys that an entry's tokens are sealed under; whatever is wrong with it is raised."""
    columns = load(entry).columns
    return [key_id_of(columns[name]) for name in _SEALED if columns[name] is not None]


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 -- a column's value has the column's type
    if value is None:
        return None
    if name in _SEALED:
        return base64.b64decode(value)
    if name in _INSTANTS:
        return datetime.fromisoformat(value)
    return UUID(value) if name in _IDS else value
