"""All commands, each in its group."""

from __future__ import annotations

import typer

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

every = typer.Typer(
    name="evergrant",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Keeps OAuth 2.0 grants alive.",
)
every.command()(up)
every.command()(worker)
every.command()(beat)
every.command()(web)
every.command()(health)
every.command()(token)
every.command()(drill)
every.command()(doctor)
every.command()(plan)
every.command()(audit)
every.add_typer(grants, name="grants")
every.add_typer(reconsent, name="reconsent")
every.add_typer(clients, name="clients")
every.add_typer(providers, name="providers")
every.add_typer(keys, name="keys")
every.add_typer(api_tokens, name="api-tokens")
every.add_typer(console, name="console")
every.add_typer(webhooks, name="webhooks")
every.add_typer(subjects, name="subjects")
every.add_typer(db, name="db")
