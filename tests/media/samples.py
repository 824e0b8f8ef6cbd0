"""Access units and bit streams that the tests of this room are made of."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from relay.media.h264 import join_annexb
from relay.media.unit import AccessUnit, Codec

CAPTURES = Path(__file__).parents[1] / "captures" / "ts"

# 320x180, constrained baseline, level 1.3, as the captured segments carry it.
SPS_180P = bytes.fromhex("6742c00dd901419f9f0110000003001000000303c0f142a480")
PPS = bytes.fromhex("68cb8cb2")


def capture(name: str) -> bytes:
    return (CAPTURES / f"stock-gateway.{name}.ts").read_bytes()


def nal(kind: int, size: int = 40, fill: int = 0xAB) -> bytes:
    """A NAL unit of ``size`` bytes behind its header, which no start code can be in."""
    return bytes((0x60 | kind,)) + bytes((fill,)) * size


def idr_slice(pps_id_bits: str = "1", size: int = 40) -> bytes:
    """An IDR slice: first_mb 0, slice_type 7 (I), and the bits of its pps_id."""
    bits = "1" + "0001000" + pps_id_bits
    bits += "1" * (-len(bits) % 8)
    head = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return b"\x65" + head + b"\xab" * size


def picture(
    pts: int = 0, *, key: bool = False, size: int = 40, arrival: float = 0.0, fill: int = 0xAB
) -> AccessUnit:
    nals = [SPS_180P, PPS, idr_slice(size=size)] if key else [nal(1, size, fill)]
    return AccessUnit(Codec.H264, join_annexb(nals), pts, arrival, key)


def sound(pts: int = 0, *, size: int = 40, arrival: float = 0.0) -> AccessUnit:
    """A 20 ms Opus packet."""
    return AccessUnit(Codec.OPUS, b"\x78" + b"\xcd" * size, pts, arrival)


def exp_golomb(value: int) -> str:
    """ue(v) as a string of bits."""
    code = bin(value + 1)[2:]
    return "0" * (len(code) - 1) + code


def nal_units(max_size: int = 600) -> st.SearchStrategy[bytes]:
    """NAL units as 7.4.1 allows them: no start code inside, no zero at the end."""

    def build(kind: int, body: bytes) -> bytes:
        return bytes((0x60 | kind,)) + body.replace(b"\x00\x00", b"\x00\x01") + b"\x80"

    kinds = st.sampled_from((1, 2, 5, 6, 7, 8, 12))
    return st.builds(build, kinds, st.binary(max_size=max_size))


def pictures() -> st.SearchStrategy[AccessUnit]:
    def build(nals: list[bytes], pts: int) -> AccessUnit:
        key = any(n[0] & 31 == 5 for n in nals)
        return AccessUnit(Codec.H264, join_annexb(nals), pts, 1.0, key)

    return st.builds(build, st.lists(nal_units(), min_size=1, max_size=5), _pts())


def sounds() -> st.SearchStrategy[AccessUnit]:
    def build(config: int, body: bytes, pts: int) -> AccessUnit:
        return AccessUnit(Codec.OPUS, bytes((config << 3,)) + body, pts, 1.0)

    return st.builds(build, st.integers(0, 31), st.binary(max_size=1300), _pts())


def _pts() -> st.SearchStrategy[int]:
    return st.integers(0, 1 << 20)
