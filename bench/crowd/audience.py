"""The receiving process: viewers with real ICE, DTLS and SRTP, their media drained by C.

Once a viewer is connected its socket is read by the C loop. What is not media comes back
here, so that consent lives on and reports are answered; feedback leaves through each
viewer's own keys.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from math import floor
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.crowd.built import door
from bench.numbers import offer_numbers
from bench.servers import LOOPBACK
from relay.protocols.webrtc.congestion import MAX_STATUSES, TICK, TransportFeedback
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import (
    Nack,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    compound,
    parse_compound,
)

CONNECT_TIMEOUT: Final = 30.0
AT_ONCE: Final = 8
REPORTS: Final = 1.0
"""Seconds between two receiver reports of a viewer."""
NACK_EVERY: Final = 5
"""Reports of which one asks for a packet again."""
STEPS: Final = 50
"""Parts of a second in which reports leave: a part of the viewers each."""
FEEDBACK: Final = 5
"""Of these steps each viewer tells once of transport-wide numbers: ten times a second, as
Chromium does."""
MAX_RETURNED: Final = 64
SPREAD: Final = 0.05
"""Seconds before the newest packet in which the others of a feedback are said to have come."""
REFERENCE: Final = 0.064
NO_SOUND: Final = 255
"""No payload type."""

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
        transport_wide: offer transport-wide numbers; ``send_numbers`` tells of them.
        sound: ask for it too.

    Attributes:
        seat: what the C loop counts of it.
        resent_asked: packets that it asked for again.
    """

    def __init__(
        self, peers: Peers, seat: Any, *, transport_wide: bool = False, sound: bool = False
    ) -> None:
        self.peers = peers
        self.seat = seat
        self.resent_asked = 0
        self.offering = Offering(peers, send=False, audio=sound)
        if transport_wide:
            offer_numbers(self.offering)
        self.peer = self.offering.peer
        self.peer.on_rtcp = self._on_rtcp
        self.peer.on_state = self._on_state
        self._changed = asyncio.Event()
        self._report = (0, 0.0)  # the middle of its NTP time, and when it came
        self._reports = 0
        self._told = (0, 0)  # the last number that was told of, and how many feedbacks
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

    def hand_over(self) -> int:
        """Read the socket no more; returns its descriptor."""
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
                self._report = (packet.ntp >> 16 & 0xFFFFFFFF, now)

    def send_feedback(self, now: float) -> None:
        """A receiver report; now and then a NACK of a packet that came not long ago."""
        seat, video = self.seat, self.peer.video
        if not seat.started or video is None:
            return
        last, at = self._report
        delay = round((now - at) * 65536) if last else 0
        block = ReportBlock(seat.ssrc, 0, 0, seat.highest, 30, last, delay)
        packets: list[Any] = [ReceiverReport(video.ssrc, (block,))]
        self._reports += 1
        if self._reports % NACK_EVERY == 0:
            self.resent_asked += 1
            packets.append(Nack(video.ssrc, seat.ssrc, (seat.highest - 20 & 0xFFFF,)))
        self.peer.send_rtcp(compound(packets))

    def send_numbers(self) -> None:
        """Transport-wide feedback of all that came since the last one. The arrival of the
        newest packet is its own; the others lie evenly before it."""
        newest, at = int(self.seat.numbered), self.seat.numbered_at / 1e9
        last, count = self._told
        number = min(newest - last, MAX_STATUSES)
        if number <= 0 or self.peer.video is None:
            return
        self._told = (newest, count + 1)
        began = at - SPREAD
        reference = floor(began / REFERENCE)
        first = began - reference * REFERENCE
        arrivals = tuple(
            round((first + SPREAD * (index + 1) / number) / TICK) for index in range(number)
        )
        ssrc, base = self.peer.video.ssrc, newest - number + 1 & 0xFFFF
        told = TransportFeedback(ssrc, self.seat.ssrc, base, reference, count, arrivals)
        self.peer.send_rtcp(told.serialise())


class Audience:
    """Viewers of one URL.

    Args:
        size: the most that there will be.
        transport_wide: as for ``Watcher``.
        feedback: send feedback of those numbers, too.
        sound: as for ``Watcher``.
    """

    def __init__(
        self,
        library: Path,
        size: int,
        *,
        transport_wide: bool = False,
        feedback: bool = False,
        sound: bool = True,
    ) -> None:
        self._sound = sound
        self._transport_wide = transport_wide or feedback
        self._feedback = feedback
        self.watchers: list[Watcher] = []
        self._by_index: dict[int, Watcher] = {}
        self.ffi, self._lib = door(library)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._returned, self._back = ours, theirs
        self._returned.setblocking(False)
        self._size = size
        self.room = self._lib.room_new(size, theirs.fileno())
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
        watcher.seat.sound_type = NO_SOUND if sound is None else sound.payload_type
        descriptor = watcher.hand_over()
        watcher.seat.fd = descriptor
        self.watchers.append(watcher)
        self._by_index[index] = watcher
        status = self._lib.room_open(self.room, index, descriptor, video.payload_type)
        if status:
            raise OSError(status, "a viewer's socket cannot be drained")

    def _take_back(self) -> None:
        for _ in range(MAX_RETURNED):
            try:
                data = self._returned.recv(4096)
            except BlockingIOError:
                return
            watcher = self._by_index.get(int.from_bytes(data[:4], sys.byteorder))
            if watcher is not None and len(data) > 4:
                watcher.returned(data[4:])

    async def _report(self) -> None:
        """Each viewer's feedback, spread over the second."""
        step = 0
        while True:
            await asyncio.sleep(REPORTS / STEPS)
            step = (step + 1) % STEPS
            now = time.monotonic()
            for watcher in self.watchers[step::STEPS]:
                watcher.send_feedback(now)
            if self._feedback:
                for watcher in self.watchers[step % FEEDBACK :: FEEDBACK]:
                    watcher.send_numbers()

    # -- what came

    def align(self, offsets: dict[int, int]) -> None:
        """Tell the viewers' frames from one another.

        Args:
            offsets: for each SSRC that of its timestamps to the rendition's line.
        """
        for watcher in self.watchers:
            if watcher.seat.started:
                watcher.seat.offset = offsets[watcher.seat.ssrc]
                watcher.seat.aligned = 1

    def started(self) -> int:
        """Viewers that media has come to."""
        return sum(bool(watcher.seat.started) for watcher in self.watchers)

    def counts(self) -> list[tuple[int, int]]:
        """For each viewer its extended highest sequence number, and its packets so far."""
        return [(watcher.seat.highest, watcher.seat.received) for watcher in self.watchers]

    def resent(self) -> tuple[int, int]:
        """Retransmissions that were asked for, and that came."""
        asked = sum(watcher.resent_asked for watcher in self.watchers)
        return asked, sum(watcher.seat.resent for watcher in self.watchers)

    def lags(self, timestamps: range) -> list[float]:
        """Seconds from a frame's end at its first viewer to its end at its last one.

        Frames that one in twenty viewers or more did not get whole are left out.
        """
        found = []
        for timestamp in timestamps:
            arrival = self._lib.room_arrival(self.room, timestamp)
            if arrival.timestamp == timestamp and arrival.viewers >= 0.95 * len(self.watchers):
                found.append((arrival.last - arrival.first) / 1e9)
        return found

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
