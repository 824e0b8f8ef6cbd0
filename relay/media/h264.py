"""H.264 in Annex B form: NAL units, key frames, parameter sets (ITU-T H.264)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.errors import ParseError

START_CODE: Final = b"\x00\x00\x00\x01"

SLICE: Final = 1
IDR: Final = 5
SEI: Final = 6
SPS: Final = 7
PPS: Final = 8
AUD: Final = 9

MAX_NALS: Final = 8192
"""NAL units of one access unit; a 4 MiB picture in 1200-byte slices has half of it."""

MAX_PARAMETER_SET: Final = 1024
"""Bytes of one SPS or PPS; the largest with every scaling list stays under it."""

MAX_SETS: Final = 8
"""Parameter sets of one access unit that are read; encoders write two or three."""

MAX_MACROBLOCKS: Final = 1024
"""Macroblocks a side, so 16384 pixels (level 6.2 ends at 1055 in one direction)."""

PLAIN: Final = tuple(START_CODE + bytes((importance | SLICE,)) for importance in range(0, 256, 32))
"""What a picture without parameter sets begins with, one for each value of the bits in front of
the type: nothing to read there, and nothing to remember."""

_SHORT_CODE: Final = b"\x00\x00\x01"
_split: Final = re.compile(_SHORT_CODE).split
"""As ``bytes.split``, in half the time."""
TYPE_MASK: Final = 0x1F
_SLICES: Final = frozenset(range(SLICE, IDR + 1))  # 2 to 4 are data partitions
_SLICES_AND_SETS: Final = _SLICES | {SPS, PPS}
_HIGH_PROFILES: Final = frozenset((44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244))


def nal_type(nal: bytes) -> int:
    """The nal_unit_type of a NAL unit that comes without its start code.

    Raises:
        ParseError: it is empty.
    """
    if not nal:
        raise ParseError("an empty NAL unit")
    return nal[0] & TYPE_MASK


def split_annexb(data: bytes) -> list[bytes]:
    """NAL units between 3- or 4-byte start codes, without empty ones.

    Bytes before the first start code are left out, and so are zeros behind a unit:
    a NAL unit never ends with one (7.4.1), they belong to the next start code.

    Raises:
        ParseError: more than MAX_NALS units.
    """
    pieces = _split(data, MAX_NALS + 1)
    if len(pieces) > MAX_NALS + 1:
        raise ParseError(f"more than {MAX_NALS} NAL units in an access unit")
    nals = []
    for piece in pieces[1:]:
        nal = piece.rstrip(b"\x00")
        if nal:
            nals.append(nal)
    return nals


def join_annexb(nals: Iterable[bytes]) -> bytes:
    """The NAL units, each behind a 4-byte start code."""
    body = START_CODE.join(nals)
    return START_CODE + body if body else b""


def is_keyframe(annexb: bytes) -> bool:
    """Whether the first slice is one of an IDR picture (all slices then are, 7.4.1.2.4)."""
    return _first_of(annexb, _SLICES) == IDR


def _first_of(annexb: bytes, kinds: frozenset[int]) -> int | None:
    """The type of the first NAL unit that is one of ``kinds``; looks no further."""
    last = len(annexb) - len(_SHORT_CODE)
    at = annexb.find(_SHORT_CODE)
    while 0 <= at < last:
        kind = annexb[at + 3] & TYPE_MASK
        if kind in kinds:
            return kind
        at = annexb.find(_SHORT_CODE, at + 3)
    return None


@dataclass(frozen=True, slots=True)
class Sps:
    """What we need of a sequence parameter set (7.3.2.1.1).

    Attributes:
        constraint_flags: the byte behind profile_idc.
        width: pixels of the shown picture, cropping applied.
        height: likewise.
        sps_id: seq_parameter_set_id, 0 to 31.
    """

    profile_idc: int
    constraint_flags: int
    level_idc: int
    width: int
    height: int
    sps_id: int = 0


class _Bits:
    """Reads a raw byte sequence payload by the bit; ParseError behind its end."""

    __slots__ = ("_octets", "_value", "left")

    def __init__(self, escaped: bytes) -> None:
        # Emulation prevention (7.4.1): the 3 of every 00 00 03 is not part of the payload.
        payload = escaped.replace(b"\x00\x00\x03", b"\x00\x00")
        self._value = int.from_bytes(payload, "big")
        self._octets = len(payload)
        self.left = 8 * len(payload)

    def take(self, count: int) -> int:
        if count > self.left:
            raise ParseError("a parameter set or slice header ends too early")
        self.left -= count
        return (self._value >> self.left) & ((1 << count) - 1)

    @property
    def octets(self) -> int:
        """That were taken, the last one in part perhaps."""
        return self._octets - self.left // 8

    def unsigned(self, limit: int = (1 << 32) - 2) -> int:
        """ue(v) of clause 9.1, at most ``limit``."""
        zeros = self.left - (self._value & ((1 << self.left) - 1)).bit_length()
        if zeros > 31:
            raise ParseError("an Exp-Golomb code of more than 32 bits")
        self.take(zeros)
        value = self.take(zeros + 1) - 1
        if value > limit:
            raise ParseError(f"{value} where at most {limit} is allowed")
        return value

    def signed(self) -> int:
        """se(v) of clause 9.1.1."""
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def parse_sps(nal: bytes) -> Sps:
    """Read a sequence parameter set NAL unit, its header byte included.

    Raises:
        ParseError: another NAL unit, too long, cut short, or values out of range.
    """
    if nal_type(nal) != SPS:
        raise ParseError("not a sequence parameter set")
    if len(nal) > MAX_PARAMETER_SET:
        raise ParseError(f"a sequence parameter set of {len(nal)} bytes")
    bits = _Bits(nal[1:])
    profile_idc, constraint_flags, level_idc = bits.take(8), bits.take(8), bits.take(8)
    sps_id = bits.unsigned(31)
    chroma = _chroma_array_type(bits) if profile_idc in _HIGH_PROFILES else 1
    bits.unsigned(12)  # log2_max_frame_num_minus4
    _skip_picture_order_count(bits)
    bits.unsigned(16)  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    columns = bits.unsigned(MAX_MACROBLOCKS - 1) + 1
    map_rows = bits.unsigned(MAX_MACROBLOCKS - 1) + 1
    frames_only = bits.take(1)
    if not frames_only:
        bits.take(1)  # mb_adaptive_frame_field_flag
    bits.take(1)  # direct_8x8_inference_flag
    width, height = 16 * columns, 16 * map_rows * (2 - frames_only)
    if bits.take(1):
        left, right, top, bottom = (bits.unsigned(1 << 16) for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma == 1 else 1) * (2 - frames_only)
        if width <= 0 or height <= 0:
            raise ParseError("nothing of the picture is left after cropping")
    return Sps(profile_idc, constraint_flags, level_idc, width, height, sps_id)


def _chroma_array_type(bits: _Bits) -> int:
    """The part of an SPS that only the high profiles have; returns ChromaArrayType."""
    chroma = bits.unsigned(3)
    separate_planes = chroma == 3 and bits.take(1)
    bits.unsigned(6)  # bit_depth_luma_minus8
    bits.unsigned(6)  # bit_depth_chroma_minus8
    bits.take(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.take(1):  # seq_scaling_matrix_present_flag
        for index in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return 0 if separate_planes else chroma


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    scale = 8
    for _ in range(size):
        scale = (scale + bits.signed()) % 256
        if not scale:  # the rest of the list repeats the value before
            return


def _skip_picture_order_count(bits: _Bits) -> None:
    kind = bits.unsigned(2)
    if kind == 0:
        bits.unsigned(12)  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.take(1)  # delta_pic_order_always_zero_flag
        bits.signed()  # offset_for_non_ref_pic
        bits.signed()  # offset_for_top_to_bottom_field
        for _ in range(bits.unsigned(255)):
            bits.signed()


class ParameterSets:
    """Remembers the parameter sets of one stream and gives them back to key frames.

    Some senders put SPS and PPS only in front of their first key frame; a reader that
    begins at a later one needs them again.
    """

    __slots__ = ("_active", "_ends", "_head", "_pps", "_sps")

    def __init__(self) -> None:
        # What the last key frame that lacked nothing began with, to the number of the picture
        # parameter set in its first slice: most encoders write the same each time. The number
        # may end within an octet, of which some bits count.
        self._head: bytes | None = None
        self._ends = (0, 0)
        self._active: Sps | None = None
        self._sps: dict[int, tuple[bytes, Sps]] = {}
        self._pps: dict[int, tuple[bytes, int]] = {}

    @property
    def front(self) -> tuple[bytes, int, int] | None:
        """What a key frame begins with that lacks nothing and says nothing new, where one is
        known: whole octets, and then one of which the bits of a mask have a value."""
        return None if self._head is None else (self._head, *self._ends)

    def apply(self, annexb: bytes) -> tuple[bytes, Sps | None]:
        """The access unit with the parameter sets that its key frame lacks.

        Never raises: a set that cannot be read is passed on and not remembered.

        Returns:
            The access unit (the same object when nothing is missing), and the active
            SPS when it is a key frame whose parameter sets are known, else None.
        """
        if annexb.startswith(PLAIN):
            return annexb, None  # most pictures
        if self._head is not None and annexb.startswith(self._head):
            mask, value = self._ends
            if len(annexb) > len(self._head) and annexb[len(self._head)] & mask == value:
                return annexb, self._active  # most key frames
        if _first_of(annexb, _SLICES_AND_SETS) not in (IDR, SPS, PPS):
            return annexb, None
        try:
            nals = split_annexb(annexb)
        except ParseError:
            return annexb, None
        self._head = None
        present: set[tuple[int, int]] = set()
        slice_at: bytes | None = None
        sets = 0
        for nal in nals:
            kind = nal[0] & TYPE_MASK
            if kind in (SPS, PPS):
                sets += 1
                if sets <= MAX_SETS:
                    self._remember(kind, nal, present)
            elif kind == IDR:
                slice_at = nal
                break
        if slice_at is None:
            return annexb, None
        return self._complete(annexb, nals, slice_at, present)

    def _remember(self, kind: int, nal: bytes, present: set[tuple[int, int]]) -> None:
        known = self._sps if kind == SPS else self._pps
        for number, (kept, _) in known.items():
            if kept == nal:  # with most key frames
                present.add((kind, number))
                return
        try:
            if kind == SPS:
                sps = parse_sps(nal)
                self._sps[sps.sps_id] = (nal, sps)
                present.add((SPS, sps.sps_id))
            elif len(nal) <= MAX_PARAMETER_SET:
                bits = _Bits(nal[1:17])
                pps_id, sps_id = bits.unsigned(255), bits.unsigned(31)
                self._pps[pps_id] = (nal, sps_id)
                present.add((PPS, pps_id))
        except ParseError:
            # A decoder may know better; the set stays where it is in its access unit.
            return

    def _complete(
        self, annexb: bytes, nals: list[bytes], idr: bytes, present: set[tuple[int, int]]
    ) -> tuple[bytes, Sps | None]:
        try:
            bits = _Bits(idr[1:17])
            bits.unsigned()  # first_mb_in_slice
            bits.unsigned()  # slice_type
            pps_id = bits.unsigned(255)
        except ParseError:
            return annexb, None
        if pps_id not in self._pps or self._pps[pps_id][1] not in self._sps:
            return annexb, None
        pps, sps_id = self._pps[pps_id]
        sps_nal, sps = self._sps[sps_id]
        if (SPS, sps_id) not in present:
            front = [sps_nal] if (PPS, pps_id) in present else [sps_nal, pps]
            return join_annexb(front + nals), sps
        if (PPS, pps_id) not in present:
            behind = max(i for i, nal in enumerate(nals) if nal[0] & TYPE_MASK == SPS) + 1
            return join_annexb([*nals[:behind], pps, *nals[behind:]]), sps
        start = _SHORT_CODE + idr[:17]
        if b"\x00\x00\x03" not in start:  # as raw bytes say it: no bit is moved
            last = annexb.index(start) + len(_SHORT_CODE) + bits.octets
            mask = 0xFF << bits.left % 8 & 0xFF
            self._ends = mask, annexb[last] & mask
            self._head, self._active = annexb[:last], sps
        return annexb, sps
