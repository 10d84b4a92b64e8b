"""The clients registered at the sandbox."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace

from worker.domain.secret import Secret
from worker.sandbox.behaviour import BEHAVIOUR, Behaviour
from worker.sandbox.profiles import PROFILES, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One registration. `secret_hashes` are hex SHA-256, newest first; none makes it a public client."""

    client_id: str
    profile: Profile
    name: str
    secret_hashes: tuple[str, ...]
    redirect_uris: tuple[str, ...]
    behaviour: Behaviour

    def has_secret(self, secret: Secret) -> bool:
        """Return whether `secret` is one of this client's."""
        presented = _hashed(secret)
        return any(hmac.compare_digest(presented, known) for known in self.secret_hashes)

    def with_secret(self, secret: Secret, *, keep_previous: bool) -> Client:
        """Return the client with a new secret; the one before it stays valid when `keep_previous`."""
        return replace(self, secret_hashes=(_hashed(secret), *(self.secret_hashes[:1] if keep_previous else ())))

    def with_redirect_uris(self, redirect_uris: tuple[str, ...]) -> Client:
        """Return the client with other redirect URIs."""
        return replace(self, redirect_uris=redirect_uris)

    def with_behaviour(self, behaviour: Behaviour) -> Client:
        """Return the client under other rules; tokens issued before keep the ends that they were given."""
        return replace(self, behaviour=behaviour)


def new_client(
    *,
    client_id: str,
    profile: Profile,
    name: str,
    secret: Secret | None,
    redirect_uris: tuple[str, ...],
    behaviour: Behaviour,
) -> Client:
    """Return a client that holds `secret`, or a public client without one (RFC 6749 section 2.1)."""
    return Client(
        client_id=client_id,
        profile=profile,
        name=name,
        secret_hashes=() if secret is None else (_hashed(secret),),
        redirect_uris=redirect_uris,
        behaviour=behaviour,
    )


class Clients:
    """All registrations: written to the store, read from memory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        rows = connection.execute(
            "SELECT client_id, profile, name, secret_hashes, redirect_uris, behaviour FROM clients"
        )
        self._clients = {
            client_id: Client(
                client_id=client_id,
                profile=PROFILES[profile],
                name=name,
                secret_hashes=tuple(json.loads(secret_hashes)),
                redirect_uris=tuple(json.loads(redirect_uris)),
                behaviour=BEHAVIOUR.validate_json(behaviour),
            )
            for client_id, profile, name, secret_hashes, redirect_uris, behaviour in rows
        }

    def find(self, client_id: str) -> Client | None:
        """Return the client of that id, or None."""
        return self._clients.get(client_id)

    def all(self) -> Iterable[Client]:
        """Return every client in the order of their ids."""
        return [self._clients[client_id] for client_id in sorted(self._clients)]

    def save(self, client: Client) -> None:
        """Register a client, or replace the one of its id."""
        self._connection.execute(
            "INSERT OR REPLACE INTO clients VALUES (?, ?, ?, ?, ?, ?)",
            (
                client.client_id,
                client.profile.name,
                client.name,
                json.dumps(client.secret_hashes),
                json.dumps(client.redirect_uris),
                BEHAVIOUR.dump_json(client.behaviour),
            ),
        )
        self._clients[client.client_id] = client


def _hashed(secret: Secret) -> str:
    return hashlib.sha256(secret.reveal().encode()).hexdigest()
