"""What the sandbox's tests share: a clock that they move, and a client as a well-meaning application would be."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.control import SeededGrant
from worker.sandbox.profiles import BodyEncoding, Profile
from worker.sandbox.server import RunningSandbox
from worker.sandbox.world import World, real_world

REDIRECT_URI = "http://127.0.0.1:9/oauth/callback"


class Clock:
    """Seconds since the epoch that pass only when a test says so."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.seconds = start

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


def world_at(clock: Clock, *, draws: float = 0.5) -> World:
    """A world whose time is the test's and whose every draw is the same."""
    return World(now=clock, new_token=real_world().new_token, draw=lambda: draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One registered client and its HTTP connections."""

    sandbox: RunningSandbox
    profile: Profile
    client_id: str
    client_secret: str | None
    http: httpx.Client

    @property
    def token_endpoint(self) -> str:
        return self.sandbox.url + self.profile.prefix + self.profile.token_path

    def seed(self, count: int = 1, *, access_lifetime: int | None = None) -> list[SeededGrant]:
        return self.sandbox.control.seed_grants(self.client_id, count, access_lifetime=access_lifetime)

    def seed_one(self) -> SeededGrant:
        (grant,) = self.seed()
        return grant

    def ask(self, path: str, parameters: dict[str, str], *, timeout: float = 20.0) -> httpx.Response:
        """Send parameters and the client's credentials in the profile's encoding."""
        credentials = {"client_id": self.client_id}
        if self.client_secret is not None:
            credentials["client_secret"] = self.client_secret
        whole = credentials | parameters
        if self.profile.body is BodyEncoding.JSON:
            return self.http.post(path, json=whole, timeout=timeout)
        return self.http.post(path, data=whole, timeout=timeout)

    def refresh(self, refresh_token: Secret | str, *, timeout: float = 20.0, **more: str) -> httpx.Response:
        token = refresh_token.reveal() if isinstance(refresh_token, Secret) else refresh_token
        parameters = {"grant_type": "refresh_token", "refresh_token": token} | more
        return self.ask(self.token_endpoint, parameters, timeout=timeout)

    def refreshed(self, refresh_token: Secret | str) -> Secret:
        """Refresh, insist on success and return the new refresh token."""
        answer = self.refresh(refresh_token)
        assert answer.status_code == 200, answer.text
        return Secret(answer.json()["refresh_token"])

    def authorization_url(self, **parameters: str | None) -> str:
        asked: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": "profile organization",
            "state": "state-1",
        }
        chosen = {name: value for name, value in (asked | parameters).items() if value is not None}
        return f"{self.sandbox.url}{self.profile.prefix}/authorize?{urlencode(chosen)}"

    def exchange(self, code: str, **more: str) -> httpx.Response:
        parameters = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI}
        return self.ask(self.token_endpoint, parameters | more)


@contextmanager
def application(
    sandbox: RunningSandbox,
    profile: Profile,
    behaviour: Behaviour | None = None,
    *,
    client_id: str | None = None,
    public: bool = False,
) -> Iterator[Application]:
    """Register a client under a fresh name, or go on as the one that is registered as `client_id`."""
    name = f"client-{secrets.token_hex(6)}" if client_id is None else client_id
    # Without what is told of it, its name: the search for secrets would find that.
    secret = None if public else f"secret of {name.removeprefix('client-')} + 100%"
    if client_id is None:
        sandbox.control.register_client(
            client_id=name,
            client_secret=None if secret is None else Secret(secret),
            redirect_uris=(REDIRECT_URI,),
            profile=profile,
            behaviour=behaviour,
        )
    with httpx.Client(trust_env=False, verify=False) as http:  # plain HTTP: no certificates to load
        yield Application(sandbox=sandbox, profile=profile, client_id=name, client_secret=secret, http=http)


def redirect_parameters(location: str) -> MappingProxyType[str, str]:
    """The query of a redirect to the client, which must go to its redirect URI."""
    parts = urlsplit(location)
    assert parts._replace(query="").geturl() == REDIRECT_URI
    query = parse_qs(parts.query, strict_parsing=True)
    assert all(len(values) == 1 for values in query.values())
    return MappingProxyType({name: values[0] for name, values in query.items()})
