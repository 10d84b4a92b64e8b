"""How often somebody may try to sign in: from one address, and all together."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

#: A person needs two or three; a link or a code cannot be guessed by any number. Each web process counts for itself.
FROM_ONE_ADDRESS: Final = "20/minute"
#: What hashing, looking and asking the OpenID provider may cost at most, whoever asks.
ALTOGETHER: Final = "600/minute"


class SignInRate:
    """Counts attempts in this process's memory."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._each: RateLimitItem = parse(FROM_ONE_ADDRESS)
        self._all: RateLimitItem = parse(ALTOGETHER)

    async def may_try(self, address: str | None) -> bool:
        """Count one attempt and tell whether it may be made.

        Args:
            address: where it comes from; None stands for all that are not known.

        """
        return await self._limiter.hit(self._each, _who(address)) and await self._limiter.hit(self._all)


def _who(address: str | None) -> str:
    """Return what is counted as one: of IPv6, the network that one household has (RFC 6177)."""
    try:
        read = ip_address(address or "")
    except ValueError:
        return "unknown"
    return str(ip_network((read, 64), strict=False)) if isinstance(read, IPv6Address) else str(read)
