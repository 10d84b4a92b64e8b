"""The sandbox as one object: its state, its world and its address, which every endpoint works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.sandbox.access_tokens import AccessTokens
from worker.sandbox.answers_in_flight import AnswersInFlight
from worker.sandbox.clients import Clients
from worker.sandbox.codes import Codes
from worker.sandbox.families import Families
from worker.sandbox.grace_answers import GraceAnswers
from worker.sandbox.order_book import OrderBook
from worker.sandbox.profiles import Profile
from worker.sandbox.pruning import prune
from worker.sandbox.report import Report, make_report
from worker.sandbox.store import Store
from worker.sandbox.tallies import Tallies
from worker.sandbox.world import World

DEFAULT_RETENTION_S: Final = 3600.0  # a family that is gone still tells reuse from a guess for an hour


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    """Everything one sandbox knows. `origin` is `http://host:port`, under which its profiles are found."""

    origin: str
    world: World
    retention: float
    store: Store
    clients: Clients
    families: Families
    grace_answers: GraceAnswers
    codes: Codes
    orders: OrderBook
    tallies: Tallies
    access_tokens: AccessTokens
    in_flight: AnswersInFlight

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block wrote and counted, then show the counts to Prometheus; undo both when it raises."""
        try:
            with self.store.transaction():
                yield
                self.tallies.write()
        except BaseException:
            self.tallies.discard()
            raise
        self.tallies.publish()

    def issuer(self, profile: Profile) -> str:
        """Return the issuer identifier of a profile (RFC 8414 section 2)."""
        return self.origin + profile.prefix

    def report(self, client_id: str | None = None) -> Report:
        """Return what has been counted, for one client or for all."""
        families = self.families.count_by_status(client_id, now=self.world.now())
        return make_report(families=families, counts=self.tallies.read(client_id))

    def prune(self) -> int:
        """Forget what is over; return how many refresh tokens were forgotten."""
        with self.transaction():
            return prune(self.store.connection, now=self.world.now(), retention=self.retention)

    def close(self) -> None:
        """Release the state file."""
        self.store.close()


def open_authorization_server(
    *, origin: str, state_path: Path | None, world: World, retention: float = DEFAULT_RETENTION_S
) -> AuthorizationServer:
    """Open a sandbox on its state.

    Args:
        origin: `http://host:port` under which clients reach it.
        state_path: the file that keeps the state, made when missing; None keeps it in memory.
        world: time, tokens and chance.
        retention: seconds for which a revoked or expired family keeps its refresh tokens.

    Raises:
        StateFileError: the state file is in use or of another version.
    """
    store = Store(state_path)
    connection = store.connection
    return AuthorizationServer(
        origin=origin,
        world=world,
        retention=retention,
        store=store,
        clients=Clients(connection),
        families=Families(connection),
        grace_answers=GraceAnswers(connection),
        codes=Codes(connection),
        orders=OrderBook(connection),
        tallies=Tallies(connection),
        access_tokens=AccessTokens(store.signing_key()),
        in_flight=AnswersInFlight(),
    )
