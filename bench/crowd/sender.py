"""The sending process: our Egress with its viewers, and the limit on the same socket.

``python -m bench.crowd.sender LIBRARY [--python]`` prints its address and serves until its
input ends. Beside WHEP it is told what to do:

- ``GET /tracks``: for each video SSRC its timestamps' offset to the rendition's line.
- ``POST /start``: send from now on.
- ``POST /window?seconds=S&batch=N&bare=1``: what S seconds cost. With ``batch`` the limit sends
  in them, N messages a call, in place of our Egress; with ``bare`` it sends no transport-wide
  numbers, and hears no feedback of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import resource
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from aiohttp import web

from bench.crowd.built import door
from bench.serving import created, serve
from bench.source import make_clip
from relay.config import WebRtc
from relay.media.unit import Codec
from relay.protocols.webrtc.dtls import protect_pointer
from relay.protocols.webrtc.egress import Egress, EgressSession
from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.native_track import NativeSendLog
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.sendlog import OVERHEAD, REMEMBERED

NAME: Final = "bench"
RATE: Final = 30
TICKS: Final = 90_000 // RATE
LAST: Final = 100
"""Packets of a viewer in half a second, which feedback may be about that comes later."""
TIMER: Final = 1e-3
"""Seconds, of which the loop's timers take whole ones."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a window cost.

    Attributes:
        cpu: seconds of this process, all threads.
        sending: of these in ``Egress.frame``, or in the limit.
        first, last: frames sent in it, half open.
        sent: packets of all viewers.
        heard: datagrams that came from them.
    """

    cpu: float
    sending: float
    wall: float
    first: int
    last: int
    sent: int
    heard: int


class Sender:
    """Our Egress, paced; or the limit in its place."""

    def __init__(self, peers: Peers, native: NativeSender | None, library: Path) -> None:
        self._peers = peers
        self.egress = Egress(peers, native)
        self.egress.open(NAME, on_keyframe_wanted=lambda: None)
        self._door = door(library)
        # Cut beforehand, for both: what is measured begins at payloads.
        self._clip = [
            (packetize(unit.payload), unit.keyframe) for unit in make_clip() if unit.is_video
        ]
        self._sessions: dict[str, EgressSession] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._frame = 0
        self._began = 0.0
        self._sending = 0.0

    # -- what it is told

    async def whep(self, request: web.Request) -> web.Response:
        session = await self.egress.answer(NAME, await request.text())
        self._sessions[session.id] = session
        return created(session.answer, session.id)

    def all_tracks(self) -> list[tuple[EgressSession, OutgoingTrack]]:
        """
        Raises: web.HTTPConflict, viewers were lost: a window would say nothing.
        """
        tracks = self.tracks()
        if len(tracks) < len(self._sessions):
            reasons = Counter(each.peer.close_reason for each in self._sessions.values())
            del reasons[""]
            raise web.HTTPConflict(text=f"viewers were lost: {dict(reasons)}")
        return tracks

    def tracks(self) -> list[tuple[EgressSession, OutgoingTrack]]:
        found = [(session, session.viewer.video) for session in self._sessions.values()]
        return [
            (session, track)
            for session, track in found
            if track is not None and session.peer.state is PeerState.CONNECTED
        ]

    async def offsets(self, _: web.Request) -> web.Response:
        return web.json_response({str(t.ssrc): t.offset for _, t in self.tracks()})

    async def start(self, _: web.Request) -> web.Response:
        if self._timer is None:
            self._began = time.monotonic()
            self._run()
        return web.Response()

    async def window(self, request: web.Request) -> web.Response:
        seconds = float(request.query["seconds"])
        batch = int(request.query.get("batch", 0))
        told = "bare" not in request.query
        return web.json_response(
            asdict(self._limit(seconds, batch, told) if batch else await self._ours(seconds))
        )

    # -- what it does

    def _run(self) -> None:
        """Send each frame when its time has come.

        The loop's timers go by the millisecond: one for the exact time would mostly be early, and
        turn the loop until it has come.
        """
        while (wait := self._began + self._frame / RATE - time.monotonic()) <= 0:
            payloads, keyframe = self._clip[self._frame % len(self._clip)]
            timestamp = self._frame * TICKS
            began = time.thread_time()
            self.egress.frame(NAME, Codec.H264, payloads, timestamp, keyframe=keyframe)
            self._sending += time.thread_time() - began
            self._frame += 1
        self._timer = asyncio.get_running_loop().call_later(wait + TIMER, self._run)

    async def _ours(self, seconds: float) -> Window:
        self._sending = 0.0
        tracks = self.all_tracks()
        first, before = self._frame, sum(track.packets for _, track in tracks)
        received = self._peers.udp.statistics.received
        cpu, began = _cpu(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu, wall = _cpu() - cpu, time.monotonic() - began
        self.all_tracks()
        sent = sum(track.packets for _, track in tracks) - before
        heard = self._peers.udp.statistics.received - received
        return Window(cpu, self._sending, wall, first, self._frame, sent, heard)

    def _limit(self, seconds: float, batch: int, told: bool) -> Window:
        """The C loop sends; nothing else in this process runs meanwhile.

        Args:
            told: where viewers expect transport-wide numbers they are sent them.
        """
        ffi, library = self._door
        tracks = self.all_tracks()
        targets = ffi.new("struct target[]", len(tracks))
        for target, (session, track) in zip(targets, tracks, strict=True):
            assert session.peer.sending is not None
            assert session.peer.address is not None
            target.srtp = ffi.cast("void *", session.peer.sending.pointer)
            target.address = ipaddress.IPv4Address(session.peer.address[0]).packed
            target.port = session.peer.address[1]
            target.sequence, target.payload_type = track.sequence, track.payload_type
            target.ssrc, target.offset = track.ssrc, track.offset
            if track.log is not None and told:
                target.numbers_id, target.number = track.log.identifier, track.log.next
        first, number = self._frame, round(seconds * RATE)
        held: list[Any] = []
        pictures = ffi.new("struct picture[]", number)
        for index, picture in enumerate(pictures):
            payloads, _ = self._clip[(first + index) % len(self._clip)]
            buffers = [ffi.from_buffer(payload) for payload in payloads]
            starts = ffi.new("uint8_t *[]", [ffi.cast("uint8_t *", b) for b in buffers])
            lengths = ffi.new("uint16_t[]", [len(payload) for payload in payloads])
            held.append((buffers, starts, lengths))
            picture.payloads, picture.lengths = starts, lengths
            picture.packets, picture.timestamp = len(payloads), (first + index) * TICKS
        counts = ffi.new("struct limit_counts *")
        protect = ffi.cast("protect_t", protect_pointer())
        # Making that took time: frames whose time has passed would leave in a burst.
        begin = max(self._began + first / RATE, time.monotonic() + 1e-3)
        self._began = begin - first / RATE
        descriptor = self._peers.udp.fileno()
        cpu, began = _cpu(), time.monotonic()
        status = library.limit_run(
            *(descriptor, protect, targets, len(tracks), pictures, number),
            *(begin, 1 / RATE, batch, counts),
        )
        cpu, wall = _cpu() - cpu, time.monotonic() - began
        if status:
            raise RuntimeError(f"the limit failed: {status}")
        sent = [
            (begin + index / RATE, length)
            for index, (_, _, lengths) in enumerate(held)
            for length in lengths
        ]
        for target, (_, track) in zip(targets, tracks, strict=True):
            track.sequence = target.sequence
            if isinstance(track.log, NativeSendLog) and told:
                _note(track.log, sent)
        self._frame += number
        return Window(cpu, cpu, wall, first, self._frame, counts.sent, counts.drained)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._peers.close()


def _note(log: NativeSendLog, sent: list[tuple[float, int]]) -> None:
    """Packets that the limit has sent, each with its time: feedback of the last ones is to come."""
    native = log.native
    native.octets += sum(length + OVERHEAD for _, length in sent[:-LAST])
    native.next += len(sent[:-LAST])
    for at, length in sent[-LAST:]:
        native.octets += length + OVERHEAD
        native.sent[native.next % REMEMBERED] = (at, native.octets)
        native.next += 1


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run(library: Path, *, python: bool) -> None:
    # The limit reads nothing for whole windows: viewers are not given up for that.
    peers = await Peers.open(WebRtc(host="127.0.0.1", port=0, consent_timeout=30))
    native = None if python else NativeSender.over(peers.udp.fileno(), peers.udp.count)
    if native is None and not python:
        raise RuntimeError("the native fan-out is not built: pip install -e . with a C compiler")
    sender = Sender(peers, native, library)
    # As the gateway does once it has started (relay/memory.py).
    gc.collect()
    gc.freeze()
    try:
        await serve(
            None,
            sender.whep,
            web.get("/tracks", sender.offsets),
            web.post("/start", sender.start),
            web.post("/window", sender.window),
        )
    finally:
        await sender.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    parser.add_argument("--python", action="store_true")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.library, python=arguments.python))


if __name__ == "__main__":
    main()
