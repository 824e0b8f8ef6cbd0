"""H.264 in RTP (RFC 6184, packetization mode 1): single NAL units, STAP-A and FU-A."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from relay.media.h264 import split_annexb
from relay.protocols.webrtc.native_payload import NativeCutter

MTU: Final = 1180
"""Bytes of payload: with RTP header, extension and SRTP tag it stays under 1280."""

MAX_ACCESS_UNIT: Final = 4 << 20

MAX_UNITS: Final = 64
"""NAL units of one aggregate, those of zero length counted: senders put some five into one, and
each costs us as much as half a packet."""

_START_CODE: Final = b"\0\0\0\1"
_SLICE: Final = 1
_IDR: Final = 5
_SPS: Final = 7
_PPS: Final = 8
_DELIMITER: Final = 9
_FILLER: Final = 12
_LAST_SINGLE: Final = 23
_STAP_A: Final = 24
_FU_A: Final = 28
_MIXED: Final = frozenset({25, 26, 27, 29})
"""STAP-B, MTAP and FU-B: interleaved mode, which no answer of ours agrees to."""


def lacks_front(payload: bytes) -> bool:
    """Whether this payload is of a key frame whose parameter sets went before it.

    True of an IDR slice, whole or a piece, and of a picture parameter set.
    """
    kind = payload[0] & 31 if payload else 0
    if kind == _FU_A and len(payload) > 1:
        kind = payload[1] & 31
    return kind in (_IDR, _PPS)


def packetize(annexb: bytes, mtu: int = MTU) -> list[bytes]:
    """The RTP payloads of one access unit.

    Small neighbours share a packet. A NAL unit that does not fit is cut into pieces of
    one size, the last one smaller: packets of equal size can leave in one system call.

    Raises:
        ParseError: more NAL units than ``relay.media.h264.MAX_NALS``.
    """
    payloads: list[bytes] = []
    small: list[bytes] = []
    room = mtu - 1
    for nal in split_annexb(annexb):
        needed = len(nal) + 2
        if needed <= room:
            small.append(nal)
            room -= needed
            continue
        _flush(small, payloads)
        room = mtu - 1
        if len(nal) > mtu:
            _fragment(nal, mtu, payloads)
        elif needed <= room:
            small.append(nal)
            room -= needed
        else:
            payloads.append(nal)
    _flush(small, payloads)
    return payloads


class Packetizer:
    """``packetize`` of one stream, by native code where that was built.

    Attributes:
        cut: as ``packetize``.
    """

    __slots__ = ("cut",)

    def __init__(self, mtu: int = MTU) -> None:
        native = NativeCutter.where_built(mtu, packetize)
        self.cut: Callable[[bytes], Sequence[bytes]]
        self.cut = partial(packetize, mtu=mtu) if native is None else native.cut


def _flush(small: list[bytes], payloads: list[bytes]) -> None:
    if len(small) == 1:
        payloads.append(small[0])
    elif small:
        importance = max(nal[0] & 0x60 for nal in small)
        parts = [bytes([importance | _STAP_A])]
        for nal in small:
            parts += (len(nal).to_bytes(2, "big"), nal)
        payloads.append(b"".join(parts))
    small.clear()


def _fragment(nal: bytes, mtu: int, payloads: list[bytes]) -> None:
    indicator = nal[0] & 0xE0 | _FU_A
    kind = nal[0] & 0x1F
    piece = mtu - 2
    last = (len(nal) - 2) // piece * piece + 1
    middle = bytes([indicator, kind])
    payloads.append(bytes([indicator, kind | 0x80]) + nal[1 : 1 + piece])
    payloads.extend(middle + nal[at : at + piece] for at in range(1 + piece, last, piece))
    payloads.append(bytes([indicator, kind | 0x40]) + nal[last:])


class Assembled(NamedTuple):
    """What the payloads of one timestamp added up to.

    Attributes:
        intact: every NAL unit is whole.
        parameters: it holds a sequence parameter set.
        picture: it holds a slice (parameter sets alone do not make a picture).
        keyframe: it holds an IDR slice.
        starts: its first slice is the first of its picture.
    """

    annexb: bytes
    intact: bool
    parameters: bool
    picture: bool
    keyframe: bool
    starts: bool


class Depacketizer:
    """Puts payloads, pushed in order, together to access units in Annex B form.

    It never raises on bytes from strangers: what cannot be right makes the access unit
    not intact. Access unit delimiters and filler are left out.
    """

    __slots__ = (
        "_bad",
        "_in_fragment",
        "_keyframe",
        "_parameters",
        "_parts",
        "_picture",
        "_size",
        "_starts",
    )

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.reset()

    def reset(self) -> None:
        self._parts = []
        self._size = 0
        self._bad = False
        self._in_fragment = False
        self._parameters = False
        self._picture = False
        self._keyframe = False
        self._starts = False

    @property
    def empty(self) -> bool:
        return not self._parts and not self._bad

    @property
    def whole(self) -> bool:
        """Whether what was pushed so far could be all of it: no NAL unit is half done."""
        return not self._in_fragment and not self._bad

    def spoil(self) -> None:
        """A payload in the middle is gone: what is here will not be intact."""
        self._bad = True
        self._parts.clear()

    def push(self, payload: bytes) -> None:
        """Add the next payload; an empty one (a probe) adds nothing."""
        if not payload or self._bad:
            return
        self._size += len(payload)
        if self._size > MAX_ACCESS_UNIT:
            self.spoil()
            return
        kind = payload[0] & 0x1F
        if kind == _FU_A:
            self._fragment(payload)
        elif self._in_fragment:
            self.spoil()  # another NAL unit begins before the fragmented one ended
        elif 0 < kind <= _LAST_SINGLE:
            self._nal(payload)
        elif kind == _STAP_A:
            self._aggregate(payload)
        elif kind in _MIXED:
            self.spoil()

    def take(self) -> Assembled:
        """What was pushed since the last time, and begin the next access unit."""
        result = Assembled(
            b"".join(self._parts),
            not self._bad and not self._in_fragment,
            self._parameters,
            self._picture,
            self._keyframe,
            self._starts,
        )
        self.reset()
        return result

    def _fragment(self, payload: bytes) -> None:
        if len(payload) < 3:
            self.spoil()
            return
        flags = payload[1]
        if flags & 0x80:
            if self._in_fragment:
                self.spoil()
                return
            self._in_fragment = True
            header = payload[0] & 0xE0 | flags & 0x1F
            self._note(header & 0x1F, payload[2])
            self._parts += (_START_CODE, bytes((header,)))
        elif not self._in_fragment:
            self.spoil()
            return
        self._parts.append(payload[2:])
        if flags & 0x40:
            self._in_fragment = False

    def _aggregate(self, payload: bytes) -> None:
        at, units = 1, 0
        size = len(payload)
        while at < size:
            if at + 2 > size or units == MAX_UNITS:
                self.spoil()
                return
            units += 1
            length = payload[at] << 8 | payload[at + 1]
            at += 2
            if at + length > size:
                self.spoil()
                return
            if length:
                self._nal(payload[at : at + length])
            at += length

    def _nal(self, nal: bytes) -> None:
        kind = nal[0] & 0x1F
        if kind in (_DELIMITER, _FILLER):
            return
        self._note(kind, nal[1] if len(nal) > 1 else 0)
        self._parts += (_START_CODE, nal)

    def _note(self, kind: int, following: int) -> None:
        if kind == _SPS:
            self._parameters = True
        if kind not in (_SLICE, _IDR):
            return
        if not self._picture:
            self._picture = True
            # first_mb_in_slice is 0 exactly when its Exp-Golomb code is a single 1 bit
            self._starts = following >= 0x80
        if kind == _IDR:
            self._keyframe = True
