"""The command line, `evergrant`: every command with its group, and one place where errors become exit codes.

Exit codes: 0 done, 1 it failed, 2 wrong use or a wrong setting.
"""

from __future__ import annotations

import sys
from typing import Final

import typer
from sqlalchemy.exc import InterfaceError, OperationalError

from worker.domain.errors import ConfigurationError, EvergrantError

FAILED: Final = 1
WRONG_USE: Final = 2

#: Commands that run for years. With what all others need, such as the drill and the embedded servers, each of their
#: processes would take 16 MB more.
_PROCESSES: Final = ("worker", "beat", "web")


def main() -> None:
    """Run the command line; an expected error is one line on standard error."""
    try:
        commands()()
    except ConfigurationError as error:
        _end(str(error), WRONG_USE)
    except EvergrantError as error:
        _end(str(error), FAILED)
    except (OperationalError, InterfaceError) as error:
        _end(f"the database does not answer: {type(error.orig).__name__}; is it up, and is its URL right?", FAILED)


def commands() -> typer.Typer:
    """Return the commands, or of those that run for years nothing but themselves."""
    if sys.argv[1:] and sys.argv[1] in _PROCESSES:
        from worker.commands.processes import processes  # noqa: PLC0415 -- one or the other is loaded

        return processes
    from worker.commands.every import every  # noqa: PLC0415 -- likewise

    return every


def _end(why: str, code: int) -> None:
    sys.stderr.write(f"evergrant: {why}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
