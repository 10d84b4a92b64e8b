"""Which keys seal what is in the database, noted by every process that starts, so that a missing key is found then."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, TextClause, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from worker.domain.errors import BrokenSealError, ConfigurationError
from worker.domain.secret import Secret
from worker.storage.database import CONNECT_SECONDS, database_url
from worker.storage.sealed_tables import SEALED_TABLES
from worker.storage.sealing import REFRESH_TOKEN, KeyRing, header_of

#: How many rows an error counts: beyond it "or more" tells enough.
_COUNTED: Final = 1_000
#: Milliseconds to look for what a missing key seals; a start does not wait longer.
_LOOK_MS: Final = 10_000

_RECORDS: Final = text("SELECT id, identity FROM sealing_keys ORDER BY first_used_at, id")
_NOTE: Final = text("INSERT INTO sealing_keys (id, identity) VALUES (:id, :identity) ON CONFLICT (id) DO NOTHING")
_IDENTIFY: Final = text("UPDATE sealing_keys SET identity = :identity WHERE id = :id AND identity IS NULL")
_FORGET: Final = text("DELETE FROM sealing_keys WHERE id = :id")
_ANY_GRANT: Final = text("""
    SELECT id, refresh_token FROM grants WHERE substring(refresh_token FROM 1 FOR :length) = :header LIMIT 1
""")


class KeyRecords:
    """The notes, seen with one key ring.

    Args:
        configured: EVERGRANT_DATABASE_URL of a migrated database.
        keys: this process's.

    """

    def __init__(self, configured: Secret, keys: KeyRing) -> None:
        options = f"-c statement_timeout={_LOOK_MS}"
        self._engine = create_engine(
            database_url(configured),
            poolclass=pool.NullPool,
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "evergrant keys",
                "options": options,
            },
        )
        self._keys = keys

    def check(self, *, note: bool = True) -> None:
        """See that the ring has every key that this database needs, and note the one that seals from now on.

        Args:
            note: whether to; a look that changes nothing does not.

        Raises:
            ConfigurationError: names the key and what it seals, or says that another key has its id.

        """
        with self._engine.begin() as connection:
            recorded = {row.id: row.identity for row in connection.execute(_RECORDS)}
            if note and self._keys.sealing_id not in recorded:
                self._note(connection, self._keys.sealing_id)
        for key_id, identity in recorded.items():
            if key_id not in self._keys.key_ids:
                self._lacks(key_id, note=note)
            elif identity is None:
                self._look_once(key_id, note=note)
            elif identity != self._keys.identity(key_id):
                raise _another(key_id)

    def forget(self, key_id: str) -> None:
        """Note that a key seals nothing here any more."""
        with self._engine.begin() as connection:
            connection.execute(_FORGET, {"id": key_id})

    def _note(self, connection: Connection, key_id: str) -> None:
        connection.execute(_NOTE, {"id": key_id, "identity": self._keys.identity(key_id)})

    def _lacks(self, key_id: str, *, note: bool) -> None:
        found = self._uses(key_id)
        if found == []:
            if note:
                self.forget(key_id)  # it was re-sealed and taken out of the ring by hand
            return
        used = "; what it seals could not be counted in time" if found is None else f" and seals {', '.join(found)}"
        raise ConfigurationError(
            f"EVERGRANT_KEYS lacks the key {key_id!r}, which this database needs{used}: put it back behind the first; "
            f"`evergrant keys rotate` and `evergrant keys retire {key_id}` end the need"
        )

    def _uses(self, key_id: str) -> list[str] | None:
        """Return what a key seals, in words; None where that took too long to find."""
        header = header_of(key_id)
        which = {"header": header, "length": len(header), "limit": _COUNTED}
        found = []
        try:
            for table, column, statement in _COUNTS:
                with self._engine.connect() as connection:
                    count = int(connection.execute(statement, which).scalar_one())
                if count:
                    more = " rows or more" if count == _COUNTED else " row" if count == 1 else " rows"
                    found.append(f"{table}.{column} ({count:,}{more})")
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "57014":  # query_canceled: the statement's time was up
                raise
            return None
        return found

    def _look_once(self, key_id: str, *, note: bool) -> None:
        """See whether a key opens what another version of Evergrant has sealed, and note which key it is."""
        header = header_of(key_id)
        with self._engine.begin() as connection:
            row = connection.execute(_ANY_GRANT, {"header": header, "length": len(header)}).one_or_none()
            if row is not None:
                try:
                    self._keys.open(row.refresh_token, REFRESH_TOKEN, row.id)
                except BrokenSealError:
                    raise _another(key_id) from None
            if note:
                connection.execute(_IDENTIFY, {"id": key_id, "identity": self._keys.identity(key_id)})


def _another(key_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"EVERGRANT_KEYS: the key {key_id!r} is another one than this database was sealed under; "
        "put the former one back, and give a new key an id of its own"
    )


def _count(table: str, column: str) -> TextClause:
    return text(f"""
        SELECT count(*) FROM (
            SELECT 1 FROM {table} WHERE substring({column} FROM 1 FOR :length) = :header LIMIT :limit) AS found
    """)  # noqa: S608 -- table and column are constants of `sealed_tables`


_COUNTS: Final = tuple(
    (table.name, column.column, _count(table.name, column.column))
    for table in SEALED_TABLES
    for column in table.columns
)
