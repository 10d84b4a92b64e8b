"""`python -m worker.demo`: seeds the demo, takes its mails and plays its owners. Started by `evergrant up --demo`."""

from __future__ import annotations

import argparse
import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from worker.bootstrap import Container, create_container, read_settings
from worker.demo.mailbox import Mailbox, open_mailbox
from worker.demo.owners import authorize_again, noticed
from worker.demo.seed import seed
from worker.domain.secret import Secret
from worker.logging import configure_logging, get_logger
from worker.sandbox.control import SandboxControl

#: Seconds between looks at who is needed.
_LOOK_EVERY: Final = 3.0
#: Seconds for the sandbox and the web process to come up beside us.
_START_SECONDS: Final = 60.0

log = get_logger("evergrant.demo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the demo plays."""

    sandbox: str
    public_url: str
    mails: Path
    smtp_port: int
    mails_port: int


async def play(stage: Stage, control_token: Secret, client_secret: Secret) -> None:
    """Seed the demo, take its mails and play its owners until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    container = create_container(read_settings(), name="evergrant demo", registry=CollectorRegistry())
    try:
        async with (
            container.ring_note.kept(),
            open_mailbox(stage.mails, smtp_port=stage.smtp_port, page_port=stage.mails_port) as box,
        ):
            await _until_up(f"{stage.sandbox}/control/report", stop)
            with SandboxControl(stage.sandbox, control_token) as control:
                await seed(container, control, client_secret, stage.public_url)
            await _until_up(f"{stage.public_url}/healthz", stop)
            await _play_owners(container, box, stage.public_url, stop)
    finally:
        await container.close()


async def _play_owners(container: Container, box: Mailbox, public_url: str, stop: asyncio.Event) -> None:
    answered: set[int] = set()
    while not stop.is_set():
        try:
            for mail in noticed(box.mails, await container.grants.now()):
                if mail.number not in answered and mail.link is not None:
                    came_back = await authorize_again(container, mail, public_url)
                    answered.add(mail.number)
                    if came_back:
                        log.info("owner_came_back", grants=came_back)
        except (httpx.HTTPError, SQLAlchemyError) as error:
            log.warning("owner_could_not_come_back", error=type(error).__name__)
        await _pause(stop, _LOOK_EVERY)


async def _until_up(address: str, stop: asyncio.Event) -> None:
    async with asyncio.timeout(_START_SECONDS), httpx.AsyncClient(trust_env=False) as http:
        while not stop.is_set():
            try:
                await http.get(address)
            except httpx.HTTPError:
                await _pause(stop, 0.1)
            else:
                return


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def main() -> None:
    """Read the arguments and play."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo", description=__doc__)
    parser.add_argument("--sandbox", required=True)
    parser.add_argument("--control-token-file", type=Path, required=True)
    parser.add_argument("--client-secret-file", type=Path, required=True)
    parser.add_argument("--public-url", required=True)
    parser.add_argument("--mails", type=Path, required=True)
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--mails-port", type=int, required=True)
    chosen = parser.parse_args()
    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level)
    control_token, client_secret = (
        Secret(path.read_text(encoding="utf-8").strip())
        for path in (chosen.control_token_file, chosen.client_secret_file)
    )
    stage = Stage(
        sandbox=chosen.sandbox,
        public_url=chosen.public_url,
        mails=chosen.mails,
        smtp_port=chosen.smtp_port,
        mails_port=chosen.mails_port,
    )
    asyncio.run(play(stage, control_token, client_secret))


if __name__ == "__main__":
    main()
