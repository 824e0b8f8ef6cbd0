"""Which addresses we go to because a peer told us to. Pure.

A peer names addresses: of its transcoder, of a job's channels, of its other nodes. Left
to itself, one at the other end of the world could have us call what only we can reach.
So where it is decides where it may send us. Addresses are judged after the name is
resolved, each time that a connection is made: ``2130706433``, ``0177.1`` and a name whose
answer changes all end as the address that they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import inet_aton
from typing import Final
from urllib.parse import urlsplit

from relay.errors import PeerError

REFUSED: Final = "address_refused"

Address = IPv4Address | IPv6Address

_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_NOT_GLOBAL: Final = tuple(
    IPv6Network(text) for text in ("64:ff9b:1::/48", "3fff::/20", "5f00::/16")
)
"""Local NAT64 (RFC 8215), documentation and SRv6, which ``is_global`` does not know everywhere."""


class Place(IntEnum):
    """How far away an address is; what is nearer may name what is farther."""

    PUBLIC = 1
    PRIVATE = 2
    """RFC 1918, unique-local, carriers' NAT (RFC 6598), and whatever else is not global."""
    LINK = 3
    """Link-local: clouds tell their secrets there."""
    LOOPBACK = 4
    NOWHERE = 5
    """Unspecified, multicast, reserved."""


def place_of(address: Address) -> Place:
    """Where ``address`` is; one of IPv6 that stands for one of IPv4 is where that is."""
    if isinstance(address, IPv6Address):
        if address.is_loopback:
            return Place.LOOPBACK
        inner = _inner(address)
        if inner is not None:
            return place_of(inner)
    elif address in _THIS_NETWORK:
        # Connecting to one of these ends on this machine.
        return Place.NOWHERE
    if address.is_loopback:
        return Place.LOOPBACK
    if address.is_link_local:
        return Place.LINK
    if address.is_unspecified or address.is_multicast:
        return Place.NOWHERE
    if isinstance(address, IPv4Address) and address.is_reserved:
        return Place.NOWHERE
    if isinstance(address, IPv6Address) and (
        address.is_site_local or any(address in network for network in _NOT_GLOBAL)
    ):
        return Place.PRIVATE
    return Place.PUBLIC if address.is_global else Place.PRIVATE


def plain(address: Address) -> Address:
    """An IPv4 address that came as one of IPv6, as IPv4; without a scope."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.is_unspecified:
        return None
    if any(address in network for network in (_NAT64, _COMPATIBLE, _TRANSLATED)):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where one peer may send us.

    Attributes:
        nearest: the nearest place that it may name.
        own: its own address, which it may name wherever that is.
        only_own: and nothing else.
    """

    nearest: Place = Place.PUBLIC
    own: Address | None = None
    only_own: bool = False

    def allows(self, address: Address) -> bool:
        if self == ANYWHERE:
            return True
        address = plain(address)
        if self.own is not None and address == self.own:
            return True
        place = place_of(address)
        if self.only_own:
            # Of this machine, which has more addresses than the one that we met it at.
            return self.nearest is place is Place.LOOPBACK
        if place in (Place.NOWHERE, Place.LINK):
            # Another host of its link is not the peer, nor anything that it needs.
            return False
        return place <= self.nearest

    def check(self, address: Address, what: str) -> None:
        """
        Raises:
            PeerError: ``address_refused``.
        """
        if not self.allows(address):
            raise refusal(what, address)

    def check_url(self, url: str) -> None:
        """Refuse a bare address at once. A name is checked when it is resolved.

        Raises:
            PeerError: ``address_refused``.
        """
        host = urlsplit(url).hostname or ""
        try:
            address = ip_address(host)
        except ValueError:
            try:
                # As resolvers read it: 2130706433, 0x7f.1 and 0177.0.0.1 are addresses too.
                address = IPv4Address(inet_aton(host))
            except (OSError, ValueError):
                return
        self.check(address, url)


ANYWHERE: Final = Reach(Place.NOWHERE)
"""For addresses that the operator named, and for operators who trust all peers."""


def refusal(what: str, address: Address) -> PeerError:
    place = place_of(address).name.lower()
    return PeerError(
        f"{what} leads to {address} ({place}), where its peer may not send us (setting: reach)",
        code=REFUSED,
    )


def reach_of(mode: str, peer: str | None, here: str | None = None) -> Reach:
    """What the peer at an address may name.

    Args:
        mode: ``auto``, ``any`` or ``same-host``.
        peer: the IP address that it was met at; None: never met, and taken for public.
        here: our own address of that connection. The same one as ``peer``: it is on this
            machine.
    """
    if mode == "any":
        return ANYWHERE
    own = _parse(peer)
    if own is None:
        return Reach(only_own=mode == "same-host")
    place = place_of(own)
    if own == _parse(here):
        place = Place.LOOPBACK
    nearest = {Place.PUBLIC: Place.PUBLIC, Place.LOOPBACK: Place.LOOPBACK}.get(place, Place.PRIVATE)
    if mode == "same-host":
        return Reach(nearest, own, only_own=True)
    # Its own address matters only where its place alone would not allow it.
    return Reach(nearest, own if place is Place.LINK else None)


def _parse(text: str | None) -> Address | None:
    try:
        return plain(ip_address(text)) if text else None
    except ValueError:
        return None
