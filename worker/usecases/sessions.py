"""Signing in and out: sessions of people in browsers, and links that sign somebody in once.

A session's cookie holds 32 random bytes and a signature; what is not signed is not even looked for. The table knows the
hash alone, so whoever reads it has no session, and ending its row ends the session at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from worker.domain.roles import Caller, CallerKind, Role
from worker.domain.secret import Secret
from worker.oauth.registry import Registry
from worker.storage.sealing import KeyRing
from worker.storage.sessions import NewSession, Person, SessionStore, SessionView
from worker.storage.sign_in_links import SignInLinks

#: 256 bits: nobody guesses one.
_SECRET_BYTES: Final = 32
#: What each signature is for, so that none serves for another.
_SESSION: Final = b"session"
_CSRF: Final = b"csrf"
_LINK: Final = b"link"
#: How long a link that signs in is good: from the terminal to the browser, and a call in between.
LINK_LIFETIME: Final = timedelta(hours=1)
#: Longer than the longest name anybody shows, and no document.
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A person with a session."""

    caller: Caller
    csrf: Secret  #: what every form of this session must bring along
    issuer: str
    subject: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Begins, recognizes and ends sessions. `random_bytes` and `new_id` are chance; `lifetime` ends each for good."""

    registry: Registry
    store: SessionStore
    links: SignInLinks
    keys: KeyRing
    lifetime: timedelta
    random_bytes: Callable[[int], bytes]
    new_id: Callable[[], UUID]

    async def begin(self, person: Person, *, address: str | None, agent: str | None) -> tuple[UUID, Secret]:
        """Begin a session and return its id and what its cookie holds; whatever was there before is not taken over.

        Args:
            person: who has signed in.
            address: of the machine that it came from.
            agent: what the browser calls itself.

        """
        secret, session = self._new(address, agent)
        shown = replace(person, name=_short(person.name) or person.subject)
        await self.store.add(session, shown)
        return session.id, self._cookie(secret)

    async def begin_by_link(
        self, link: Secret, *, address: str | None, agent: str | None
    ) -> tuple[Person, UUID, Secret] | None:
        """Use a link's last part up and begin a session, both or neither.

        Args:
            link: the link's last part.
            address: of the machine that it came from.
            agent: what the browser calls itself.

        Returns:
            Whose session it is, its id and what its cookie holds; None where the link is unknown, used or past its end.

        """
        used = self._secret_of(link)
        if used is None:
            return None
        secret, session = self._new(address, agent)
        person = await self.links.use(_hash(used), session)
        return (person, session.id, self._cookie(secret)) if person is not None else None

    def _new(self, address: str | None, agent: str | None) -> tuple[bytes, NewSession]:
        secret = self.random_bytes(_SECRET_BYTES)
        session = NewSession(
            id=self.new_id(), secret_hash=_hash(secret), address=address, agent=_short(agent), lifetime=self.lifetime
        )
        return secret, session

    def _cookie(self, secret: bytes) -> Secret:
        return Secret(_text(secret + self.keys.sign(_SESSION + secret)))

    async def recognize(self, cookie: Secret, *, in_use: bool) -> SignedIn | None:
        """Return whose session a cookie is of; None where it is none of ours, or one that has ended.

        Args:
            cookie: what the browser brings.
            in_use: whether a person does something, and not a page that keeps itself fresh.

        """
        found = _bytes(cookie)
        secret, signature = found[:_SECRET_BYTES], found[_SECRET_BYTES:]
        if not self.keys.has_signed(_SESSION + secret, signature):
            return None
        view = await self.store.find(_hash(secret))
        if view is None:
            return None
        if in_use:
            await self.store.note_use(view.id)
        return SignedIn(
            caller=Caller(id=view.id, name=view.name, role=view.role, client=view.client, kind=CallerKind.PERSON),
            csrf=Secret(_text(self.keys.sign(_CSRF + view.id.bytes))),
            issuer=view.issuer,
            subject=view.subject,
            expires_at=view.expires_at,
        )

    def is_csrf_of(self, session_id: UUID, token: str) -> bool:
        """Tell whether a CSRF token was made for a session."""
        return self.keys.has_signed(_CSRF + session_id.bytes, _bytes(Secret(token)))

    async def list(self, *, client: str | None, limit: int = 200) -> Sequence[SessionView]:
        """Return the sessions that are open, those bound to a client alone where one is given."""
        return await self.store.list(client=client, limit=limit)

    async def end(self, session_id: UUID, *, client: str | None = None) -> bool:
        """End a session, one bound to a client alone where one is given; tell whether there was such a one."""
        return await self.store.end(session_id, client=client)

    async def end_everywhere(self, who: SignedIn) -> int:
        """End all sessions of a person, in every browser, and return how many there were."""
        return await self.store.end_all(who.issuer, who.subject)

    async def make_link(
        self, *, name: str, role: Role = Role.ADMIN, client: str | None = None, lifetime: timedelta = LINK_LIFETIME
    ) -> Secret:
        """Make a link's last part: it signs somebody in, once. This is the only time that it can be had.

        Args:
            name: what whoever uses it is called.
            role: what they may do.
            client: the one client that they see; None: all.
            lifetime: how long it is good.

        Raises:
            ConfigurationError: when the client is not configured.

        """
        if client is not None:
            self.registry.client(client)
        secret = self.random_bytes(_SECRET_BYTES)
        shown = _short(name) or name
        await self.links.add(self.new_id(), _hash(secret), name=shown, role=role, client=client, lifetime=lifetime)
        return Secret(_text(secret + self.keys.sign(_LINK + secret)))

    def is_link(self, link: Secret) -> bool:
        """Tell whether a link's last part was made here, used or not; no table is asked."""
        return self._secret_of(link) is not None

    def _secret_of(self, link: Secret) -> bytes | None:
        found = _bytes(link)
        secret, signature = found[:_SECRET_BYTES], found[_SECRET_BYTES:]
        return secret if self.keys.has_signed(_LINK + secret, signature) else None


def _hash(secret: bytes) -> bytes:
    # 256 random bits: a plain hash is as good as a slow one.
    return hashlib.sha256(secret).digest()


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _bytes(text: Secret) -> bytes:
    """Return what a text of ours stands for; nothing where it is none."""
    written = text.reveal()
    try:
        return base64.b64decode(written + "=" * (-len(written) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _short(text: str | None) -> str | None:
    """Return a text as it can be shown on one line."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:_LONGEST]) if text else None
