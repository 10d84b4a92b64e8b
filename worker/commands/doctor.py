"""`evergrant doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import asyncio
import os

import typer

from worker.commands.console import AsJson, print_json
from worker.commands.running import with_running
from worker.doctor.examination import examine
from worker.doctor.finding import Finding, Level
from worker.logging import configure_logging


def doctor(*, as_json: AsJson = False) -> None:
    """Look at settings, files, database, broker, mail server, clocks and token endpoints, and name each remedy.

    It changes nothing and spends nothing: token endpoints are asked for their headers, without any token, and issuers
    for their metadata. Exit code 0 where nothing is broken, warnings or not, else 1.

    Example: evergrant doctor
    """
    configure_logging(None, "error")
    findings = asyncio.run(examine(with_running(os.environ)))
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            _say(finding)
        typer.echo(_sum(findings))
    if any(finding.level is Level.ERROR for finding in findings):
        raise typer.Exit(1)


def _say(finding: Finding) -> None:
    typer.echo(f"{finding.level.value:8}{finding.check}: {finding.found}")
    if finding.remedy is not None:
        typer.echo(f"{'':8}-> {finding.remedy}")


def _sum(findings: list[Finding]) -> str:
    errors = sum(finding.level is Level.ERROR for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    if not errors + warnings:
        return f"{len(findings)} things looked at, nothing to do"
    return f"{len(findings)} things looked at: {errors} to mend, {warnings} to think about"
