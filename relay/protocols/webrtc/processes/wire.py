"""The messages between the gateway and a process of its own as bytes, and back. Pure.

A message is its length in 32 bits, its kind in 8, and a body: media, datagrams and addresses
are packed, all else is JSON. Both ends are on one machine: the lengths of payloads stand in its
own order, as native code writes and takes them.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Final

import orjson

from relay.errors import ParseError
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.fanout import MAX_PAYLOAD
from relay.protocols.webrtc.payloads import Payloads
from relay.protocols.webrtc.processes.messages import (
    Answer,
    AskKeyframe,
    Claim,
    Close,
    Configure,
    Datagram,
    Ended,
    Expect,
    Farewell,
    Figures,
    Forget,
    Goodbye,
    Load,
    LogLine,
    Lost,
    Message,
    Open,
    Patch,
    Placed,
    Ready,
    Receive,
    Received,
    Release,
    Reply,
    Said,
    Shut,
    Statistics,
    Ufrag,
    Unit,
    Wanted,
)
from relay.protocols.webrtc.stun import Address

MAX_MESSAGE: Final = 8 << 20
"""Bytes of a message: more than any picture has that viewers are sent."""

MAX_PAYLOADS: Final = 1 << 15

_HEAD: Final = struct.Struct("!IB")
_UNIT: Final = struct.Struct("!IBBqdH")
_RECEIVED: Final = struct.Struct("!IBBqd")
_PLACE: Final = struct.Struct("!BHIIB")
_IPV4, _IPV6, _STREAM, _OURS = range(4)
_KINDS: Final = {2: _IPV4, 3: _STREAM, 4: _IPV6, 5: _OURS}
"""By the length of an address; _STREAM and _OURS end in the address of ours."""
_CODECS: Final = (Codec.H264, Codec.OPUS)
_KEYFRAME: Final = 1
_KEPT: Final = 2


_SAID: Final[dict[str, type[Said]]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(Configure, Open, Forget, Shut, Answer, Receive, Patch, Close, Statistics),
        *(AskKeyframe, Goodbye),
        *(Ready, Load, Figures, Reply, Ufrag, Wanted, Ended, Farewell, LogLine),
    )
}
_PLACED: Final[tuple[type[Placed], ...]] = (Claim, Release, Expect, Lost)
_JSON, _MEDIA, _DATAGRAM, _INGEST, _FIRST_PLACED = range(5)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "float": (float, int),
    "dict[str, Any]": (dict,),
    "list[Any]": (list,),
    "str | None": (str, type(None)),
    "dict[str, Any] | None": (dict, type(None)),
}


def serialise(message: Message) -> bytes:
    """
    Raises:
        ParseError: it has no such form, or is longer than MAX_MESSAGE.
    """
    if isinstance(message, Unit):
        return unit(message)
    if isinstance(message, Received):
        return received(message.publisher, message.unit)
    if isinstance(message, Datagram):
        return datagram(message.address, message.data, foreign=message.foreign)
    if isinstance(message, Claim | Release | Expect | Lost):
        kind = _FIRST_PLACED + _PLACED.index(type(message))
        return _whole(kind, pack_address(message.address))
    try:
        values = {each.name: getattr(message, each.name) for each in fields(message)}
        body = orjson.dumps({"kind": type(message).__name__.lower(), **values})
    except TypeError as error:
        raise ParseError(f"no JSON form: {error}") from error
    return _whole(_JSON, body)


def unit(message: Unit) -> bytes:
    """Raises ParseError as ``serialise``."""
    payloads = message.payloads
    count = len(payloads)
    if type(payloads) is Payloads:
        parts: Sequence[bytes] = (payloads.lengths, payloads.data)
    else:
        if max(map(len, payloads), default=0) > 0xFFFF:
            raise ParseError("a larger payload than a unit has")
        parts = (array("H", map(len, payloads)).tobytes(), *payloads)
    size = _UNIT.size + sum(map(len, parts))
    if count > MAX_PAYLOADS or size >= MAX_MESSAGE:
        raise ParseError(f"a message of {count} payloads and {size} bytes")
    flags = message.keyframe * _KEYFRAME | message.kept * _KEPT
    head = _UNIT.pack(
        *(message.rendition, _CODECS.index(message.codec), flags),
        *(message.timestamp, message.at, count),
    )
    return b"".join((_HEAD.pack(size + 1, _MEDIA), head, *parts))


def received(publisher: int, unit: AccessUnit) -> bytes:
    """A ``Received``; raises ParseError as ``serialise``."""
    size = _RECEIVED.size + len(unit.payload)
    if size >= MAX_MESSAGE:
        raise ParseError(f"a message of {size} bytes")
    flags = unit.keyframe * _KEYFRAME
    try:
        head = _RECEIVED.pack(
            *(publisher, _CODECS.index(unit.codec), flags, unit.pts, unit.arrival)
        )
    except (struct.error, ValueError) as error:
        raise ParseError(f"no access unit of a publisher: {error}") from error
    return b"".join((_HEAD.pack(size + 1, _INGEST), head, unit.payload))


def datagram(address: Address, data: bytes, *, foreign: bool = False) -> bytes:
    """A ``Datagram``; raises ParseError as ``serialise``."""
    return _whole(_DATAGRAM, (b"\1" if foreign else b"\0") + pack_address(address) + data)


def _whole(kind: int, body: bytes) -> bytes:
    if len(body) >= MAX_MESSAGE:
        raise ParseError(f"a message of {len(body)} bytes")
    return _HEAD.pack(len(body) + 1, kind) + body


@lru_cache(maxsize=4096)
def pack_address(address: Address) -> bytes:
    """
    Raises:
        ParseError: it is no address as the port names them.
    """
    try:
        host: bytes = address[0].encode("ascii")
        kind = _KINDS[len(address)]
        flow, scope = (0, 0) if kind in (_IPV4, _STREAM) else address[2:4]
        if kind in (_STREAM, _OURS):
            host += b" " + address[-1].encode("ascii")
        return _PLACE.pack(kind, address[1], flow, scope, len(host)) + host
    except (AttributeError, LookupError, UnicodeEncodeError, struct.error) as error:
        raise ParseError(f"no address: {address!r}") from error


class Inbox:
    """Takes bytes as they come, gives messages. It holds less than one of them."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """
        Args:
            data: not kept.

        Raises:
            ParseError: a message is longer than MAX_MESSAGE, of an unknown kind, or does not
                fit its kind. The stream is of no use after that.
        """
        if not self._held:  # most times whole messages come, and are read where they are
            found, at = _messages(data)
            self._held += data[at:]
            return found
        self._held += data
        found, at = _messages(self._held)
        del self._held[:at]
        return found


def _messages(data: bytes | bytearray | memoryview) -> tuple[list[Message], int]:
    """Those that are whole, and where the rest begins; raises ParseError as ``Inbox.feed``."""
    found: list[Message] = []
    at, length = 0, len(data)
    while length - at >= _HEAD.size:
        size, kind = _HEAD.unpack_from(data, at)
        if not 1 <= size <= MAX_MESSAGE:
            raise ParseError(f"a message of {size} bytes")
        end = at + 4 + size
        if length < end:
            break
        found.append(_parse(kind, bytes(data[at + _HEAD.size : end])))
        at = end
    return found, at


def _parse(kind: int, body: bytes) -> Message:
    if kind == _DATAGRAM:
        if not body:
            raise ParseError("a datagram without an address")
        size = _place_size(body, 1)
        return Datagram(_address(body[1 : 1 + size]), body[1 + size :], bool(body[0]))
    if kind == _MEDIA:
        return _parse_unit(body)
    if kind == _INGEST:
        return _parse_received(body)
    if kind == _JSON:
        return _parse_json(body)
    if kind - _FIRST_PLACED < len(_PLACED):
        return _PLACED[kind - _FIRST_PLACED](_address(body))
    raise ParseError(f"a message of kind {kind}")


def _parse_unit(body: bytes) -> Unit:
    try:
        rendition, codec, flags, timestamp, at, count = _UNIT.unpack_from(body)
        named = _CODECS[codec]
    except (struct.error, IndexError) as error:
        raise ParseError("a unit that is cut short") from error
    start = _UNIT.size + 2 * count
    lengths, data = body[_UNIT.size : start], body[start:]
    each = memoryview(lengths).cast("H") if len(lengths) == 2 * count else ()
    if len(each) != count or sum(each) != len(data):
        raise ParseError("a unit whose payloads do not fill it")
    payloads: Sequence[bytes] = Payloads(data, lengths, count)
    if not count or max(each) > MAX_PAYLOAD:
        payloads = tuple(payloads)  # what can be sent is taken as it is, all else is looked at
    keyframe, kept = bool(flags & _KEYFRAME), bool(flags & _KEPT)
    return Unit(rendition, named, payloads, timestamp, at, keyframe, kept)


def _parse_received(body: bytes) -> Received:
    try:
        publisher, codec, flags, pts, arrival = _RECEIVED.unpack_from(body)
        named = _CODECS[codec]
    except (struct.error, IndexError) as error:
        raise ParseError("an access unit that is cut short") from error
    payload, keyframe = body[_RECEIVED.size :], bool(flags & _KEYFRAME)
    return Received(publisher, AccessUnit(named, payload, pts, arrival, keyframe))


def _place_size(body: bytes, at: int) -> int:
    if len(body) < at + _PLACE.size:
        raise ParseError("an address that is cut short")
    return _PLACE.size + body[at + _PLACE.size - 1]


@lru_cache(maxsize=4096)
def _address(packed: bytes) -> Address:
    if len(packed) != _place_size(packed, 0):
        raise ParseError("an address of another length")
    kind, port, flow, scope, _ = _PLACE.unpack_from(packed)
    try:
        host = packed[_PLACE.size :].decode("ascii")
    except UnicodeDecodeError as error:
        raise ParseError("an address that is no text") from error
    if kind == _IPV4:
        return (host, port)
    if kind == _IPV6:
        return (host, port, flow, scope)
    far, _, ours = host.partition(" ")
    if kind == _STREAM:
        return (far, port, ours)
    if kind == _OURS:
        return (far, port, flow, scope, ours)
    raise ParseError(f"an address of kind {kind}")


def _parse_json(body: bytes) -> Said:
    try:
        values = orjson.loads(body)
        kind = _SAID[values.pop("kind")]
        message = kind(**values)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ParseError(f"no message: {body[:80]!r}") from error
    for each in fields(message):
        if not isinstance(getattr(message, each.name), _TYPES[str(each.type)]):
            raise ParseError(f"{kind.__name__}.{each.name} is of another type")
    return message
