"""Which addresses a request of ours may go to: no private or link-local one, unless the configuration says so.

A name in the public DNS may point anywhere, and may point elsewhere each time it is asked for. So the address is looked
at when the socket for it is made, and not before.
"""

from __future__ import annotations

import ipaddress
from typing import Final

#: IPv6 networks whose addresses stand for an IPv4 address, which is in their last 32 bits: IPv4-mapped and
#: IPv4-compatible (RFC 4291 section 2.5.5), IPv4-translated (RFC 2765 section 2.1), NAT64 (RFC 6052 section 2.1, and
#: RFC 8215 for the translators of a network of its own).
_WITH_IPV4_AT_THE_END: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96")
)
#: What Python's versions differ in, by IANA's registries of special-purpose addresses: site-local (RFC 3879), the rest
#: of what is left to a network's own NAT64, where nobody outside knows which bits are the IPv4 address, documentation
#: (RFC 9637), segment routing (RFC 9602), and the IETF's protocol assignments (RFC 6890).
_NEVER_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("fec0::/10", "64:ff9b:1::/48", "3fff::/20", "5f00::/16", "192.0.0.0/24")
)


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public Internet; one that stands for an IPv4 address is what that is."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = _ipv4_in(parsed)
        if inner:
            return all(_is_global(part) for part in inner)
    return _is_global(parsed)


def is_literal(host: str) -> bool:
    """Tell whether a URL's host is written as an IP address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_private_literal(host: str | None) -> bool:
    """Tell whether a URL's host is written as an IP address, and as one that is not public."""
    return host is not None and is_literal(host) and not is_public(host)


def _ipv4_in(address: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    """Return the IPv4 addresses that packets to an IPv6 address go to in the end; none where it stands for itself."""
    if any(address in network for network in _WITH_IPV4_AT_THE_END):
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour is not None:  # RFC 3056
        return (address.sixtofour,)
    return address.teredo or ()  # RFC 4380: the server, and the client behind it


def _is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    is_special = any(address in network for network in _NEVER_PUBLIC)
    return address.is_global and not address.is_multicast and not is_special
