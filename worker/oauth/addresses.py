"""Which addresses a request of ours may go to: no private or link-local one, unless the configuration says so.

A name in the public DNS may point anywhere, and may point elsewhere each time it is asked for. So the address is looked
at when the socket for it is made, and not before.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: RFC 6052 section 2.1: IPv6 addresses that stand for an IPv4 address, which is in their last 32 bits.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public Internet, the IPv4 address inside an IPv6 one included."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # Python's versions differ in what they say of these
    return all(part.is_global and not part.is_multicast for part in (parsed, *_embedded(parsed)))


def is_private_literal(host: str | None) -> bool:
    """Tell whether a URL's host is written as an IP address, and as one that is not public."""
    try:
        ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return False
    return not is_public(host or "")


def _embedded(address: _Address) -> list[_Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    teredo = address.teredo[1] if address.teredo is not None else None
    return [part for part in (address.sixtofour, teredo, inner) if part is not None]
