"""The demo's owners: where a grant has died, its owner comes back after a while and authorizes again.

They walk through the same addresses as a person would: /connect, the provider's page, /oauth/callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import httpx

from worker.bootstrap import Container
from worker.domain.grant import GrantState
from worker.sandbox.owner import ConsentPageError, allow
from worker.storage.grants import GrantView

#: How long an owner takes to notice: long enough to see the dead grant on the page.
NOTICES_AFTER: Final = timedelta(seconds=40)
_TIMEOUT: Final = 10.0  # seconds for each step; everything is on this machine


async def who_comes_back(container: Container, clients: Sequence[str]) -> list[GrantView]:
    """Return the grants whose owners have noticed by now that they are needed."""
    now = await container.grants.now()
    dead: list[GrantView] = []
    for client in clients:
        dead += await container.grants.list(client=client, state=GrantState.RECONSENT_REQUIRED, after=None, limit=50)
    return [grant for grant in dead if now - grant.state_since > NOTICES_AFTER]


async def authorize_again(grant: GrantView, public_url: str) -> bool:
    """Walk an owner through the consent for a grant; tell whether it went through."""
    async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as browser:
        sent_off = await browser.get(f"{public_url}/connect/{grant.client}", params={"subject": grant.subject})
        if not sent_off.is_redirect:
            return False
        try:
            back = await asyncio.to_thread(allow, sent_off.headers["location"], account=grant.subject)
        except ConsentPageError:
            return False
        return (await browser.get(back)).is_success
