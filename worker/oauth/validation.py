"""From a table of the configuration to a checked value, or to one line that a person can act on."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from worker.domain.errors import ConfigurationError
from worker.oauth.complaints import complaints

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], where: str, table: object) -> Model:
    """Validate one table of the configuration.

    Raises:
        ConfigurationError: one line with the table's name and every key that is wrong.

    """
    check_table(where, table)
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(complaints(error, where, model)) from None


def check_table(where: str, table: object) -> None:
    """Check that something is a table, as `[NAME]` or braces write one.

    Raises:
        ConfigurationError: one line that says how it is written, where it is anything else.

    """
    if isinstance(table, dict):
        return
    above, _, name = where.rpartition(".")
    message = f"[{where}] must be a table"
    if isinstance(table, list) and table and isinstance(table[0], dict):
        message = f"[[{where}]] must be one table, written [{where}]"
    elif above:
        message = f"[{above}] {name!r} is no table: each of the {above} has one of its own, such as [{above}.acme]"
    raise ConfigurationError(message)
