"""Whether a target is this very machine: abuse is for one's own servers."""

from __future__ import annotations

import ipaddress
import socket


def is_own(host: str) -> bool:
    """Whether every address of ``host`` is loopback or one of this machine's interfaces."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(found) and all(_bindable(family, str(at[0])) for family, _, _, _, at in found)


def _bindable(family: int, address: str) -> bool:
    """Only addresses of its own can be bound by a machine (sockets' own rule)."""
    plain = ipaddress.ip_address(address.partition("%")[0])
    if plain.is_loopback or plain.is_unspecified:
        return True  # a connection to the unspecified address ends at this machine
    if plain.is_multicast:
        return False
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind((address, 0))
    except OSError:
        return False
    return True
