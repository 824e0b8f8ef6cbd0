"""Transport-wide feedback that native code reads: as Python reads it, and up it goes in need."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import cffi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc import native_library
from relay.protocols.webrtc.congestion import TICK, TransportFeedback, _parse_chunks, summarise
from relay.protocols.webrtc.description import write_offer
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.negotiation import TRANSPORT_CC
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import TRANSPORT_FEEDBACK, TWCC_FORMAT, Unknown, pack_packet
from relay.protocols.webrtc.sendlog import SendLog
from tests.protocols.webrtc import nat
from tests.protocols.webrtc.test_native_viewer import Watched, watching
from tests.protocols.webrtc.test_native_viewer import egress as egress
from tests.protocols.webrtc.test_peer_moves import until
from tests.protocols.webrtc.test_viewer_moves import playing

NUMBERS = 4
REFERENCE = 0.064
MOST = 4096
"""Statuses that the native part reads."""

Read = Callable[[bytes], tuple[int, int, int, float] | None]


@cache
def native() -> Read:
    header = (native_library.HERE / "native" / "feedback.h").read_text()
    ffi = cffi.FFI()
    ffi.cdef(header.partition("#include <stdint.h>")[2].partition("#endif")[0])
    (library,) = native_library.HERE.glob("_native*")
    door = ffi.dlopen(str(library))

    def read(data: bytes) -> tuple[int, int, int, float] | None:
        # Memory of just that length: the sanitizers see a read beyond it.
        told, held = ffi.new("struct feedback *"), ffi.new("uint8_t[]", data)
        if door.feedback_read(told, held, len(data)):
            return None
        return told.newest, told.told, told.received, told.arrived

    return read


def held_against_python(data: bytes) -> None:
    body, found = data[4:], native()(data)
    try:
        told = summarise(body)
    except ParseError:
        assert found is None
        return
    if found is None:
        statuses = int.from_bytes(body[10:12], "big")
        unknown = 3 in _parse_chunks(body, 16, statuses)[0]
        assert told.last < 0 or statuses > MOST or unknown
        return
    newest = (told.base + told.last) & 0xFFFF
    arrived = told.reference * REFERENCE + told.ticks * TICK
    assert found == pytest.approx((newest, told.last + 1, told.received, arrived))


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFF),
    st.lists(st.none() | st.integers(0, 300), max_size=120),
)
def test_it_is_read_as_python_reads_it(base: int, reference: int, steps: list[int | None]) -> None:
    now, arrivals = 0, []
    for step in steps:
        now += step or 0
        arrivals.append(None if step is None else now)
    held_against_python(TransportFeedback(1, 2, base, reference, 0, tuple(arrivals)).serialise())


@given(st.binary(max_size=200), st.integers(0, 600))
def test_whatever_it_is_nothing_is_read_that_is_not_there(rest: bytes, statuses: int) -> None:
    body = bytes(8) + b"\x00\x07" + statuses.to_bytes(2, "big") + bytes(4) + rest
    held_against_python(pack_packet(TRANSPORT_FEEDBACK, TWCC_FORMAT, body + bytes(-len(body) % 4)))


@given(st.binary(max_size=60))
def test_what_is_no_feedback_is_refused(data: bytes) -> None:
    if len(data) < 20 or data[0] & 0x20 or int.from_bytes(data[2:4], "big") * 4 + 4 != len(data):
        assert native()(data) is None


# -- a viewer that answers the numbers of what it is sent ---------------------------------------


class Numbered(Offering):
    """With what browsers offer beside ours."""

    def __init__(self, peers: Peers, *, send: bool, audio: bool = True) -> None:
        super().__init__(peers, send=send, audio=audio)
        lines = []
        for line in self._lines:
            if (track := line.track) is not None:
                extensions = {**track.extensions, TRANSPORT_CC: NUMBERS}
                feedback = track.feedback | {"transport-cc"}
                track = replace(track, extensions=extensions, feedback=feedback)
            lines.append(replace(line, track=track))
        self._lines = lines
        self.text = write_offer(lines, peers.local_side(self.peer), send=send)


class Answering:
    """Tells of all that has left, as it is asked to."""

    def __init__(self, watched: Watched, log: SendLog) -> None:
        self.watched = watched
        self._log = log
        self._next = 0
        self._began = time.monotonic() - 100

    async def pause(self) -> None:
        """For longer than feedback is left unopened: a packet is sent each 10 ms."""
        await until(lambda: (self._log.next - self._next) & 0xFFFF >= 25)

    async def tell(self, *, late: float = 0.0, lost: int = 0) -> None:
        """Of all packets since the last time, the first ``lost`` of which did not come; they
        came ``late`` seconds after they were sent."""
        await self.pause()
        base, until_ = self._next, self._log.next
        self._next = until_
        found = self._log.find((until_ - 1) & 0xFFFF)
        assert found is not None
        at = found[0] - self._began + late
        reference = int(at / REFERENCE)
        count = (until_ - base) & 0xFFFF
        tick = round((at - reference * REFERENCE) / TICK)
        arrivals = [None if index < lost else tick for index in range(count)]
        told = TransportFeedback(1, 1, base, reference, 0, tuple(arrivals)).serialise()
        await self.watched.say(Unknown(TRANSPORT_FEEDBACK, TWCC_FORMAT, told[4:]))

    @property
    def came(self) -> int:
        """Feedbacks that came to Python."""
        return sum(data[1] == TRANSPORT_FEEDBACK for data in self.watched.came)


@asynccontextmanager
async def answering(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Answering]:
    monkeypatch.setattr(nat, "Offering", Numbered)
    async with playing(egress), watching(peers, mine, egress) as watched:
        log = watched.session.viewer.link.log
        assert log is not None
        made = Answering(watched, log)
        for count in (1, 2, 3):  # the link is not known before
            await made.tell()
            assert made.came == count
        yield made


async def test_while_all_is_well_python_looks_once_a_second(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(peers, mine, egress, monkeypatch) as viewer:
        link = viewer.watched.session.viewer.link
        for _ in range(4):
            link.well_until = time.monotonic() + 60
            viewer.watched.session.attend()
            await viewer.tell()
        assert viewer.came == 3
        link.well_until = 0.0
        viewer.watched.session.attend()
        await viewer.tell()
        assert viewer.came == 4
        assert link.well_until > time.monotonic()


@pytest.mark.parametrize("what", [{"late": 0.08}, {"lost": 3}], ids=["a queue", "a loss"])
async def test_what_is_not_well_is_read_at_once(
    peers: Peers,
    mine: Peers,
    egress: Egress,
    monkeypatch: pytest.MonkeyPatch,
    what: dict[str, Any],
) -> None:
    async with answering(peers, mine, egress, monkeypatch) as viewer:
        link = viewer.watched.session.viewer.link
        link.well_until = time.monotonic() + 60
        viewer.watched.session.attend()
        await viewer.tell()
        assert viewer.came == 3
        await viewer.tell(**what)
        assert viewer.came == 4
        if "late" in what:
            assert link.estimator.queue == pytest.approx(0.08, abs=0.01)
            assert link.well_until <= time.monotonic()
        await viewer.tell(**what)  # and so is the next
        assert viewer.came == 5


async def test_of_packets_that_were_never_sent_native_code_makes_nothing(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(peers, mine, egress, monkeypatch) as viewer:
        link = viewer.watched.session.viewer.link
        link.well_until = time.monotonic() + 60
        viewer.watched.session.attend()
        await viewer.pause()
        viewer._next = (viewer._log.next + 30_000) & 0xFFFF
        told = TransportFeedback(1, 1, viewer._next, 5, 0, (1, 2, 3)).serialise()
        await viewer.watched.say(Unknown(TRANSPORT_FEEDBACK, TWCC_FORMAT, told[4:]))
        assert viewer.came == 4
