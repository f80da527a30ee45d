"""Which addresses on the network something may be sent to that a configured URL leads to.

Pure. An address is judged as it is about to be connected to: what a name leads to is another thing each time it is
asked for. Looking names up, and connecting, is left to who sends.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from attrs import frozen

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What is not the open internet, by IANA's registries of special-purpose addresses (RFC 6890), and what it is.
_NOT_PUBLIC: Final = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host's"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by customers of a provider"),
        ("127.0.0.0/8", "this machine's own"),
        # Among them those where clouds tell a machine its passwords.
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host's"),
        ("::1/128", "this machine's own"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
    )
)
_GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")
_LINK_LOCAL: Final = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
#: Networks of IPv6 in whose addresses one of IPv4 stands, and how many bits are behind it (RFC 6052, RFC 3056).
_WITH_IPV4: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)


@frozen
class Reach:
    """What may be reached: all of the open internet, and of the rest what is `allowed`."""

    allowed: Sequence[Network] = ()

    def refuses(self, address: Address) -> str | None:
        """What kind of address it is that may not be reached; None if it may."""
        meant = _meant(address)
        what = _kind(meant)
        if what is None or any(meant in network or address in network for network in self.allowed):
            return None
        return what


def reach_of(host: str, allowed: Sequence[Network]) -> Reach:
    """What the address of this host may lead to: an address that is written there is meant, so it is allowed.

    A name is not: where it leads to is said elsewhere, and may change. Link-local addresses are never meant so, since
    no receiver has one and the passwords of clouds do. Raises `ValueError` saying what would be right.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return Reach(allowed)
    bits = address.max_prefixlen
    reach = Reach(allowed)
    if reach.refuses(address) is None:
        return reach
    if any(_meant(address) in network for network in _LINK_LOCAL):
        raise ValueError(
            f"leads to a link-local address; `allow: [{address}/{bits}]` beside it would be right"
        )
    return Reach((*allowed, ipaddress.ip_network(f"{address}/{bits}")))


def _meant(address: Address) -> Address:
    """The address of IPv4 that stands in one of IPv6, as a gateway would take it out."""
    if isinstance(address, ipaddress.IPv6Address):
        for network, behind in _WITH_IPV4:
            # Not `::` and `::1`, which are what they are.
            if address in network and int(address) > 1:
                return ipaddress.IPv4Address(int(address) >> behind & 0xFFFF_FFFF)
    return address


def _kind(address: Address) -> str | None:
    for network, what in _NOT_PUBLIC:
        if address in network:
            return what
    return "not public" if address.version == 6 and address not in _GLOBAL_IPV6 else None
