"""The schema's version: bring a database up to date, and refuse one that this code was not written for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import DBAPIError, OperationalError

from alembic import command
from worker.domain.errors import MigrationStoppedError, SchemaMismatchError
from worker.domain.secret import Secret
from worker.storage.database import CONNECT_SECONDS, database_url

_UNREACHABLE: Final = "the database does not answer; check EVERGRANT_DATABASE_URL and that PostgreSQL is up"
#: What PostgreSQL says when a wait is over: lock_not_available and query_canceled.
_STOPPED: Final = {
    "55P03": "a migration waited 5 s for a lock that somebody holds, and was undone; nobody had to wait behind it for "
    "longer: run `evergrant db upgrade` again, in a quieter moment or once the long query has ended",
    "57014": "a statement of a migration took too long and was undone: run `evergrant db upgrade --limit 10m`, and "
    "know that writers may wait for so long",
}


class Schema:
    """The database's schema, seen through the migrations.

    Args:
        configured: EVERGRANT_DATABASE_URL.
        migrations: the folder of the migrations.

    """

    def __init__(self, configured: Secret, migrations: Path) -> None:
        self._engine = create_engine(
            database_url(configured),
            poolclass=pool.NullPool,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "evergrant migrate"},
        )
        self._config = Config()
        self._config.set_main_option("script_location", str(migrations).replace("%", "%%"))

    def upgrade(self, limit: timedelta | None = None) -> None:
        """Bring the schema up to date; one migrator at a time, a transaction for each migration.

        Args:
            limit: how long one statement may take; the migrations' own minute if left out.

        Raises:
            SchemaMismatchError: when the database is ahead of this code, or does not answer.
            MigrationStoppedError: when a lock or a statement took too long; what was not finished was undone. Indexes
                that are made beside all writers stay; what is left of one that was cut off goes at the next upgrade.

        """
        self._refuse_if_ahead()
        if limit is not None:
            self._config.attributes["statement_timeout"] = f"{limit.total_seconds() * 1000:.0f}ms"
        with self._engine.connect() as connection:
            self._config.attributes["connection"] = connection
            try:
                command.upgrade(self._config, "head")
            except DBAPIError as error:
                stopped = _STOPPED.get(str(getattr(error.orig, "sqlstate", "")))
                if stopped is None:
                    raise
                raise MigrationStoppedError(stopped) from None

    def check(self) -> str:
        """Return the schema's version when it is the one this code was written for.

        Raises:
            SchemaMismatchError: when the database is behind or ahead, or does not answer.

        """
        self._refuse_if_ahead()
        found, wanted = self._found(), self._script().get_current_head()
        if found != wanted:
            raise SchemaMismatchError(
                f"the database's schema is at {found or 'nothing'} and this code needs {wanted}: "
                "run `evergrant db upgrade`"
            )
        return str(found)

    def _refuse_if_ahead(self) -> None:
        found = self._found()
        known = {script.revision for script in self._script().walk_revisions()}
        if found is not None and found not in known:
            raise SchemaMismatchError(
                f"the database's schema is at {found}, which this code does not know: it was migrated by a newer "
                "version of Evergrant; upgrade Evergrant, or restore the database from before"
            )

    def _found(self) -> str | None:
        try:
            with self._engine.connect() as connection:
                return MigrationContext.configure(connection).get_current_revision()
        except OperationalError as error:
            raise SchemaMismatchError(_UNREACHABLE) from error

    def _script(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config)
