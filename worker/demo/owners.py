"""The demo's owners: some time after a mail has come, its owner opens it and authorizes again.

They walk through the same addresses as a person would: the mail's link, its button, the provider's page, the callback.
The newest mail is left for whoever watches the demo, for a while.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from html import unescape
from typing import Final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx

from worker.bootstrap import Container
from worker.demo.mailbox import KeptMail
from worker.sandbox.owner import ConsentPageError, allow

#: How long an owner takes to notice: long enough to see the dead grant on the page, and to open the mail first.
NOTICES_AFTER: Final = timedelta(seconds=40)
#: How long the newest mail waits for a person who watches.
LEFT_FOR: Final = timedelta(minutes=10)
_TIMEOUT: Final = 10.0  # seconds for each step; everything is on this machine
#: What a page offers whose link was used, by somebody who did not come to the end.
_AGAIN: Final = re.compile(r'<form method="post" action="[^"]+/again">')
_BUTTON: Final = re.compile(r'<form method="post" action="(\?grant=[^"]+)">')


def noticed(mails: Sequence[KeptMail], now: datetime) -> list[KeptMail]:
    """Return the mails that their owners have noticed by now, all but the newest."""
    old_enough = [mail for mail in mails[:-1] if now - mail.at > NOTICES_AFTER]
    return old_enough + [mail for mail in mails[-1:] if now - mail.at > LEFT_FOR]


async def authorize_again(container: Container, mail: KeptMail, public_url: str) -> int:
    """Follow a mail's link and walk its owner through each consent that it offers; return how many went through.

    Where the link was used up, the owner asks for a new one, and follows that when it has come.
    """
    link = f"{public_url}/reconsent/{mail.link}"
    done = 0
    async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as browser:
        page = await browser.get(link)
        if _AGAIN.search(page.text):
            await browser.post(f"{link}/again")
        for action in map(unescape, _BUTTON.findall(page.text)):
            [grant_id] = parse_qs(urlsplit(action).query)["grant"]
            grant = await container.grants.show(UUID(grant_id))
            pressed = await browser.post(f"{link}{action}")
            if grant is None or not pressed.is_redirect:
                continue
            try:
                back = await asyncio.to_thread(allow, pressed.headers["location"], account=grant.subject)
            except ConsentPageError:
                continue
            done += (await browser.get(back)).is_success
    return done
