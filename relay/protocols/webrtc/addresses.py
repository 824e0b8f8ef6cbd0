"""Our addresses as peers are told of them: bound ones, or the public ones before them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn

from relay.errors import ConfigError
from relay.protocols.webrtc.sdp import Candidate

WILDCARDS: Final = ("0.0.0.0", "::")


def _wrong(what: str) -> NoReturn:
    raise ConfigError(f"gateway.webrtc.public_addresses: {what}", code="public_address")


def _literal(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        _wrong(f"{text!r} is not an IP address")


def public_of(entry: str) -> str:
    """What is told to peers, of an entry of ``gateway.webrtc.public_addresses``."""
    return entry.rpartition("=")[2].strip()


def told_addresses(entries: Sequence[str], bound: str) -> list[str]:
    """The addresses to tell, of entries that are all plain, or all ``bound=public``.

    A pair says that a router in front of us maps one of our addresses to one of its own and
    back: so the bound side has to be ours, and one that the port is bound to.

    Args:
        bound: what the port is bound to.

    Raises:
        ConfigError: ``public_address``.
    """
    pairs = [entry for entry in entries if "=" in entry]
    if not pairs:
        for entry in entries:
            _literal(entry)
        return list(entries)
    if len(pairs) < len(entries):
        plain = next(entry for entry in entries if "=" not in entry)
        _wrong(f"{plain!r} stands beside {pairs[0]!r}; write bound=public for each, or for none")
    told: dict[str, str] = {}
    for pair in pairs:
        own, public = _pair(pair)
        _heard(own, bound)
        if public in told:
            _wrong(f"{public} is mapped twice, by {told[public]!r} and {pair!r}")
        told[public] = pair
    return list(told)


def _pair(entry: str) -> tuple[str, str]:
    own, _, public = (side.strip() for side in entry.partition("="))
    if not own or not public or "=" in public:
        _wrong(f"{entry!r} is no pair; write bound=public, as 10.0.0.5=203.0.113.5")
    sides = _literal(own), _literal(public)
    for side in sides:
        if side.is_unspecified or side.is_multicast:
            _wrong(f"{str(side)!r} in {entry!r} is not the address of one machine")
    if sides[0].version != sides[1].version:
        _wrong(
            f"{entry!r} has IPv{sides[0].version} on one side, IPv{sides[1].version} on the other"
        )
    return own, public


def _heard(own: str, bound: str) -> None:
    """That this is an address of ours, and that the port is bound to it, or to all."""
    address = _literal(own)
    if bound not in WILDCARDS:
        if bound != own:
            wild = WILDCARDS[address.version == 6]
            _wrong(f"{own} is not bound: gateway.webrtc.host is {bound}; set it to {wild}")
    elif address.version == 6 and bound != "::":
        _wrong(f"{own} is not bound: gateway.webrtc.host is {bound}, of IPv4 alone; set it to ::")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((own, 0))
        except OSError:
            _wrong(f"{own} is no address of this machine")


def named(candidates: Iterable[Candidate]) -> str:
    """``203.0.113.5:7280, [2001:db8::1]:7280``, those of TCP with that word."""
    shown = []
    for each in candidates:
        host = f"[{each.host}]" if ":" in each.host else each.host
        shown.append(f"{host}:{each.port}{' (TCP)' if each.tcptype else ''}")
    return ", ".join(shown) or "no address"


def not_in_time(ours: Iterable[Candidate], *, heard: bool) -> str:
    """Why a peer is not connected that we answered.

    Args:
        ours: what it was told.
        heard: whether a check of its came.
    """
    how = "its handshake did not end" if heard else f"nothing of it came to {named(ours)}"
    return f"not connected in time: {how}"


def candidates_of(hosts: list[str], port: int, tcp_port: int | None = None) -> list[Candidate]:
    """Host candidates, in order of preference; IPv4 first, as some clients read one only.

    Those of TCP stand behind all of UDP, and below them (RFC 6544 section 4.2).
    """
    ordered = sorted(hosts, key=lambda host: ":" in host)
    found = [
        Candidate(str(index + 1), (126 << 24) + ((65535 - index) << 8) + 255, host, port)
        for index, host in enumerate(ordered)
    ]
    if tcp_port is None:
        return found
    count = len(ordered)
    return found + [
        Candidate(str(count + index + 1), _passive(index), host, tcp_port, tcptype="passive")
        for index, host in enumerate(ordered)
    ]


def _passive(index: int) -> int:
    """The priority of a passive TCP candidate: type preference 90, direction preference 4."""
    return (90 << 24) + (((4 << 13) + 8191 - index) << 8) + 255


def local_hosts(bound: str) -> list[str]:
    """What a bound address is to be told as; a wildcard becomes the outward addresses."""
    if bound not in WILDCARDS:
        return [bound]
    hosts: list[str] = []
    probes = [(socket.AF_INET, "192.0.2.1")]
    if bound == "::":
        probes.append((socket.AF_INET6, "2001:db8::1"))
    for family, target in probes:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))  # chooses a route; sends nothing
            except OSError:
                continue
            hosts.append(probe.getsockname()[0])
    return hosts or ["127.0.0.1"]
