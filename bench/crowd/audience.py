"""The receiving process: viewers with real ICE, DTLS and SRTP, their media drained by C.

Once a viewer is connected its socket is read by the C loop. What is not media comes back
here, so that consent lives on and reports are answered. What it tells is what the C loop saw: a
report of its picture each second and one of its sound each fifth, as Chromium does; feedback of
transport-wide numbers ten times a second, where that is asked for; and a NACK when a number is
missing. For there to be any, each viewer throws one packet of its picture in a thousand away.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.crowd.built import door
from bench.crowd.telling import Numbers, Reception
from bench.numbers import offer_numbers
from bench.servers import LOOPBACK
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import (
    Nack,
    ReceiverReport,
    SenderReport,
    parse_compound,
)

CONNECT_TIMEOUT: Final = 30.0
AT_ONCE: Final = 8
REPORTS: Final = 1.0
"""Seconds between two receiver reports of a viewer."""
SOUND_EVERY: Final = 5
"""Reports of the picture beside which one of the sound leaves."""
THROWN: Final = 1000
"""Packets of a viewer's picture of which it throws one away, and asks for it again."""
STEPS: Final = 50
"""Parts of a second in which reports leave: a part of the viewers each."""
FEEDBACK: Final = 5
"""Of these steps each viewer tells once of transport-wide numbers: ten times a second, as
Chromium does."""
MAX_RETURNED: Final = 64
NO_SOUND: Final = 255
"""No payload type."""
ASK: Final = 255
"""Of what the C loop hands back: numbers that are missing, as in ``crowd.h``."""
MOST_NUMBERS: Final = 1 << 15
"""Sequence numbers that can be told apart."""

PATIENT: Final = LOOPBACK.model_copy(update={"consent_timeout": 60.0, "native": False})
"""The limit answers nobody for whole windows: the sender is not given up for that. Native
receiving reads the socket itself, where the C loop is to."""


class _Tap:
    """Stands in for the reader of a viewer's port: gives what the C loop handed back."""

    def __init__(self, source: tuple[Any, ...]) -> None:
        self._source = source
        self.returned: deque[bytes] = deque(maxlen=MAX_RETURNED)

    def read(self) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
        while self.returned:
            yield self.returned.popleft(), self._source


class Watcher:
    """One viewer.

    Args:
        transport_wide: offer transport-wide numbers; ``tell_numbers`` tells of them.
        sound: ask for it too.

    Attributes:
        seat: what the C loop counts of it.
        asked: packets that it asked for again.
    """

    def __init__(
        self, peers: Peers, seat: Any, *, transport_wide: bool = False, sound: bool = False
    ) -> None:
        self.peers = peers
        self.seat = seat
        self.asked = 0
        self.offering = Offering(peers, send=False, audio=sound)
        if transport_wide:
            offer_numbers(self.offering)
        self.peer = self.offering.peer
        self.peer.on_rtcp = self._on_rtcp
        self.peer.on_state = self._on_state
        self._changed = asyncio.Event()
        self._clocks: dict[int, tuple[int, float]] = {}  # middle of its NTP time, when it came
        self._reports = 0
        self._flows: list[tuple[int, Any, Reception]] = []  # picture, sound: whose report it is
        self._numbers: Numbers | None = None
        self._tap: _Tap | None = None

    async def connect(self, http: aiohttp.ClientSession, url: str) -> None:
        headers = {"Content-Type": "application/sdp"}
        async with http.post(url, data=self.offering.text, headers=headers) as response:
            answer = await response.text()
            if response.status != 201:
                raise RuntimeError(f"{url}: {response.status} {answer}")
        self.offering.accept(answer)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await self._changed.wait()
        if self.peer.state is not PeerState.CONNECTED:
            raise RuntimeError(f"a viewer was not connected: {self.peer.close_reason}")

    def hand_over(self, read_at: memoryview) -> int:
        """Read the socket no more; returns its descriptor.

        Args:
            read_at: of its seat.
        """
        self._numbers = Numbers(read_at)
        for track, flow in ((self.peer.video, "video"), (self.peer.audio, "sound")):
            if track is not None:
                counted = getattr(self.seat, flow)
                self._flows.append((track.ssrc, counted, Reception(counted)))
        udp = self.peers.udp
        asyncio.get_running_loop().remove_reader(udp.fileno())
        assert self.peer.address is not None
        self._tap = _Tap(self.peer.address)
        udp._datagrams = self._tap  # type: ignore[assignment]
        return udp.fileno()

    def returned(self, datagram: bytes) -> None:
        assert self._tap is not None
        self._tap.returned.append(datagram)
        self.peers.udp._read()

    def _on_state(self, _: PeerState) -> None:
        self._changed.set()

    def _on_rtcp(self, data: bytes, now: float) -> None:
        for packet in parse_compound(data):
            if isinstance(packet, SenderReport):
                self._clocks[packet.ssrc] = (packet.ntp >> 16 & 0xFFFFFFFF, now)

    def report(self, now: float) -> None:
        """A receiver report of the picture; with every fifth another of the sound."""
        sound_too = self._reports % SOUND_EVERY == 0
        self._reports += 1
        for ours, flow, reception in self._flows if sound_too else self._flows[:1]:
            if flow.started:
                last, at = self._clocks.get(flow.ssrc, (0, now))
                block = reception.block(last, now - at)
                self.peer.send_rtcp(ReceiverReport(ours, (block,)).serialise())

    def ask(self, numbers: tuple[int, ...]) -> None:
        """Ask for packets of the picture again, once."""
        ours, flow, _ = self._flows[0]
        self.asked += len(numbers)
        self.peer.send_rtcp(Nack(ours, flow.ssrc, numbers).serialise())

    def tell_numbers(self) -> None:
        """Transport-wide feedback of all that came since the last one."""
        assert self._numbers is not None
        ours, flow, _ = self._flows[0]
        told = self._numbers.told(int(self.seat.numbered), ours, flow.ssrc)
        if told is not None:
            self.peer.send_rtcp(told.serialise())


