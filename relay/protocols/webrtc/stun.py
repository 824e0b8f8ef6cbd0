"""STUN messages (RFC 8489) as far as ICE needs them (RFC 8445 section 7).

Pure: bytes in, values out, and back. Only the Binding method exists here.
"""

from __future__ import annotations

import binascii
import hmac
import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from relay.errors import ParseError

Address = tuple[Any, ...]
"""What ``socket.recvfrom`` gives: (host, port), and two more fields for IPv6."""

MAGIC_COOKIE: Final = b"\x21\x12\xa4\x42"
HEADER_SIZE: Final = 20
MAX_SIZE: Final = 1500
MAX_ATTRIBUTES: Final = 64

BINDING_REQUEST: Final = 0x0001
BINDING_INDICATION: Final = 0x0011
BINDING_SUCCESS: Final = 0x0101
BINDING_ERROR: Final = 0x0111

MAPPED_ADDRESS: Final = 0x0001
USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
XOR_MAPPED_ADDRESS: Final = 0x0020
PRIORITY: Final = 0x0024
USE_CANDIDATE: Final = 0x0025
MESSAGE_INTEGRITY_SHA256: Final = 0x001C
FINGERPRINT: Final = 0x8028
ICE_CONTROLLED: Final = 0x8029
ICE_CONTROLLING: Final = 0x802A

_UNDERSTOOD: Final = frozenset(
    (
        MAPPED_ADDRESS,
        USERNAME,
        MESSAGE_INTEGRITY,
        ERROR_CODE,
        UNKNOWN_ATTRIBUTES,
        XOR_MAPPED_ADDRESS,
        PRIORITY,
        USE_CANDIDATE,
        MESSAGE_INTEGRITY_SHA256,
        0x0014,  # REALM and NONCE: long-term credentials, harmless here
        0x0015,
    )
)
_FRONT: Final = 16
_INTEGRITY_SIZE: Final = 24
_FINGERPRINT_SIZE: Final = 8
_FINGERPRINT_XOR: Final = 0x5354554E


