"""DTLS records as they stand in datagrams (RFC 6347 section 4). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MTU: Final = 1200
"""Bytes of a datagram with more than one record."""
HANDSHAKE: Final = (20, 22)
"""Types of records that a handshake is made of."""


def announcements(datagram: bytes) -> Iterator[tuple[int, int]]:
    """Number and length of each handshake message that a datagram has a part of, in the clear
    (RFC 6347 section 4.2.2)."""
    at, size = 0, len(datagram)
    while at + 13 <= size:
        end = at + 13 + int.from_bytes(datagram[at + 11 : at + 13], "big")
        part = at + 13
        clear = datagram[at] == HANDSHAKE[1] and datagram[at + 3 : at + 5] == b"\0\0"
        while clear and part + 12 <= min(end, size):
            length = int.from_bytes(datagram[part + 1 : part + 4], "big")
            yield int.from_bytes(datagram[part + 4 : part + 6], "big"), length
            part += 12 + int.from_bytes(datagram[part + 9 : part + 12], "big")
        at = end


def split_records(flight: bytes) -> list[bytes]:
    """Cut a flight between DTLS records; several records share a datagram up to MTU."""
    datagrams: list[bytes] = []
    start = at = 0
    while at < len(flight):
        if at + 13 > len(flight) or not 20 <= flight[at] < 32:
            at = len(flight)  # the compact form of DTLS 1.3: not cut
            break
        end = at + 13 + int.from_bytes(flight[at + 11 : at + 13], "big")
        if end - start > MTU and at > start:
            datagrams.append(flight[start:at])
            start = at
        at = end
    if start < len(flight):
        datagrams.append(flight[start:])
    return datagrams
