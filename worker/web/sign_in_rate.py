"""How often somebody may try to sign in. Whoever holds what only we give out is not among those who are counted.

A link is told from a made-up one by its signature, and an answer of the OpenID provider by the sealed cookie of the
browser that began: nobody keeps these out by trying often. What is counted is what anybody can send.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

#: Made-up links and answers. A link or a code cannot be guessed by any number. Each web process counts for itself.
FROM_ONE_ADDRESS: Final = "20/minute"
#: Those of all addresses together.
ALTOGETHER: Final = "600/minute"
#: Journeys to the OpenID provider begun from one address: a person needs one, and an office may share an address.
BEGUN_FROM_ONE_ADDRESS: Final = "60/minute"
#: Answers to one journey: a reload or two. Each is a request to the OpenID provider.
ANSWERS: Final = "10/minute"


class SignInRate:
    """Counts attempts in this process's memory."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._each: RateLimitItem = parse(FROM_ONE_ADDRESS)
        self._all: RateLimitItem = parse(ALTOGETHER)
        self._begun: RateLimitItem = parse(BEGUN_FROM_ONE_ADDRESS)
        self._answers: RateLimitItem = parse(ANSWERS)

    async def may_try(self, address: str | None) -> bool:
        """Count one attempt with something that is not known to be ours, and tell whether it may be made.

        Args:
            address: where it comes from; None stands for all that are not known.

        """
        return await self._limiter.hit(self._each, "try", _who(address)) and await self._limiter.hit(self._all, "try")

    async def may_begin(self, address: str | None) -> bool:
        """Count one journey to the OpenID provider, and tell whether it may be begun.

        Args:
            address: where it comes from; None stands for all that are not known.

        """
        return await self._limiter.hit(self._begun, "begin", _who(address))

    async def may_answer(self, state: str) -> bool:
        """Count one answer to a journey that was begun here, and tell whether it may be looked at.

        Args:
            state: the journey's.

        """
        return await self._limiter.hit(self._answers, "answer", state)


def _who(address: str | None) -> str:
    """Return what is counted as one: of IPv6, the network that one household has (RFC 6177)."""
    try:
        read = ip_address(address or "")
    except ValueError:
        return "unknown"
    return str(ip_network((read, 64), strict=False)) if isinstance(read, IPv6Address) else str(read)