@dataclass(frozen=True, slots=True)
class Message:
    """One parsed message.

    Attributes:
        kind: the 16-bit message type, one of the ``BINDING_*`` values.
        transaction: 12 bytes.
        attributes: first value of each attribute type, in wire order, up to and
            without MESSAGE-INTEGRITY (RFC 8489 section 14.5: what follows it is
            not protected, so it is not read).
        integrity_at: offset of MESSAGE-INTEGRITY in ``raw``, or None.
        raw: the datagram.
    """

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]
    integrity_at: int | None
    raw: bytes

    def integrity_holds(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY is there and was made with ``key`` (constant time)."""
        at = self.integrity_at
        if at is None:
            return False
        covered = self.raw[:2] + struct.pack("!H", at + _INTEGRITY_SIZE - HEADER_SIZE)
        covered += self.raw[4:at]
        digest = hmac.digest(key, covered, "sha1")
        return hmac.compare_digest(digest, self.raw[at + 4 : at + _INTEGRITY_SIZE])

    def unknown_required(self) -> list[int]:
        """Comprehension-required attributes (< 0x8000) that we do not know."""
        return [kind for kind in self.attributes if kind < 0x8000 and kind not in _UNDERSTOOD]

    def integer(self, kind: int, size: int) -> int | None:
        """An unsigned attribute of exactly ``size`` bytes, None when absent or misshapen."""
        value = self.attributes.get(kind)
        if value is None or len(value) != size:
            return None
        return int.from_bytes(value, "big")

    def error_code(self) -> int | None:
        value = self.attributes.get(ERROR_CODE)
        if value is None or len(value) < 4:
            return None
        return (value[2] & 7) * 100 + value[3]


def parse(data: bytes) -> Message:
    """Read one datagram.

    Raises:
        ParseError: it is not a STUN message with the magic cookie, a length lies,
            or a FINGERPRINT is there and wrong.
    """
    if not HEADER_SIZE <= len(data) <= MAX_SIZE or data[0] > 3:
        raise ParseError("not a STUN message")
    kind, length = struct.unpack_from("!HH", data)
    if data[4:8] != MAGIC_COOKIE or length != len(data) - HEADER_SIZE or length & 3:
        raise ParseError("STUN header does not fit the datagram")
    attributes: dict[int, bytes] = {}
    integrity_at: int | None = None
    at = HEADER_SIZE
    count = 0
    while at < len(data):
        count += 1
        if count > MAX_ATTRIBUTES:
            raise ParseError("too many STUN attributes")
        attribute, size = struct.unpack_from("!HH", data, at)
        end = at + 4 + size
        if end > len(data):
            raise ParseError("STUN attribute runs past the end")
        if attribute == FINGERPRINT:
            _check_fingerprint(data, at, size)
            break  # always the last attribute
        if integrity_at is None:
            if attribute == MESSAGE_INTEGRITY:
                if size != 20:
                    raise ParseError("MESSAGE-INTEGRITY has the wrong size")
                integrity_at = at
            else:
                attributes.setdefault(attribute, data[at + 4 : end])
        at = end + (-size & 3)
    return Message(kind, data[8:20], attributes, integrity_at, data)


def username(data: bytes) -> bytes:
    """USERNAME of what may be a request, before all else is read; empty without one in front.

    A check has some eight attributes; which of them comes first differs from client to client.
    """
    at = HEADER_SIZE
    for _ in range(_FRONT):
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at : at + 2] == b"\0\6":
            return data[at + 4 : at + 4 + size]
        at += 4 + size + (-size & 3)
    return b""


def _check_fingerprint(data: bytes, at: int, size: int) -> None:
    if size != 4 or at + _FINGERPRINT_SIZE != len(data):
        raise ParseError("FINGERPRINT is not the last attribute")
    if binascii.crc32(data[:at]) ^ _FINGERPRINT_XOR != int.from_bytes(data[at + 4 : at + 8], "big"):
        raise ParseError("FINGERPRINT does not fit")


def build(
    kind: int,
    transaction: bytes,
    attributes: Iterable[tuple[int, bytes]],
    key: bytes | None,
) -> bytes:
    """Write a message; with MESSAGE-INTEGRITY when a key is given, and FINGERPRINT last."""
    body = b"".join(
        struct.pack("!HH", attribute, len(value)) + value + bytes(-len(value) & 3)
        for attribute, value in attributes
    )
    if key is not None:
        head = _header(kind, len(body) + _INTEGRITY_SIZE, transaction)
        digest = hmac.digest(key, head + body, "sha1")
        body += struct.pack("!HH", MESSAGE_INTEGRITY, 20) + digest
    message = _header(kind, len(body) + _FINGERPRINT_SIZE, transaction) + body
    crc = binascii.crc32(message) ^ _FINGERPRINT_XOR
    return message + struct.pack("!HHI", FINGERPRINT, 4, crc)


def _header(kind: int, length: int, transaction: bytes) -> bytes:
    return struct.pack("!HH", kind, length) + MAGIC_COOKIE + transaction


def success(request: Message, source: Address, key: bytes) -> bytes:
    """The success response to a Binding request seen from ``source``."""
    mapped = xor_address(source, request.transaction)
    return build(BINDING_SUCCESS, request.transaction, [(XOR_MAPPED_ADDRESS, mapped)], key)


def error(request: Message, code: int, reason: str, key: bytes) -> bytes:
    """An error response; a 420 lists the attributes it is about."""
    value = struct.pack("!HBB", 0, code // 100, code % 100) + reason.encode()
    attributes = [(ERROR_CODE, value)]
    if code == 420:
        unknown = request.unknown_required()
        attributes.append((UNKNOWN_ATTRIBUTES, struct.pack(f"!{len(unknown)}H", *unknown)))
    return build(BINDING_ERROR, request.transaction, attributes, key)


def xor_address(address: Address, transaction: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).

    A v4-mapped IPv6 address, as a dual-stack socket reports it, is told as IPv4.
    """
    packed = _packed(str(address[0]))
    mask = MAGIC_COOKIE + transaction
    size = len(packed)
    port = int(address[1]) ^ int.from_bytes(mask[:2], "big")
    host = int.from_bytes(packed, "big") ^ int.from_bytes(mask[:size], "big")
    return struct.pack("!BBH", 0, 1 if size == 4 else 2, port) + host.to_bytes(size, "big")


@lru_cache(maxsize=1024)
def _packed(host: str) -> bytes:
    """The 4 or 16 bytes of a literal address; those who ask ask again and again."""
    ip = ipaddress.ip_address(host.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.packed


def parse_xor_address(value: bytes, transaction: bytes) -> tuple[str, int]:
    """Host and port out of XOR-MAPPED-ADDRESS.

    Raises:
        ParseError: the family or the size is wrong.
    """
    mask = MAGIC_COOKIE + transaction
    if len(value) not in (8, 20) or value[1] != (1 if len(value) == 8 else 2):
        raise ParseError("XOR-MAPPED-ADDRESS is misshapen")
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(mask[:2], "big")
    host = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
    return str(ipaddress.ip_address(host)), port
