"""The native part of cutting pictures into payloads against Python's own: the same payloads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.media.h264 import MAX_NALS
from relay.protocols.webrtc import native_payload
from relay.protocols.webrtc.h264_payload import MTU, Packetizer, packetize
from relay.protocols.webrtc.native_payload import NativeCutter
from relay.protocols.webrtc.payloads import Payloads


def cut(annexb: bytes, *mtus: int) -> list[list[bytes]]:
    """The payloads, each by itself, of each size, as native code cuts them."""
    found = []
    for mtu in mtus:
        cutter = NativeCutter.where_built(mtu, refused)
        assert cutter is not None
        found.append(apart(cutter.cut(annexb)))
    return found


def refused(_annexb: bytes, _mtu: int) -> list[bytes]:
    raise AssertionError("Python was to cut it")


def apart(payloads: Sequence[bytes]) -> list[bytes]:
    whole = list(payloads)
    assert len(payloads) == len(whole)
    assert not whole or (type(payloads) is Payloads and payloads.data == b"".join(whole))
    return whole


lengths = st.one_of(st.integers(0, 40), st.integers(90, 110), st.integers(150, 800))
nals = st.lists(
    st.tuples(st.sampled_from([b"\0\0\1", b"\0\0\0\1"]), st.integers(0, 255), lengths), max_size=12
)


@given(nals, st.integers(16, 300))
def test_access_units_are_cut_alike(parts: list[tuple[bytes, int, int]], mtu: int) -> None:
    annexb = b"".join(code + bytes([kind]) + b"\x9a" * size for code, kind, size in parts)
    assert cut(annexb, mtu) == [packetize(annexb, mtu)]


@given(st.lists(st.sampled_from([b"\0", b"\1", b"\0\0\1", b"\x65", b"\x41ab"]), max_size=60))
@example([])
@example([b"\0\0\1", b"\0\0\1", b"\0\0\1"])
@example([b"\x41ab", b"\0\0\1", b"\0\0\1", b"\x65", b"\0", b"\0"])
def test_any_bytes_are_cut_alike(parts: list[bytes]) -> None:
    annexb = b"".join(parts)
    assert cut(annexb, 16, MTU) == [packetize(annexb, 16), packetize(annexb, MTU)]


def test_one_after_the_other_is_cut_as_by_itself() -> None:
    one = NativeCutter.where_built(MTU, refused)
    assert one is not None
    for size in (5000, 10, 300_000, 1178, 1179, 1180, 1181, 2357, 1):
        annexb = b"\0\0\0\1\x67\x42\0\0\0\1\x41" + b"\x9a" * size
        assert apart(one.cut(annexb)) == packetize(annexb, MTU)


def test_what_native_code_does_not_take_is_cut_by_python() -> None:
    many = (b"\0\0\1\x41" + b"\x9a" * 8) * 2000  # more payloads than there is room for
    with pytest.raises(AssertionError, match="Python"):
        cut(many, 16)
    assert Packetizer(16).cut(many) == packetize(many, 16)
    assert Packetizer(4).cut(b"\0\0\1\x41abcdef") == packetize(b"\0\0\1\x41abcdef", 4)
    with pytest.raises(ParseError):
        Packetizer().cut(b"\0\0\1\x41" * (MAX_NALS + 1))


def test_without_the_native_part_python_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_payload, "_library", lambda: None)
    assert Packetizer().cut(b"\0\0\1\x41ab") == [b"\x41ab"]
