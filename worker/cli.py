"""The command line, `evergrant`: every command with its group, and one place where errors become exit codes.

Exit codes: 0 done, 1 it failed, 2 wrong use or a wrong setting.
"""

from __future__ import annotations

import sys
from typing import Final

import typer
from sqlalchemy.exc import InterfaceError, OperationalError

from worker.commands.api_tokens import api_tokens
from worker.commands.audit import audit
from worker.commands.catalogue import providers
from worker.commands.clients import clients
from worker.commands.console_link import console
from worker.commands.database import db
from worker.commands.doctor import doctor
from worker.commands.drill import drill
from worker.commands.grants import grants, token
from worker.commands.health import health
from worker.commands.keys import keys
from worker.commands.plan import plan
from worker.commands.processes import beat, web, worker
from worker.commands.reconsent import reconsent
from worker.commands.subjects import subjects
from worker.commands.up import up
from worker.commands.webhooks import webhooks
from worker.domain.errors import ConfigurationError, EvergrantError

FAILED: Final = 1
WRONG_USE: Final = 2

cli = typer.Typer(
    name="evergrant",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Keeps OAuth 2.0 grants alive.",
)
cli.command()(up)
cli.command()(worker)
cli.command()(beat)
cli.command()(web)
cli.command()(health)
cli.command()(token)
cli.command()(drill)
cli.command()(doctor)
cli.command()(plan)
cli.command()(audit)
cli.add_typer(grants, name="grants")
cli.add_typer(reconsent, name="reconsent")
cli.add_typer(clients, name="clients")
cli.add_typer(providers, name="providers")
cli.add_typer(keys, name="keys")
cli.add_typer(api_tokens, name="api-tokens")
cli.add_typer(console, name="console")
cli.add_typer(webhooks, name="webhooks")
cli.add_typer(subjects, name="subjects")
cli.add_typer(db, name="db")


def main() -> None:
    """Run the command line; an expected error is one line on standard error."""
    try:
        cli()
    except ConfigurationError as error:
        _end(str(error), WRONG_USE)
    except EvergrantError as error:
        _end(str(error), FAILED)
    except (OperationalError, InterfaceError) as error:
        _end(f"the database does not answer: {type(error.orig).__name__}; is it up, and is its URL right?", FAILED)


def _end(why: str, code: int) -> None:
    sys.stderr.write(f"evergrant: {why}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
