"""Clients at the sandbox whose consents tell their account, and what of a grant must not change by a refused one."""

from __future__ import annotations

from typing import Any

from tests.support.database import rows
from tests.support.sandbox_clients import SandboxClient, register
from worker.bootstrap import Container
from worker.sandbox.profiles import RFC6749
from worker.sandbox.server import RunningSandbox

ADA = "ada@example.com"
BOB = "bob@example.com"


def register_telling(
    sandbox: RunningSandbox, *, name: str = "telling", provider: str = "", client: str = "", **more: Any
) -> SandboxClient:
    """Register a client whose provider is asked for the account, and gives tokens back."""
    asked = f"""
userinfo_endpoint = "{sandbox.url}/userinfo"
userinfo = {{ account = "account" }}
revocation_endpoint = "{sandbox.url}{RFC6749.prefix}/revoke"
old_token = "invalidated"
{provider}"""
    return register(sandbox, name=name, profile=RFC6749, provider=asked, client=client, **more)


async def everything_of_grants(container: Container) -> list[Any]:
    """Return all rows of grants and rotations, whole, tokens as they are sealed."""
    return [await rows(container, f"SELECT * FROM {table} ORDER BY id") for table in ("grants", "rotations")]


async def event_types(container: Container) -> list[str]:
    """Return the types of all events, in order."""
    return [row.type for row in await rows(container, "SELECT type FROM events ORDER BY id")]
