"""The sending process: our Egress with its viewers, and the limit on the same socket.

``python -m bench.crowd.sender LIBRARY [--python] [--no-sound]`` prints its address and serves until
its input ends. Beside WHEP it is told what to do:

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from aiohttp import web

from bench.crowd.built import door
from bench.serving import created, serve
from bench.source import SECONDS, add_sound, make_clip
from relay.config import WebRtc
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.protocols.webrtc.egress import Egress, EgressSession
from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.native_fanout import NativeSender
from relay.protocols.webrtc.native_track import NativeSendLog
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.sendlog import OVERHEAD, REMEMBERED
from relay.protocols.webrtc.srtp import protect_pointer

NAME: Final = "bench"
RATE: Final = 30
TICKS: Final = VIDEO_CLOCK // RATE
SOUND_CLOCK: Final = 48_000
BEHIND: Final = 0.5
"""Seconds of what is due that are sent at once; the loop is to get its turn."""
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
        due: packets that each viewer was to get.
        sent_to: for each SSRC the first sequence number, and how many packets left.
    """

    cpu: float
    sending: float
    wall: float
    first: int
    last: int
    sent: int
    heard: int
    due: int
    sent_to: dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Cut:
    """An access unit of the clip, cut beforehand for both: what is measured begins at payloads.

    Attributes:
        at: seconds after the clip's beginning.
        timestamp: on the rendition's line, in the codec's clock.
    """

    codec: Codec
    payloads: Sequence[bytes]
    at: float
    timestamp: int
    keyframe: bool

    @classmethod
    def of(cls, unit: AccessUnit) -> Cut:
        video = unit.is_video
        payloads = packetize(unit.payload) if video else [unit.payload]
        clock = VIDEO_CLOCK if video else SOUND_CLOCK
        timestamp = unit.pts * clock // VIDEO_CLOCK
        return cls(unit.codec, payloads, unit.pts / VIDEO_CLOCK, timestamp, unit.keyframe)


