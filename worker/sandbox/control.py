"""`SandboxControl`: drives a sandbox from another process or thread, over its control API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from worker.domain.secret import Secret
from worker.sandbox.behaviour import BEHAVIOUR, Behaviour
from worker.sandbox.control_messages import (
    FAMILIES,
    MAX_FAMILIES_AT_ONCE,
    MAX_GRANTS_AT_ONCE,
    PLACED_ORDER,
    PLACED_ORDERS,
    TOKEN_RECORD,
)
from worker.sandbox.families import Family, FamilyStatus, TokenRecord
from worker.sandbox.misbehaviour import ORDER, Order
from worker.sandbox.order_book import PlacedOrder
from worker.sandbox.profiles import Profile
from worker.sandbox.report import REPORT, Report

_TIMEOUT_S: Final = 30.0  # a control request is done in well under a second, unless the machine is busy


class ControlError(Exception):
    """The sandbox refused a control request; the message is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededGrant:
    """A grant that was made without its owner, ready to be adopted. `expires_in` is in seconds from seeding."""

    family_id: int
    account: str
    scope: str
    refresh_token: Secret
    access_token: Secret
    expires_in: int


class SandboxControl:
    """One sandbox's control API with types.

    Args:
        base_url: the sandbox's address, `http://host:port`.
        control_token: what the sandbox was started with.

    Every method raises `ControlError` when the sandbox refuses, and httpx's errors when it cannot be reached.
    """

    def __init__(self, base_url: str, control_token: Secret) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {control_token.reveal()}"},
            timeout=_TIMEOUT_S,
            trust_env=False,  # a proxy for the outside world has no way to a loopback address
        )

    def register_client(
        self,
        *,
        client_id: str,
        client_secret: Secret | None,
        redirect_uris: tuple[str, ...],
        profile: Profile,
        name: str | None = None,
        behaviour: Behaviour | None = None,
    ) -> None:
        """Register a client: public without a secret, under the profile's behaviour unless one is given."""
        members = {
            "client_id": client_id,
            "client_secret": None if client_secret is None else client_secret.reveal(),
            "redirect_uris": redirect_uris,
            "profile": profile.name,
            "name": name,
            "behaviour": None if behaviour is None else BEHAVIOUR.dump_python(behaviour, mode="json"),
        }
        self._send("POST", "/clients", members)

    def client_ids(self) -> frozenset[str]:
        """Return the ids of all registered clients."""
        return frozenset(client["client_id"] for client in self._send("GET", "/clients").json())

    def change_redirect_uris(self, client_id: str, redirect_uris: tuple[str, ...]) -> None:
        """Give a client other redirect URIs."""
        self._send("PUT", _client(client_id, "redirect-uris"), {"redirect_uris": redirect_uris})

    def change_behaviour(self, client_id: str, behaviour: Behaviour) -> None:
        """Put a client under other rules from the next request on."""
        self._send("PUT", _client(client_id, "behaviour"), BEHAVIOUR.dump_python(behaviour, mode="json"))

    def change_secret(self, client_id: str, client_secret: Secret, *, keep_previous: bool = False) -> None:
        """Give a client a new secret; the one before it is accepted on when `keep_previous`."""
        members = {"client_secret": client_secret.reveal(), "keep_previous": keep_previous}
        self._send("PUT", _client(client_id, "secret"), members)

    def seed_grants(
        self,
        client_id: str,
        count: int,
        *,
        account_prefix: str = "account-",
        first_number: int = 1,
        access_lifetime: int | None = None,
    ) -> list[SeededGrant]:
        """Make `count` grants as if their owners had allowed the client, and return their tokens.

        Args:
            client_id: whose grants.
            count: how many.
            account_prefix: accounts are named by it and a number.
            first_number: the number of the first account.
            access_lifetime: seconds of these first access tokens; None for the client's.
        """
        grants: list[SeededGrant] = []
        while len(grants) < count:
            members = {
                "count": min(MAX_GRANTS_AT_ONCE, count - len(grants)),
                "account_prefix": account_prefix,
                "first_number": first_number + len(grants),
                "access_lifetime": access_lifetime,
            }
            seeded = self._send("POST", _client(client_id, "grants"), members).json()["grants"]
            grants.extend(_seeded_grant(grant) for grant in seeded)
        return grants

    def order(self, order: Order) -> int:
        """Order a misbehaviour and return the order's id."""
        answer = self._send("POST", "/misbehaviours", ORDER.dump_python(order, mode="json"))
        return PLACED_ORDER.validate_json(answer.content).order_id

    def cancel_order(self, order_id: int) -> bool:
        """Take back an order; return whether it still stood."""
        return bool(self._send("DELETE", f"/misbehaviours/{order_id}").json()["cancelled"])

    def standing_orders(self) -> list[PlacedOrder]:
        """Return the orders not yet done, oldest first."""
        return PLACED_ORDERS.validate_json(self._send("GET", "/misbehaviours").content)

    def revoke_family(self, family_id: int) -> bool:
        """End one family; return whether it was alive or expired until now."""
        return bool(self._send("POST", f"/families/{family_id}/revoke").json()["revoked"])

    def revoke_consent(self, client_id: str, account: str) -> int:
        """End all that an account has allowed a client; return how many families that were."""
        revoked: int = self._send("POST", _client(client_id, "revoke-consent"), {"account": account}).json()["revoked"]
        return revoked

    def families(self, client_id: str, *, status: FamilyStatus | None = None) -> Iterator[Family]:
        """Yield the families of a client in the order of their ids, fetched as they are needed."""
        after = 0
        while True:
            wanted: dict[str, str | int] = {"after": after, "limit": MAX_FAMILIES_AT_ONCE}
            if status is not None:
                wanted["status"] = status
            some = FAMILIES.validate_json(self._send("GET", _client(client_id, "families"), query=wanted).content)
            yield from some
            if len(some) < MAX_FAMILIES_AT_ONCE:
                return
            after = some[-1].family_id

    def refresh_token_record(self, refresh_token: Secret) -> TokenRecord:
        """Return how often a refresh token was presented and what became of it; only its SHA-256 is sent."""
        sha256 = hashlib.sha256(refresh_token.reveal().encode()).hexdigest()
        return TOKEN_RECORD.validate_json(self._send("GET", f"/refresh-tokens/{sha256}").content)

    def report(self, client_id: str | None = None) -> Report:
        """Return what the sandbox has counted, for one client or for all."""
        query: dict[str, str | int] = {} if client_id is None else {"client_id": client_id}
        return REPORT.validate_json(self._send("GET", "/report", query=query).content)

    def account_of(self, access_token: Secret) -> str | None:
        """Return whose a valid access token is, or None when it is expired, revoked or unknown."""
        answer = self._http.get("/userinfo", headers={"authorization": f"Bearer {access_token.reveal()}"})
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return None
        account: str = answer.raise_for_status().json()["account"]
        return account

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(
        self, method: str, path: str, members: object = None, *, query: dict[str, str | int] | None = None
    ) -> httpx.Response:
        answer = self._http.request(method, "/control" + path, json=members, params=query)
        if answer.is_error:
            said = answer.json()["detail"] if answer.headers.get("content-type") == "application/json" else answer.text
            message = f"{method} /control{path}: {answer.status_code} {said}"
            raise ControlError(message)
        return answer


def _client(client_id: str, what: str) -> str:
    return f"/clients/{quote(client_id, safe='')}/{what}"


def _seeded_grant(members: dict[str, Any]) -> SeededGrant:
    return SeededGrant(
        family_id=members["family_id"],
        account=members["account"],
        scope=members["scope"],
        refresh_token=Secret(members["refresh_token"]),
        access_token=Secret(members["access_token"]),
        expires_in=members["expires_in"],
    )
