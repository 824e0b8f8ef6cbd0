"""What the viewers of a crowd tell is what came to them."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from bench.crowd.built import build, door
from bench.crowd.telling import Numbers, Reception
from relay.protocols.webrtc.congestion import TransportFeedback
from relay.protocols.webrtc.rtcp import pack_packet
from tests.network import eventually

VIDEO: Final = 96
SOUND: Final = 111
MEDIA: Final = 0x1234
ASK: Final = 255


class Room:
    """One viewer's socket, drained by the C loop, and what is sent to it."""

    def __init__(self, library: Path, thrown: int) -> None:
        self.ffi, self.lib = door(library)
        self.back, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.back.setblocking(False)
        self._theirs = theirs
        self._viewer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._viewer.bind(("127.0.0.1", 0))
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._room = self.lib.room_new(1, theirs.fileno(), thrown)
        self._thread = threading.Thread(target=self.lib.room_drain, args=(self._room,))
        self._thread.start()
        assert self.lib.room_open(self._room, 0, self._viewer.fileno(), VIDEO, SOUND) == 0
        self.seat: Any = self.lib.room_seat(self._room, 0)
        self.sent = 0

    def send(self, sequence: int, *, number: int | None = None, kind: int = VIDEO) -> None:
        first = 0x80 if number is None else 0x90
        header = struct.pack("!BBHII", first, kind, sequence & 0xFFFF, 3000 * sequence, MEDIA)
        if number is not None:
            header += struct.pack("!HHBHB", 0xBEDE, 1, 0x41, number & 0xFFFF, 0)
        self._sender.sendto(header + bytes(100), self._viewer.getsockname())
        self.sent += 1

    async def read(self) -> None:
        """Until all is that was sent."""

        def all_() -> bool:
            seat = self.seat
            return bool(seat.video.came + seat.sound.came + seat.resent == self.sent)

        await eventually(all_)

    async def asked(self) -> list[int]:
        found: list[int] = []
        while True:
            try:
                data = self.back.recv(4096)
            except BlockingIOError:
                return found
            assert data[4] == ASK
            found += memoryview(data[5:]).cast("H")

    def came(self, first: int, count: int) -> int:
        flow = self.ffi.addressof(self.seat.video)
        return int(self.lib.room_came(flow, first & 0xFFFF, count))

    def close(self) -> None:
        self.lib.room_stop(self._room)
        self._thread.join()
        self.lib.room_free(self._room)
        for sock in (self.back, self._theirs, self._viewer, self._sender):
            sock.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("crowd"))


@pytest.fixture
def room(library: Path) -> Iterator[Room]:
    made = Room(library, 0)
    yield made
    made.close()


@pytest.mark.parametrize("first", [100, 65530])
async def test_missing_packets_are_asked_for_once_and_reported(room: Room, first: int) -> None:
    reception = Reception(room.seat.video)
    for at in (0, 1, 2, 5, 6, 9):
        room.send(first + at)
    await room.read()
    assert await room.asked() == [(first + at) & 0xFFFF for at in (3, 4, 7, 8)]
    block = reception.block(0, 0.0)
    assert block.lost == 4
    assert block.fraction_lost == 4 * 256 // 10
    assert block.highest & 0xFFFF == (first + 9) & 0xFFFF
    room.send(first + 10)
    await room.read()
    assert reception.block(0, 0.0).fraction_lost == 0
    assert await room.asked() == []


@pytest.mark.parametrize("first", [100, 65500])
async def test_what_was_sent_and_did_not_come_is_not_counted(room: Room, first: int) -> None:
    for at in range(100):
        if at % 10:
            room.send(first + at)
    await room.read()
    assert room.came(first, 100) == 90
    assert room.came(first, 50) == 45
    assert room.came(first, 150) == 90  # the last fifty were never sent
    room.send(first + 10)  # again, under its own number
    room.send(first + 11)
    await room.read()
    assert room.came(first, 100) == 91
    assert room.seat.resent == 1


async def test_a_viewer_that_got_nothing_got_none_of_what_was_sent(room: Room) -> None:
    assert room.came(0, 1000) == 0


async def test_what_is_thrown_away_is_missed_by_the_viewer_and_not_by_the_bench(
    library: Path,
) -> None:
    room = Room(library, 10)
    try:
        for at in range(500):
            room.send(at)
            if at % 50 == 0:
                await room.read()
        await room.read()
        thrown = room.seat.video.thrown
        assert 20 <= thrown <= 100
        assert room.came(0, 500) == 500
        asked = await room.asked()
        assert len(asked) == len(set(asked)) >= thrown - 1  # the last may be
        assert Reception(room.seat.video).block(0, 0.0).lost == len(asked)
    finally:
        room.close()


async def test_sound_is_counted_by_itself_and_never_asked_for(room: Room) -> None:
    for at in (0, 1, 5):
        room.send(at, kind=SOUND)
    await room.read()
    assert room.seat.sound.came == 3
    assert await room.asked() == []
    assert Reception(room.seat.sound).block(0, 0.0).lost == 3


@pytest.mark.parametrize("first", [500, 65534])
async def test_feedback_tells_the_numbers_that_came_and_those_that_did_not(
    room: Room, first: int
) -> None:
    numbers = Numbers(memoryview(room.ffi.buffer(room.seat.read_at)).cast("I"))
    assert numbers.told(room.seat.numbered, 1, MEDIA) is None
    room.send(0, number=first)
    await room.read()
    told = numbers.told(room.seat.numbered, 1, MEDIA)
    assert told is not None
    assert (told.base, len(told.arrivals), told.count) == (first, 1, 0)
    for at in (1, 2, 4, 7):
        room.send(at, number=first + at)
        await room.read()
        await asyncio.sleep(0.002)
    told = numbers.told(room.seat.numbered, 1, MEDIA)
    assert told is not None
    assert told.base == (first + 1) & 0xFFFF
    came = [arrival is not None for arrival in told.arrivals]
    assert came == [True, True, False, True, False, False, True]
    times = [arrival for arrival in told.arrivals if arrival is not None]
    assert all(b - a >= 4 for a, b in pairwise(times))  # a millisecond
    assert TransportFeedback.parse(told.serialise()[4:]) == told
    assert numbers.told(room.seat.numbered, 1, MEDIA) is None


async def test_what_is_no_media_comes_back_as_it_was(room: Room) -> None:
    report = pack_packet(200, 0, bytes(24))
    room._sender.sendto(report, room._viewer.getsockname())
    await eventually(lambda: room.seat.returned == 1)
    assert room.back.recv(4096)[4:] == report
