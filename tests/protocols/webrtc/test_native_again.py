"""Packets that native code sends again: the same that Python does, and no others."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.native_track import NativeSendLog, NativeTrack
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import Bye, Nack, ReceiverReport, ReportBlock, Rtcp
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp, unwrap_rtx
from relay.protocols.webrtc.sent import HISTORY
from tests.protocols.webrtc.outlet import FakeOutlet, Keys, NativeBackend, SocketOutlet, parameters
from tests.protocols.webrtc.test_native_viewer import Watched, watching
from tests.protocols.webrtc.test_native_viewer import egress as egress
from tests.protocols.webrtc.test_peer_moves import until

ELEMENT = 4
"""Identifier of transport-wide numbers."""


@pytest.fixture
def backend() -> Iterator[NativeBackend]:
    made = NativeBackend()
    yield made
    made.close()


def again(backend: NativeBackend, track: OutgoingTrack, *sequences: int) -> bool:
    assert isinstance(track, NativeTrack)
    told = backend.sender._lib.fan_again(track.native, sequences, len(sequences))
    return bool(told == 0)


def as_it_was(packet: RtpPacket, kind: int = 102, ssrc: int = 1000) -> RtpPacket:
    found = unwrap_rtx(packet, kind, ssrc)
    assert found is not None
    return found


def numbered(backend: NativeBackend, *, rtx: bool) -> tuple[NativeTrack, FakeOutlet]:
    """A track whose packets carry transport-wide numbers."""
    outlet = SocketOutlet()
    backend._outlets.append(outlet)
    offered = replace(parameters(rtx=rtx), extensions={}, feedback=frozenset())
    made = backend.sender.track(offered, outlet, log=backend.sender.log(ELEMENT))
    made.route(Keys(len(backend._outlets)), outlet.socket.getsockname())
    return made, outlet


def of_python(track: NativeTrack, sequence: int) -> bytes | None:
    """What Python would send in the place of what native code did."""
    log, resent = track.log, track.resent
    if log is not None:
        assert isinstance(log, NativeSendLog)
        log.native.next -= 1
    track.native.rtx_sequence -= 1
    found = track.retransmission(sequence)
    track.resent = resent
    return found


@given(
    st.lists(st.lists(st.integers(1, 1300), min_size=1, max_size=5), min_size=1, max_size=9),
    st.integers(0, 0xFFFF),
    st.booleans(),
    st.booleans(),
)
def test_it_sends_what_python_would(
    frames: list[list[int]], sequence: int, rtx: bool, numbers: bool
) -> None:
    backend = NativeBackend()
    try:
        track, outlet = numbered(backend, rtx=rtx) if numbers else backend.track(rtx=rtx)
        assert isinstance(track, NativeTrack)
        track.sequence, track._rtx_sequence = sequence, 7000
        fan_out = backend.fan_out()
        fan_out.set([track])
        for number, sizes in enumerate(frames):
            fan_out.frame([bytes([number]) * size for size in sizes], number * 3000, marker=True)
        sent = [packet.sequence for packet in outlet.packets]
        for count, wanted in enumerate(sent, 1):
            outlet.sent.clear()
            assert again(backend, track, wanted)
            assert [packet.serialise() for packet in outlet.packets] == outlet.sent
            assert outlet.sent == [of_python(track, wanted)]
            assert track.resent == count
        assert backend.counted == [2 * len(sent), 0]
    finally:
        backend.close()


def test_more_than_one_leave_in_the_order_in_which_they_are_asked_for(
    backend: NativeBackend,
) -> None:
    track, outlet = backend.track()
    fan_out = backend.fan_out()
    fan_out.set([track])
    fan_out.frame([b"a", b"bb", b"ccc"], 0, marker=True)
    first, _, last = (packet.sequence for packet in outlet.packets)
    outlet.sent.clear()
    assert again(backend, track, last, first)
    found = [as_it_was(packet) for packet in outlet.packets]
    assert [(packet.sequence, packet.payload) for packet in found] == [
        (last, b"ccc"),
        (first, b"a"),
    ]
    assert [packet.marker for packet in found] == [True, False]


def test_what_is_not_kept_there_is_pythons_and_all_that_was_asked_for_with_it(
    backend: NativeBackend,
) -> None:
    track, outlet = backend.track()
    fan_out = backend.fan_out()
    track.send_alone([b"alone"], 0, marker=True)
    fan_out.set([track])
    alone = track.sequence - 1 & 0xFFFF
    assert not again(backend, track, alone)
    for number in range(HISTORY):
        fan_out.frame([bytes([number % 256])], number * 3000, marker=True)
    newest = track.sequence - 1 & 0xFFFF
    oldest = newest - HISTORY + 1 & 0xFFFF
    assert again(backend, track, oldest, newest)
    sent = len(outlet.packets)
    for missing in (alone, newest + 1 & 0xFFFF, newest - 40_000 & 0xFFFF):
        assert not again(backend, track, newest, missing)
    fan_out.frame([b"more"], 0, marker=True)
    assert not again(backend, track, oldest)
    assert len(outlet.packets) == sent + 1
    fan_out.set([])
    assert not again(backend, track, newest)  # it follows no more
    assert track.retransmission(newest) is not None


def test_frames_that_nobody_was_sent_are_no_part_of_it(backend: NativeBackend) -> None:
    track, outlet = backend.track()
    fan_out = backend.fan_out()
    fan_out.frame([b"nobody's"], 0, marker=True)
    fan_out.set([track])
    assert not again(backend, track, track.sequence - 1 & 0xFFFF)
    fan_out.frame([b"a"], 3000, marker=True)
    fan_out.set([])
    fan_out.frame([b"nobody's"], 6000, marker=True)
    fan_out.set([track])
    assert not again(backend, track, track.sequence - 1 & 0xFFFF)
    fan_out.frame([b"b"], 9000, marker=True)
    assert again(backend, track, track.sequence - 1 & 0xFFFF)
    assert as_it_was(outlet.packets[-1]).payload == b"b"


def test_keys_that_fail_leave_it_to_python(backend: NativeBackend) -> None:
    track, outlet = backend.track()
    fan_out = backend.fan_out()
    fan_out.set([track])
    fan_out.frame([b"a"], 0, marker=True)
    backend.refuse(outlet)
    assert not again(backend, track, track.sequence - 1 & 0xFFFF)


# -- a viewer that asks ------------------------------------------------------------------------


class Asking:
    """A viewer that was sent some pictures, and what it is sent again."""

    def __init__(self, watched: Watched, egress: Egress) -> None:
        self.watched = watched
        self.got: list[RtpPacket] = []
        watched.client.on_rtp = lambda data, now: self.got.append(parse_rtp(data))
        video = watched.session.viewer.video
        assert isinstance(video, NativeTrack)
        self.video = video
        self._egress = egress
        self._number = 0

    def play(self, pictures: int) -> None:
        for _ in range(pictures):
            self._number += 1
            payloads = [b"\x65picture %d" % self._number]
            self._egress.frame("show", Codec.H264, payloads, self._number * 3000, keyframe=True)

    def number(self, back: int) -> int:
        """Of the packet that was sent so many packets before the last one."""
        return self.video.sequence - 1 - back & 0xFFFF

    def nack(self, *back: int) -> Nack:
        return Nack(1, self.video.ssrc, tuple(self.number(each) for each in back))

    @property
    def again(self) -> list[bytes]:
        """Payloads, as they were before."""
        kind, ssrc = self.video.payload_type, self.video.ssrc
        repeated = [packet for packet in self.got if packet.ssrc == self.video.rtx_ssrc]
        return [as_it_was(packet, kind, ssrc).payload for packet in repeated]

    def counted(self) -> tuple[int, int]:
        told = self.watched.session.statistics(time.monotonic())
        return told.nacked, told.resent


@asynccontextmanager
async def asking(peers: Peers, mine: Peers, egress: Egress) -> AsyncIterator[Asking]:
    async with watching(peers, mine, egress) as watched:
        made = Asking(watched, egress)
        made.play(30)
        await until(lambda: len(made.got) == 30)
        yield made


def report(viewer: Asking, lost: int = 0) -> ReceiverReport:
    return ReceiverReport(1, (ReportBlock(viewer.video.ssrc, lost, lost, 77, 900, 0, 0),))


async def test_what_it_asks_for_is_sent_again_and_nothing_comes_to_python(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with asking(peers, mine, egress) as viewer:
        await viewer.watched.say(viewer.nack(2, 9))
        await until(lambda: len(viewer.again) == 2)
        assert viewer.again == [b"\x65picture 28", b"\x65picture 21"]
        await viewer.watched.say(report(viewer), viewer.nack(0))
        await until(lambda: len(viewer.again) == 3)
        assert viewer.again[2] == b"\x65picture 30"
        assert viewer.watched.came == []
        assert viewer.counted() == (3, 3)
        told = viewer.watched.session.statistics(time.monotonic())
        assert told.jitter == pytest.approx(900 / 90_000)  # the report was kept


@pytest.mark.parametrize(
    "what", ["too old", "of another", "a loss", "something more", "many", "restless"]
)
async def test_what_is_not_the_common_case_is_pythons(
    peers: Peers, mine: Peers, egress: Egress, what: str
) -> None:
    async with asking(peers, mine, egress) as viewer:
        said: dict[str, list[Rtcp]] = {
            "too old": [viewer.nack(3, HISTORY + 1)],
            "of another": [Nack(1, 99, (viewer.number(3),))],
            "a loss": [report(viewer, lost=3), viewer.nack(3)],
            "something more": [viewer.nack(3), Bye((1,))],
            "many": [Nack(1, viewer.video.ssrc, tuple(viewer.number(3) for _ in range(65)))],
            "restless": [viewer.nack(3)],
        }
        session = viewer.watched.session
        if what == "restless":
            session.viewer.link._hold(True, time.monotonic())
            session.attend()
        await viewer.watched.say(*said[what])
        assert len(viewer.watched.came) == 1
        known = 65 if what == "many" else int(what != "of another")
        await until(lambda: len(viewer.again) == known)


async def test_what_is_sent_again_natively_counts_for_how_much_may_be(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with asking(peers, mine, egress) as viewer:
        session, later = viewer.watched.session, time.monotonic() + 60
        session.viewer._filled_at = later  # nothing is filled up meanwhile
        session.viewer._tokens = 5.0
        session.attend()
        await viewer.watched.say(viewer.nack(1, 2, 3))
        await until(lambda: len(viewer.again) == 3)
        assert viewer.watched.came == []
        await viewer.watched.say(viewer.nack(4, 5, 6))  # more than are left: Python's
        await until(lambda: len(viewer.again) == 5)
        assert len(viewer.watched.came) == 1
        assert session.viewer.counters.over_budget == 1
        await viewer.watched.say(viewer.nack(7))
        assert session.viewer.counters.over_budget == 2
        assert len(viewer.again) == 5


async def test_a_viewer_whose_video_is_stopped_is_sent_nothing_of_it_again(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with asking(peers, mine, egress) as viewer:
        session = viewer.watched.session
        session.viewer.link._bad_since = 0.0
        assert session.viewer.weigh(time.monotonic())
        session._audience.pause(session)
        session.attend()
        await viewer.watched.say(viewer.nack(1))
        assert len(viewer.watched.came) == 1
        assert viewer.counted()[0] == 1
        assert viewer.again == []
