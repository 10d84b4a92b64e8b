"""Whose account a consent is for: read where the provider's facts have it, else from the ID token.

An explicit fact comes first, for it may name what the data belong to, such as a company, where an ID token names the
person who signed in. What the redirect says passed through the browser, and comes after what the provider told us
directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from worker.domain.account import ToldAccount
from worker.domain.outcome import Tokens
from worker.domain.secret import Secret
from worker.oauth.captured import account_in_redirect, source_in_answer
from worker.oauth.client import Client
from worker.oauth.id_token import IdTokenRefused, SignedIn, asks_for_id_token, read_id_token
from worker.oauth.userinfo import Userinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Consented:
    """What a code's exchange brought, and what it is held against."""

    tokens: Tokens
    redirect: Mapping[str, str]  #: the callback's parameters
    captured: Mapping[str, str]  #: what was kept of redirect and answer
    nonce: Secret | None  #: what the ID token must bring back
    asked_at: datetime


def account_source(client: Client) -> str | None:
    """Return where a client's consents have their account read, or None where nothing tells it.

    It is kept beside the account, so that an id that was read elsewhere is not compared with this one.
    """
    provider = client.provider
    steps = (provider.code, *([provider.upgrade] if provider.upgrade is not None else []))
    paths = ((step.answer or provider.answer).account for step in steps)
    in_answer = next(filter(None, paths), None)
    if in_answer is not None:
        return source_in_answer(in_answer)
    if provider.userinfo_endpoint is not None:
        return f"userinfo:{provider.userinfo.account}"
    if provider.redirect.account is not None:
        return f"redirect:{provider.redirect.account}"
    return "id_token:sub" if asks_for_id_token(client) else None


class Accounts:
    """Tells whose account a consent is for."""

    def __init__(self, userinfo: Userinfo) -> None:
        self._userinfo = userinfo

    async def tell(self, client: Client, consented: Consented) -> ToldAccount | IdTokenRefused:
        """Return the account of a consent. Raises nothing expected.

        An ID token that was asked for must hold, wherever the account is read: it also shows that the code belongs to
        this very consent.
        """
        id_token = consented.tokens.id_token
        signed_in: SignedIn | None = None
        if asks_for_id_token(client) and id_token is not None:
            read = read_id_token(id_token, client, nonce=consented.nonce, now=consented.asked_at)
            if isinstance(read, IdTokenRefused):
                return read
            signed_in = read
        source = account_source(client)
        return ToldAccount(source=source, id=await self._read(client, consented, source, signed_in))

    async def _read(
        self, client: Client, consented: Consented, source: str | None, signed_in: SignedIn | None
    ) -> str | None:
        match (source or "").partition(":")[0]:
            case "answer":
                return consented.tokens.account
            case "userinfo":
                return await self._userinfo.account(client, consented.tokens.access_token, consented.captured)
            case "redirect":
                return account_in_redirect(client.provider, consented.redirect)
            case "id_token":
                return signed_in.account if signed_in is not None else None
            case _:
                return None
