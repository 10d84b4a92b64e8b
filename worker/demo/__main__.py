"""`python -m worker.demo`: seeds the demo and plays its owners until told to stop. Started by `evergrant up --demo`."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from worker.bootstrap import create_container, read_settings
from worker.demo.configuration import CLIENTS
from worker.demo.owners import authorize_again, who_comes_back
from worker.demo.seed import seed
from worker.domain.secret import Secret
from worker.logging import configure_logging, get_logger
from worker.sandbox.control import SandboxControl

#: Seconds between looks at who is needed.
_LOOK_EVERY: Final = 3.0
#: Seconds for the sandbox to come up beside us.
_SANDBOX_SECONDS: Final = 30.0

log = get_logger("evergrant.demo")


async def play(sandbox: str, control_token: Secret, client_secret: Secret, public_url: str) -> None:
    """Seed the demo, then play its owners until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = read_settings()
    container = create_container(settings, name="evergrant demo", registry=CollectorRegistry())
    try:
        await _until_up(sandbox, stop)
        with SandboxControl(sandbox, control_token) as control:
            await seed(container, control, client_secret, public_url)
        while not stop.is_set():
            try:
                for grant in await who_comes_back(container, CLIENTS):
                    if await authorize_again(grant, public_url):
                        log.info("owner_came_back", client=grant.client, subject=grant.subject)
            except (httpx.HTTPError, SQLAlchemyError) as error:
                log.warning("owner_could_not_come_back", error=type(error).__name__)
            await _pause(stop, _LOOK_EVERY)
    finally:
        await container.close()


async def _until_up(sandbox: str, stop: asyncio.Event) -> None:
    async with asyncio.timeout(_SANDBOX_SECONDS), httpx.AsyncClient(trust_env=False) as http:
        while not stop.is_set():
            try:
                await http.get(f"{sandbox}/control/report")
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
    chosen = parser.parse_args()
    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level)
    control_token, client_secret = (
        Secret(path.read_text(encoding="utf-8").strip())
        for path in (chosen.control_token_file, chosen.client_secret_file)
    )
    asyncio.run(play(chosen.sandbox, control_token, client_secret, chosen.public_url))


if __name__ == "__main__":
    main()
