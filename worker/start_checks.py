"""What every process sees to before it begins: that the database's schema and its keys are those that it has."""

from __future__ import annotations

from worker.bootstrap import create_schema
from worker.keys_bootstrap import create_key_records
from worker.settings import Settings


def check_start(settings: Settings) -> None:
    """Refuse a database that this process could not work with.

    Raises:
        SchemaMismatchError: when its schema is behind or ahead, or it does not answer.
        ConfigurationError: when the key ring lacks a key that something in it is sealed under.

    """
    create_schema(settings).check()
    create_key_records(settings).check()
