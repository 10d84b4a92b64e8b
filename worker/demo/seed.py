"""The demo's grants and the faults that keep it lively."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from worker.bootstrap import Container
from worker.demo.configuration import ASKARA_CLIENT, GRACE_CLIENT
from worker.domain.secret import Secret
from worker.sandbox.behaviour import Behaviour, Latency
from worker.sandbox.control import SandboxControl
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.profiles import ASKARA, RFC6749, Profile

#: Grants for each client and first lifetime: enough that something happens every second.
GRANTS_EACH: Final = 4
#: Seconds that the seeded access tokens live at first: spread, as grants that grew over time are.
FIRST_LIFETIMES: Final = (5, 10, 15, 20, 25, 30)
#: Seconds of every later one: a day's life in half a minute.
ACCESS_LIFETIME: Final = 30

_PROFILES: Final[dict[str, tuple[Profile, Behaviour]]] = {
    ASKARA_CLIENT: (ASKARA, Behaviour(access_lifetime=ACCESS_LIFETIME, latency=Latency(fixed=0.05))),
    GRACE_CLIENT: (
        RFC6749,
        Behaviour(
            access_lifetime=ACCESS_LIFETIME, reuse_grace=30, latency=Latency(fixed=0.05, tail_share=0.02, tail=1.0)
        ),
    ),
}
_ORDERS: Final = (
    # One of each soon, so that the first minute shows them all …
    Order(kind=Misbehaviour.REVOKED_CONSENT, client_id=ASKARA_CLIENT, times=1),
    Order(kind=Misbehaviour.REVOKED_CONSENT, client_id=GRACE_CLIENT, times=1),
    Order(kind=Misbehaviour.LOST_REPLY, client_id=ASKARA_CLIENT, times=1),
    Order(kind=Misbehaviour.LOST_REPLY, client_id=GRACE_CLIENT, times=1),
    # … and then now and again.
    Order(kind=Misbehaviour.LOST_REPLY, probability=0.01),
    Order(kind=Misbehaviour.ERROR_BEFORE, probability=0.01),
    Order(kind=Misbehaviour.HTML_PAGE, probability=0.005, status=502),
    Order(kind=Misbehaviour.SPURIOUS_INVALID_GRANT, probability=0.01),
    Order(kind=Misbehaviour.THROTTLED, probability=0.004, retry_after=3),
    Order(kind=Misbehaviour.REVOKED_CONSENT, probability=0.006),
)


async def seed(container: Container, control: SandboxControl, client_secret: Secret, public_url: str) -> None:
    """Register the demo's clients, make their grants and order the faults, as far as no earlier start has done so."""
    registered = control.client_ids()
    for client, (profile, behaviour) in _PROFILES.items():
        redirect_uris = (f"{public_url}/oauth/callback",)
        if client in registered:
            control.change_redirect_uris(client, redirect_uris)  # the port may be another one this time
        else:
            control.register_client(
                client_id=client,
                client_secret=client_secret,
                redirect_uris=redirect_uris,
                profile=profile,
                name=f"Evergrant's demo ({client})",
                behaviour=behaviour,
            )
        if not await container.grants.list(client=client, state=None, after=None, limit=1):
            await _make_grants(container, control, client)
    if not control.standing_orders():
        for order in _ORDERS:
            control.order(order)


async def _make_grants(container: Container, control: SandboxControl, client: str) -> None:
    for place, lifetime in enumerate(FIRST_LIFETIMES):
        seeded = control.seed_grants(
            client,
            GRANTS_EACH,
            account_prefix="customer-",
            first_number=place * GRANTS_EACH + 1,
            access_lifetime=lifetime,
        )
        for grant in seeded:
            await container.adoption.adopt(
                client,
                grant.account,
                refresh_token=grant.refresh_token,
                access_token=grant.access_token,
                expires_in=timedelta(seconds=grant.expires_in),
                email=f"{grant.account}@example.com",
            )