class Sender:
    """Our Egress, paced; or the limit in its place."""

    def __init__(
        self, peers: Peers, native: NativeSender | None, library: Path, *, sound: bool
    ) -> None:
        self._peers = peers
        self.egress = Egress(peers, native)
        self.egress.open(NAME, on_keyframe_wanted=lambda: None)
        self._door = door(library)
        self._clip = [Cut.of(unit) for unit in make_clip(audio=sound)]
        self._sessions: dict[str, EgressSession] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0  # of the clip without end
        self._frame = 0
        self._began = 0.0
        self._sending = 0.0

    # -- what it is told

    async def whep(self, request: web.Request) -> web.Response:
        session = await self.egress.answer(NAME, await request.text())
        self._sessions[session.id] = session
        return created(session.answer, session.id)

    def all_sessions(self) -> list[EgressSession]:
        """
        Raises: web.HTTPConflict, viewers were lost: a window would say nothing.
        """
        found = self.connected()
        if len(found) < len(self._sessions):
            reasons = Counter(each.peer.close_reason for each in self._sessions.values())
            del reasons[""]
            raise web.HTTPConflict(text=f"viewers were lost: {dict(reasons)}")
        return found

    def connected(self) -> list[EgressSession]:
        return [
            session
            for session in self._sessions.values()
            if session.viewer.video is not None and session.peer.state is PeerState.CONNECTED
        ]

    async def offsets(self, _: web.Request) -> web.Response:
        videos = [session.viewer.video for session in self.connected()]
        return web.json_response({str(t.ssrc): t.offset for t in videos if t is not None})

    def _unit(self, index: int) -> tuple[Cut, float, int]:
        """One of the clip without end, when it is due, and its timestamp."""
        turn, place = divmod(index, len(self._clip))
        cut = self._clip[place]
        clock = VIDEO_CLOCK if cut.codec is Codec.H264 else SOUND_CLOCK
        return cut, cut.at + turn * SECONDS, cut.timestamp + turn * SECONDS * clock

    def _due(self, first: int, last: int) -> int:
        """Packets of the units between."""
        return sum(len(self._unit(index)[0].payloads) for index in range(first, last))

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
        """Send each unit when its time has come.

        The loop's timers go by the millisecond: one for the exact time would mostly be early, and
        turn the loop until it has come.
        """
        while True:
            cut, at, timestamp = self._unit(self._next)
            wait = self._began + at - time.monotonic()
            if wait > 0:
                break
            if wait < -BEHIND:  # a machine that is too busy: what it did not do is not made up for
                self._began -= wait
            began = time.thread_time()
            self.egress.frame(NAME, cut.codec, cut.payloads, timestamp, keyframe=cut.keyframe)
            self._sending += time.thread_time() - began
            self._next += 1
            self._frame += cut.codec is Codec.H264
        self._timer = asyncio.get_running_loop().call_later(wait + TIMER, self._run)

    async def _ours(self, seconds: float) -> Window:
        self._sending = 0.0
        sessions = self.all_sessions()
        tracks = [track for session in sessions for track in session.viewer.tracks]
        first, begun = self._frame, self._next
        before = {t.ssrc: (t.sequence, t.packets) for t in tracks}
        received = self._peers.udp.statistics.received
        cpu, began = _cpu(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu, wall = _cpu() - cpu, time.monotonic() - began
        self.all_sessions()
        sent_to = {t.ssrc: (before[t.ssrc][0], t.packets - before[t.ssrc][1]) for t in tracks}
        sent = sum(count for _, count in sent_to.values())
        heard = self._peers.udp.statistics.received - received
        due = self._due(begun, self._next)
        return Window(cpu, self._sending, wall, first, self._frame, sent, heard, due, sent_to)

    def _limit(self, seconds: float, batch: int, told: bool) -> Window:
        """The C loop sends; nothing else in this process runs meanwhile.

        Args:
            told: where viewers expect transport-wide numbers they are sent them.
        """
        ffi, library = self._door
        sessions = self.all_sessions()
        targets = ffi.new("struct target[]", len(sessions))
        for target, session in zip(targets, sessions, strict=True):
            _aim(ffi, target, session, told=told)
        first, begun = self._frame, self._next
        starts = self._unit(begun)[1]
        last = begun
        while self._unit(last)[1] < starts + seconds:
            last += 1
        held: list[Any] = []
        units = ffi.new("struct unit[]", last - begun)
        for index, unit in enumerate(units):
            cut, at, timestamp = self._unit(begun + index)
            buffers = [ffi.from_buffer(payload) for payload in cut.payloads]
            pointers = ffi.new("uint8_t *[]", [ffi.cast("uint8_t *", b) for b in buffers])
            lengths = ffi.new("uint16_t[]", [len(payload) for payload in cut.payloads])
            held.append((buffers, pointers, lengths))
            unit.payloads, unit.lengths, unit.packets = pointers, lengths, len(lengths)
            unit.timestamp = timestamp & 0xFFFFFFFF
            unit.at, unit.is_sound = at - starts, cut.codec is not Codec.H264
            self._frame += not unit.is_sound
        counts = ffi.new("struct limit_counts *")
        protect = ffi.cast("protect_t", protect_pointer())
        # Making that took time: units whose time has passed would leave in a burst.
        begin = max(self._began + starts, time.monotonic() + 1e-3)
        self._began = begin - starts
        descriptor = self._peers.udp.fileno()
        cpu, began = _cpu(), time.monotonic()
        status = library.limit_run(
            *(descriptor, protect, targets, len(targets), units, len(units)),
            *(begin, begin + seconds, batch, counts),
        )
        cpu, wall = _cpu() - cpu, time.monotonic() - began
        if status:
            raise RuntimeError(f"the limit failed: {status}")
        self._next = last
        sent = [
            (begin + unit.at, length)
            for unit, (_, _, lengths) in zip(units, held, strict=True)
            for length in lengths
        ]
        sent_to: dict[int, tuple[int, int]] = {}
        for target, session in zip(targets, sessions, strict=True):
            sent_to |= _take_over(target, session)
            log = session.viewer.link.log
            if isinstance(log, NativeSendLog) and told:
                _note(log, sent)
        due = self._due(begun, last)
        return Window(cpu, cpu, wall, first, self._frame, counts.sent, counts.drained, due, sent_to)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._peers.close()


def _aim(ffi: Any, target: Any, session: EgressSession, *, told: bool) -> None:
    """Have the limit go on where our Egress is."""
    assert session.peer.sending is not None
    assert session.peer.address is not None
    target.srtp = ffi.cast("void *", session.peer.sending.pointer)
    target.address = ipaddress.IPv4Address(session.peer.address[0]).packed
    target.port = session.peer.address[1]
    for flow, track in _flows(target, session):
        flow.sequence, flow.payload_type = track.sequence, track.payload_type
        flow.ssrc, flow.offset = track.ssrc, track.offset
        if track.log is not None and told:
            target.numbers_id, target.number = track.log.identifier, track.log.next


def _take_over(target: Any, session: EgressSession) -> dict[int, tuple[int, int]]:
    """Have our Egress go on where the limit is; what was sent, as in ``Window.sent_to``."""
    found = {}
    for flow, track in _flows(target, session):
        found[track.ssrc] = (track.sequence, (flow.sequence - track.sequence) & 0xFFFF)
        track.sequence = flow.sequence
    return found


def _flows(target: Any, session: EgressSession) -> list[tuple[Any, OutgoingTrack]]:
    viewer = session.viewer
    pairs = ((target.video, viewer.video), (target.sound, viewer.audio))
    return [(flow, track) for flow, track in pairs if track is not None]


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


async def run(library: Path, *, python: bool, sound: bool) -> None:
    # The limit reads nothing for whole windows: viewers are not given up for that.
    peers = await Peers.open(WebRtc(host="127.0.0.1", port=0, consent_timeout=30))
    native = None if python else NativeSender.over(peers.udp.fileno(), peers.udp.count)
    if native is None and not python:
        raise RuntimeError("the native fan-out is not built: pip install -e . with a C compiler")
    sender = Sender(peers, native, library, sound=sound)
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
    add_sound(parser)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.library, python=arguments.python, sound=arguments.sound))


if __name__ == "__main__":
    main()