class Audience:
    """Viewers of one URL.

    Args:
        size: the most that there will be.
        transport_wide: as for ``Watcher``.
        feedback: send feedback of those numbers, too.
        sound: as for ``Watcher``.
        thrown: one packet of a picture in so many is thrown away; 0: none.

    Attributes:
        quiet: they tell nothing; while it is set.
    """

    def __init__(
        self,
        library: Path,
        size: int,
        *,
        transport_wide: bool = False,
        feedback: bool = False,
        sound: bool = True,
        thrown: int = THROWN,
    ) -> None:
        self._sound = sound
        self._transport_wide = transport_wide or feedback
        self._feedback = feedback
        self.quiet = False
        self.watchers: list[Watcher] = []
        self._by_index: dict[int, Watcher] = {}
        self.ffi, self._lib = door(library)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._returned, self._back = ours, theirs
        self._returned.setblocking(False)
        self._size = size
        self.room = self._lib.room_new(size, theirs.fileno(), thrown)
        if self.room == self.ffi.NULL:
            raise MemoryError("no room for the viewers")
        self._thread = threading.Thread(target=self._lib.room_drain, args=(self.room,))
        self._thread.start()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._take_back)
        self._reporting = asyncio.create_task(self._report())

    async def join(self, url: str) -> None:
        """Connect everybody, some at a time."""
        places = asyncio.Semaphore(AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT)
        said = time.monotonic()

        async with aiohttp.ClientSession(timeout=timeout) as http:

            async def one(index: int) -> None:
                nonlocal said
                async with places:
                    peers = await Peers.open(PATIENT)
                    seat = self._lib.room_seat(self.room, index)
                    watcher = Watcher(
                        peers, seat, transport_wide=self._transport_wide, sound=self._sound
                    )
                    await watcher.connect(http, url)
                    self._seat(index, watcher)
                if time.monotonic() - said > 5:
                    said = time.monotonic()
                    print(f"  {len(self.watchers)} of {self._size} joined", file=sys.stderr)

            async with asyncio.TaskGroup() as group:
                for index in range(self._size):
                    group.create_task(one(index))

    def _seat(self, index: int, watcher: Watcher) -> None:
        video, sound = watcher.peer.video, watcher.peer.audio
        if video is None or (self._sound and sound is None):
            raise RuntimeError("the answer has no video, or no sound that was asked for")
        sound_type = NO_SOUND if sound is None else sound.payload_type
        read_at = memoryview(self.ffi.buffer(watcher.seat.read_at)).cast("I")
        descriptor = watcher.hand_over(read_at)
        watcher.seat.fd = descriptor
        self.watchers.append(watcher)
        self._by_index[index] = watcher
        status = self._lib.room_open(self.room, index, descriptor, video.payload_type, sound_type)
        if status:
            raise OSError(status, "a viewer's socket cannot be drained")

    def _take_back(self) -> None:
        for _ in range(MAX_RETURNED):
            try:
                data = self._returned.recv(4096)
            except BlockingIOError:
                return
            watcher = self._by_index.get(int.from_bytes(data[:4], sys.byteorder))
            if watcher is None or len(data) <= 4:
                continue
            if data[4] == ASK:
                watcher.ask(tuple(memoryview(data[5:]).cast("H")))
            else:
                watcher.returned(data[4:])

    async def _report(self) -> None:
        """Each viewer's feedback, spread over the second."""
        step = 0
        while True:
            await asyncio.sleep(REPORTS / STEPS)
            step = (step + 1) % STEPS
            if self.quiet:
                continue
            now = time.monotonic()
            for watcher in self.watchers[step::STEPS]:
                watcher.report(now)
            if self._feedback:
                for watcher in self.watchers[step % FEEDBACK :: FEEDBACK]:
                    watcher.tell_numbers()

    # -- what came

    def align(self, offsets: dict[int, int]) -> None:
        """Tell the viewers' frames from one another.

        Args:
            offsets: for each SSRC that of its timestamps to the rendition's line.
        """
        for watcher in self.watchers:
            if watcher.seat.video.started:
                watcher.seat.offset = offsets[watcher.seat.video.ssrc]
                watcher.seat.aligned = 1

    def started(self) -> int:
        """Viewers that media has come to."""
        return sum(bool(watcher.seat.video.started) for watcher in self.watchers)

    def counts(self) -> list[tuple[int, int]]:
        """For each viewer the extended highest sequence number of its picture, and packets of it
        so far: that came, whether it threw them away or not."""
        return [(w.seat.video.reached, w.seat.video.came) for w in self.watchers]

    def came(self, sent: Mapping[int, tuple[int, int]]) -> list[int]:
        """For each viewer how many packets came of those that were sent to it.

        Args:
            sent: for each SSRC the first sequence number, and how many.

        Raises:
            ValueError: more than sequence numbers can tell apart.
        """
        if any(count >= MOST_NUMBERS for _, count in sent.values()):
            raise ValueError("too many packets for one window: make it shorter")
        return [
            sum(
                self._lib.room_came(self.ffi.addressof(flow), *sent.get(flow.ssrc, (0, 0)))
                for flow in (watcher.seat.video, watcher.seat.sound)
            )
            for watcher in self.watchers
        ]

    def packets(self) -> int:
        """All RTP packets that were read."""
        seats = [watcher.seat for watcher in self.watchers]
        return sum(seat.video.came + seat.sound.came + seat.resent for seat in seats)

    def resent(self) -> tuple[int, int]:
        """Packets that were asked for again, and that came again."""
        asked = sum(watcher.asked for watcher in self.watchers)
        return asked, sum(watcher.seat.resent for watcher in self.watchers)

    def lags(self, timestamps: range) -> tuple[list[float], int]:
        """Seconds from a frame's end at its first viewer to its end at its last one, of those
        that it came to; and how many frames did not come to all."""
        found, dropped = [], 0
        for timestamp in timestamps:
            arrival = self._lib.room_arrival(self.room, timestamp)
            viewers = arrival.viewers if arrival.timestamp == timestamp else 0
            dropped += viewers < len(self.watchers)
            if viewers:
                found.append((arrival.last - arrival.first) / 1e9)
        return found, dropped

    async def close(self) -> None:
        self._reporting.cancel()
        await asyncio.gather(self._reporting, return_exceptions=True)
        self._lib.room_stop(self.room)
        await asyncio.to_thread(self._thread.join)
        asyncio.get_running_loop().remove_reader(self._returned.fileno())
        for watcher in self.watchers:
            await watcher.peers.close()
        self._returned.close()
        self._back.close()
        self._lib.room_free(self.room)
