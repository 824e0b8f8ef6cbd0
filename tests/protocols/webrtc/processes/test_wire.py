"""The bytes between the processes: all that is said comes through, nothing else does."""

from __future__ import annotations

import struct
from array import array
from dataclasses import fields
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.fanout import MAX_PAYLOAD
from relay.protocols.webrtc.payloads import Payloads
from relay.protocols.webrtc.processes import messages, wire
from relay.protocols.webrtc.processes.messages import (
    Answer,
    AskKeyframe,
    Claim,
    Configure,
    Datagram,
    Ended,
    Expect,
    Farewell,
    Figures,
    Load,
    Lost,
    Message,
    Patch,
    Ready,
    Receive,
    Received,
    Release,
    Reply,
    Statistics,
    Ufrag,
    Unit,
    Wanted,
)
from relay.protocols.webrtc.processes.wire import MAX_MESSAGE, Inbox, serialise

V4 = ("192.0.2.1", 5004)
V6 = ("2001:db8::1", 5004, 0, 3)
TCP = ("192.0.2.1", 5004, "tcp")
V4_TO = ("192.0.2.1", 5004, 0, 0, "198.51.100.7")
V6_TO = ("fe80::1%eth0", 5004, 7, 3, "2001:db8::7")
TCP_TO = ("192.0.2.1", 5004, "198.51.100.7")
SAID: list[Message] = [
    Unit(7, Codec.H264, (b"abc", b"", b"d" * 1200), 1 << 40, 12.5, keyframe=True),
    Unit(7, Codec.OPUS, (b"abc",), -3, 12.5, kept=True),
    Received(3, AccessUnit(Codec.H264, b"\0\0\0\1\x65abc", -7, 12.5, True)),
    Received(1 << 31, AccessUnit(Codec.OPUS, b"", 1 << 40, 0.0)),
    Datagram(V4, b"\x80data", foreign=True),
    Datagram(V6, b""),
    Datagram(TCP, b"x"),
    Claim(V4),
    Release(V6),
    Expect(TCP),
    Datagram(V4_TO, b"x", foreign=True),
    Claim(V6_TO),
    Lost(TCP_TO),
    Lost(V4),
    Configure({"host": "::"}, [{"port": 1}], 20),
    Answer(1, 2, "v=0\r\n"),
    Receive(1, 2, "v=0\r\n"),
    AskKeyframe(2),
    Figures([[1, {"packets": 3}]]),
    Patch(1, "s", "a=ä", None),
    Patch(1, "s", "", '"x"'),
    Statistics(1, ["a"]),
    Ready(),
    Load(0.5, 3, 0, {}),
    Load(0, 3, 0, {"dtls": 5}),
    Reply(4, {"id": "x"}, {"type": "BadInput"}),
    Ufrag("abc", mine=False),
    Wanted(3),
    Ended("s", "why"),
    Farewell("s", ["::1", 7, 0, 0], ["15fefd"]),
]


@pytest.mark.parametrize("message", SAID, ids=lambda m: type(m).__name__)
def test_a_message_comes_through(message: Message) -> None:
    assert Inbox().feed(serialise(message)) == [message]


def test_payloads_that_native_code_cut_come_through_as_they_are() -> None:
    payloads = Payloads(b"abcdefg", array("H", [3, 0, 4]).tobytes(), 3)
    cut = Unit(7, Codec.H264, payloads, 1, 2.0)
    apart = Unit(7, Codec.H264, (b"abc", b"", b"defg"), 1, 2.0)
    assert serialise(cut) == serialise(apart)
    for each in (cut, apart):
        (came,) = Inbox().feed(serialise(each))
        assert isinstance(came, Unit)
        assert isinstance(came.payloads, Payloads)
        assert came == cut == apart


@pytest.mark.parametrize("payloads", [(), (b"x" * (MAX_PAYLOAD + 1), b"y")], ids=["none", "large"])
def test_payloads_that_cannot_be_sent_are_looked_at_one_by_one(payloads: tuple[bytes]) -> None:
    """What is ``Payloads`` is taken to fit."""
    (came,) = Inbox().feed(serialise(Unit(7, Codec.OPUS, payloads, 1, 2.0)))
    assert isinstance(came, Unit)
    assert type(came.payloads) is tuple
    assert came.payloads == payloads


@given(st.lists(st.integers(1, 4000), max_size=30))
def test_they_may_come_in_any_pieces(cuts: list[int]) -> None:
    data = b"".join(map(serialise, SAID))
    inbox, found = Inbox(), []
    for cut in cuts:
        found += inbox.feed(data[:cut])
        data = data[cut:]
    assert found + inbox.feed(data) == SAID


@pytest.mark.parametrize("message", SAID, ids=lambda m: type(m).__name__)
def test_one_that_is_cut_short_or_too_long_for_itself_is_refused(message: Message) -> None:
    whole = serialise(message)
    for body in (whole[5:-1], whole[5:] + b"x"):
        rest = {Datagram: "data", Received: "unit.payload"}.get(type(message))
        if rest and len(body) >= len(whole) - 5 - len(attrgetter(rest)(message)):
            continue  # that is whatever is left
        with pytest.raises(ParseError):
            Inbox().feed(struct.pack("!IB", len(body) + 1, whole[4]) + body)


@given(st.integers(0, 255), st.binary(max_size=200))
def test_garbage_is_refused_or_read(kind: int, body: bytes) -> None:
    try:
        found = Inbox().feed(struct.pack("!IB", len(body) + 1, kind) + body)
    except ParseError:
        return
    assert len(found) == 1


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        Inbox().feed(data)
    except ParseError:
        return


@pytest.mark.parametrize("size", [0, MAX_MESSAGE + 1, 0xFFFFFFFF])
def test_a_size_beyond_the_bound_is_refused_before_it_is_held(size: int) -> None:
    with pytest.raises(ParseError):
        Inbox().feed(struct.pack("!IB", size, 0))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind": "nothing"}',
        b'{"kind": "wanted"}',
        b'{"kind": "wanted", "rendition": "1"}',
        b'{"kind": "wanted", "rendition": 1, "more": 2}',
        b'{"kind": "ufrag", "ufrag": 1, "mine": true}',
        b'{"kind": 3}',
    ],
)
def test_json_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(ParseError):
        Inbox().feed(struct.pack("!IB", len(body) + 1, 0) + body)


@pytest.mark.parametrize(
    "message",
    [
        Unit(1, Codec.H264, (bytes(1 << 16),), 0, 0.0),
        Unit(1, Codec.H264, (bytes(60_000),) * 200, 0, 0.0),
        Unit(1, Codec.H264, (b"",) * (wire.MAX_PAYLOADS + 1), 0, 0.0),
        Received(1, AccessUnit(Codec.H264, bytes(MAX_MESSAGE), 0, 0.0)),
        Received(1, AccessUnit(Codec.H264, b"", 1 << 70, 0.0)),
        Claim(()),
        Claim(("ä", 1)),
        Claim(("::1", 1 << 17)),
        Reply(1, {"a": object()}),
        Answer(1, 1, "x" * MAX_MESSAGE),
    ],
)
def test_what_has_no_form_is_not_written(message: Message) -> None:
    with pytest.raises(ParseError):
        serialise(message)


def test_each_type_of_a_field_is_checked() -> None:
    for kind in wire._SAID.values():
        assert all(str(each.type) in wire._TYPES for each in fields(kind))
    assert set(wire._SAID) == {
        name.lower()
        for name, kind in vars(messages).items()
        if isinstance(kind, type) and kind.__module__ == messages.__name__
    } - {"unit", "received", "datagram", "claim", "release", "expect", "lost"}
