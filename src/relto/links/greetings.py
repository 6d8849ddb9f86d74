"""How many TLS handshakes a server does, and for which addresses.

A handshake is what a stranger can ask for that costs a server most: a millisecond before it knows
who it is. An address that TCP has confirmed is all there is to count by until then.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable

from relto.buckets import Buckets
from relto.links.http import Limits

__all__ = ["Greetings"]

KNOWN_PER_PEER = 8  # addresses of a peer that are known at once: the latest
KNOWN_MS = 24 * 3_600_000  # from the last time that it came from there
V6_PREFIX = 64  # what one subscriber has of IPv6 (RFC 6177 §2)
_ALL = "all"


class Greetings:
    """Grants handshakes: to each address so many, and to those of strangers so many together.

    An address is known while a peer came from there lately. No number of strangers takes from what
    it has; who shares it with them, behind one NAT, shares what it has with them. Times are
    milliseconds of one monotonic clock.
    """

    def __init__(self, limits: Limits) -> None:
        self._each = Buckets(limits.address_handshakes_per_s, limits.address_handshakes_at_once)
        self._strangers = Buckets(limits.handshakes_per_s, limits.handshakes_at_once)
        self._known: dict[Hashable, OrderedDict[str, float]] = {}  # by peer: when it came last
        self.refused = 0  # since the start

    def grants(self, host: str, now_ms: float) -> bool:
        """Whether somebody from there is greeted now; counts either way."""
        address = _subscriber(host)
        granted = self._each.has(address, now_ms) and (
            self._is_known(address, now_ms) or self._strangers.take(_ALL, now_ms)
        )
        if granted:
            self._each.take(address, now_ms)
        else:
            self.refused += 1
        return granted

    def came(self, peer: Hashable, host: str, now_ms: float) -> None:
        """A peer showed from there who it is."""
        address = _subscriber(host)
        addresses = self._known.setdefault(peer, OrderedDict())
        addresses[address] = now_ms
        addresses.move_to_end(address)
        if len(addresses) > KNOWN_PER_PEER:
            addresses.popitem(last=False)

    def _is_known(self, address: str, now_ms: float) -> bool:
        return any(
            address in addresses and now_ms - addresses[address] < KNOWN_MS
            for addresses in self._known.values()
        )


def _subscriber(host: str) -> str:
    """What counts as one address: of IPv6 the network that its holder chooses addresses from."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, V6_PREFIX), strict=False))
