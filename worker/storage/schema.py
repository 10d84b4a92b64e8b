"""The schema's version: bring a database up to date, and refuse one that this code was not written for.

Every process checks, and one command upgrades: Alembic is loaded for that command alone.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import DBAPIError, OperationalError

from worker.domain.errors import MigrationStoppedError, SchemaMismatchError
from worker.domain.secret import Secret
from worker.storage.database import CONNECT_SECONDS, database_url

if TYPE_CHECKING:
    from alembic.config import Config

_UNREACHABLE: Final = "the database does not answer; check EVERGRANT_DATABASE_URL and that PostgreSQL is up"
#: What PostgreSQL says when a wait is over: lock_not_available and query_canceled.
_STOPPED: Final = {
    "55P03": "a migration waited 5 s for a lock that somebody holds, and was undone; nobody had to wait behind it for "
    "longer: run `evergrant db upgrade` again, in a quieter moment or once the long query has ended",
    "57014": "a statement of a migration took too long and was undone: run `evergrant db upgrade --limit 10m`, and "
    "know that writers may wait for so long",
}

#: Alembic's own table, which is there once a first migration has run.
_TABLE: Final = text("SELECT to_regclass('alembic_version')")
_VERSION: Final = text("SELECT version_num FROM alembic_version")


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
        self._migrations = migrations

    def config(self) -> Config:
        """Return Alembic's configuration for these migrations."""
        from alembic.config import Config  # noqa: PLC0415 -- see above

        config = Config()
        config.set_main_option("script_location", str(self._migrations).replace("%", "%%"))
        return config

    def upgrade(self, limit: timedelta | None = None) -> None:
        """Bring the schema up to date; one migrator at a time, a transaction for each migration.

        Args:
            limit: how long one statement may take; the migrations' own minute if left out.

        Raises:
            SchemaMismatchError: when the database is ahead of this code, or does not answer.
            MigrationStoppedError: when a lock or a statement took too long; what was not finished was undone. Indexes
                that are made beside all writers stay; what is left of one that was cut off goes at the next upgrade.

        """
        from alembic import command  # noqa: PLC0415 -- see above

        self._refuse_if_ahead()
        config = self.config()
        if limit is not None:
            config.attributes["statement_timeout"] = f"{limit.total_seconds() * 1000:.0f}ms"
        with self._engine.connect() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
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
        found, wanted = self._found(), self.versions()[-1]
        if found != wanted:
            raise SchemaMismatchError(
                f"the database's schema is at {found or 'nothing'} and this code needs {wanted}: "
                "run `evergrant db upgrade`"
            )
        return wanted

    def versions(self) -> list[str]:
        """Return the versions that this code knows, the first one first: a migration's file begins with its own."""
        return sorted(path.name.partition("_")[0] for path in (self._migrations / "versions").glob("[0-9]*_*.py"))

    def _refuse_if_ahead(self) -> None:
        found = self._found()
        if found is not None and found not in self.versions():
            raise SchemaMismatchError(
                f"the database's schema is at {found}, which this code does not know: it was migrated by a newer "
                "version of Evergrant; upgrade Evergrant, or restore the database from before"
            )

    def _found(self) -> str | None:
        try:
            with self._engine.connect() as connection:
                if connection.execute(_TABLE).scalar() is None:
                    return None
                found: str | None = connection.execute(_VERSION).scalar_one_or_none()
                return found
        except OperationalError as error:
            raise SchemaMismatchError(_UNREACHABLE) from error
