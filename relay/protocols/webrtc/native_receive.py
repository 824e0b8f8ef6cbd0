"""The native part of receiving: one call a wake-up of the socket (``native/receive.c``).

It does the common case, a publisher's video in order, from datagrams to access units; all
else comes up as it was read. Where the library is missing, Python does all of it.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Protocol

from relay.protocols.webrtc import native_library
from relay.protocols.webrtc.budget import BURST, RATE
from relay.protocols.webrtc.datagrams import packed, unpacked
from relay.protocols.webrtc.dtls import NativeKeys, protect_pointer
from relay.protocols.webrtc.h264_payload import Assembled
from relay.protocols.webrtc.native_viewer import NativeViewer
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.peer_state import PeerStatistics
from relay.protocols.webrtc.picture import Run
from relay.protocols.webrtc.receive import VideoReceiver
from relay.protocols.webrtc.stun import Address

_MAX_NAMES: Final = 4096
_ARRIVAL: Final = struct.Struct("=dI4x")

# What an access unit holds (see ``Assembled``), and whether arrivals wait.
PARAMETERS, PICTURE, KEYFRAME, STARTS, ARRIVALS = 1, 2, 4, 8, 16


@cache
def _library() -> tuple[Any, Any] | None:
    return native_library.load("receive.h", "rx_stream")


class LaneOwner(Protocol):
    """What is told of a publisher's video."""

    def opened(self, packet: bytes, now: float) -> None:
        """One RTP packet in order, opened, its arrival noted: the native part goes no further."""

    def assembled(self, annexb: bytes, flags: int, timestamp: int, now: float) -> None:
        """One access unit; ``flags`` as above."""

    def counted(self, run: Run) -> None:
        """The packets of those since the last time."""

    def noted(self, now: float) -> None:
        """Arrivals wait in ``Lane.arrivals``: for long, or many."""


class _Nobody:
    """Whom a closed lane belongs to."""

    def opened(self, packet: bytes, now: float) -> None:
        return

    def assembled(self, annexb: bytes, flags: int, timestamp: int, now: float) -> None:
        return

    def counted(self, run: Run) -> None:
        return

    def noted(self, now: float) -> None:
        return


def unit_of(annexb: bytes, flags: int) -> Assembled:
    return Assembled(
        annexb,
        True,
        flags & PARAMETERS != 0,
        flags & PICTURE != 0,
        flags & KEYFRAME != 0,
        flags & STARTS != 0,
    )


class NativeReceiver:
    """Reads one UDP socket.

    Args:
        fd: of the socket; it stays the caller's, and open until ``close``.
        unprotect, unprotect_rtcp: addresses of functions like libsrtp's ``srtp_unprotect`` and
            ``srtp_unprotect_rtcp``; those by default.

    Raises:
        MemoryError.
    """

    def __init__(
        self,
        library: tuple[Any, Any],
        fd: int,
        unprotect: int | None = None,
        unprotect_rtcp: int | None = None,
    ) -> None:
        self.ffi, self.lib = library
        self._fd = fd
        rtp = protect_pointer("srtp_unprotect") if unprotect is None else unprotect
        rtcp = protect_pointer("srtp_unprotect_rtcp") if unprotect_rtcp is None else unprotect_rtcp
        doors = self.ffi.new("struct rx_doors *")
        doors.rtp = self.ffi.cast("rx_unprotect", rtp)
        doors.rtcp = self.ffi.cast("rx_unprotect", rtcp)
        made = self.lib.rx_new(fd, doors[0], secrets.randbits(64), RATE, BURST)
        if made == self.ffi.NULL:
            raise MemoryError("no memory for the native receiver")
        self.rx = self.ffi.gc(made, self.lib.rx_free)
        self._event = self.ffi.new("struct rx_event *")
        self.counts = self.lib.rx_count(self.rx)
        self._lanes: dict[int, Lane] = {}
        self._viewers: dict[int, NativeViewer] = {}
        self._number = 0
        self._names: dict[bytes, Address] = {}
        self._open = True

    @classmethod
    def over(cls, fd: int) -> NativeReceiver | None:
        """A receiver where the native part is built, else None."""
        library = _library()
        return cls(library, fd) if library is not None else None

    def watch(self) -> int:
        """The descriptor that tells when to ``read``, until ``close``: not the socket's own
        where the rest of a picture that has begun can be waited for."""
        watched: int = self.lib.rx_watch(self.rx)
        return watched if watched >= 0 else self._fd

    def read(self, datagram: Callable[[bytes, Address, float], None], now: float) -> int:
        """Deal with a bounded batch; ``datagram`` takes what is not the common case.

        Returns:
            How many datagrams there were.
        """
        event = self._event
        kind = self.lib.rx_wake(self.rx, now, event)
        count: int = event.read
        if kind:
            self._deal(kind, datagram)
        return count

    def put(
        self,
        data: bytes,
        address: Address,
        datagram: Callable[[bytes, Address, float], None],
        now: float,
    ) -> None:
        """Deal with one that somebody else has read."""
        raw = packed(address)
        self.lib.rx_put(self.rx, data, len(data), raw, len(raw), now)
        self._deal(self.lib.rx_next(self.rx, self._event), datagram)

    def _deal(self, kind: int, datagram: Callable[[bytes, Address, float], None]) -> None:
        ffi, lib, rx, event = self.ffi, self.lib, self.rx, self._event
        while kind:
            if kind == 3:
                self._lanes[event.number].unit(event)
            elif kind == 1:
                data = bytes(ffi.buffer(event.data, event.length))
                datagram(data, self._name(event), event.arrival)
            elif kind == 5:
                packet = ffi.buffer(event.data, event.length)[:]
                self._viewers[event.viewer.number].said(packet, event.arrival)
            else:
                lane = self._lanes[event.number]
                if kind == 2:
                    lane.flush()
                else:
                    lane.noted(event.arrival)
            if not self._open:
                break
            kind = lib.rx_next(rx, event)

    def unwrap(self, out: int) -> None:
        """What is read was handed on by another process; answers leave by ``out``."""
        self.lib.rx_unwrap(self.rx, out)

    def place(self, address: Address, fd: int) -> Any:
        """Hand what comes from there on to another process, by ``fd``, until ``displace``.

        Returns:
            A ``struct rx_far``; None where there is no room.
        """
        raw = packed(address)
        made = self.lib.rx_place(self.rx, fd, raw, len(raw))
        return None if made == self.ffi.NULL else made

    def displace(self, far: Any) -> None:
        self.lib.rx_displace(self.rx, far)

    def answers(self) -> tuple[int, int]:
        """Answers to viewers' checks since the last call: sent, and that could not be."""
        counts = self.counts
        if not counts.sent and not counts.unsent:
            return 0, 0
        found = (counts.sent, counts.unsent)
        counts.sent = counts.unsent = 0
        return found

    def _name(self, event: Any) -> Address:
        """The source of a datagram, as ``DatagramReader`` names it."""
        raw = bytes(self.ffi.buffer(event.address, event.address_length))
        name = self._names.get(raw)
        if name is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            name = self._names[raw] = unpacked(raw)
        return name

    def lane(
        self, keys: NativeKeys, payload_type: int, extension: int | None, owner: LaneOwner
    ) -> Lane:
        """
        Args:
            extension: identifier of the transport-wide sequence number.

        Raises:
            MemoryError.
        """
        self._number += 1
        lane = Lane(self, self._number, keys, payload_type, extension or 0, owner)
        self._lanes[self._number] = lane
        return lane

    def admit(self, viewer: NativeViewer) -> int:
        """Have a number for it; ``dropped`` ends that."""
        self._number += 1
        self._viewers[self._number] = viewer
        return self._number

    def dropped(self, number: int) -> None:
        self._lanes.pop(number, None)
        self._viewers.pop(number, None)

    def forget(self, address: Address) -> None:
        """Nothing from that address is the common case any more."""
        raw = packed(address)
        self.lib.rx_forget(self.rx, raw, len(raw))

    def close(self) -> None:
        self._open = False
        self.lib.rx_unwatch(self.rx)


class Lane:
    """One publisher's video: in native hands as long as all is in order.

    Attributes:
        path: where it comes from; its ``seen`` is kept.
        ssrc: of its packets, 4 bytes.
    """

    def __init__(
        self,
        receiver: NativeReceiver,
        number: int,
        keys: NativeKeys,
        payload_type: int,
        extension: int,
        owner: LaneOwner,
    ) -> None:
        self._receiver = receiver
        self._number = number
        self._keys = keys  # held as long as the native part may use them
        self._owner: LaneOwner = owner
        self.path: Path | None = None
        self.ssrc = b""
        srtp = receiver.ffi.cast("void *", keys.pointer)
        made = receiver.lib.rx_open(receiver.rx, srtp, payload_type, extension, number)
        if made == receiver.ffi.NULL:
            raise MemoryError("no memory for a native stream")
        self._stream: Any = made

    @property
    def active(self) -> bool:
        return self._stream is not None and bool(self._stream.active)

    def resume(self, path: Path, video: VideoReceiver) -> None:
        """Take over from where ``video`` is, if nothing is missing there."""
        stream, receiver, sequence = self._stream, self._receiver, video.to_come
        if stream is None or sequence is None or video.ssrc is None:
            return
        self.path, self.ssrc = path, video.ssrc.to_bytes(4, "big")
        stream.jitter, (stream.measured, stream.measured_at) = video.measured
        raw = packed(path.address)
        receiver.lib.rx_resume(receiver.rx, stream, raw, len(raw), video.ssrc, sequence)

    def flush(self) -> None:
        """Hand what is half done over to the owner; it is not ours any more until ``resume``."""
        stream, ffi = self._stream, self._receiver.ffi
        if stream is None:
            return
        self._receiver.lib.rx_pause(stream)
        self.tell()
        whole = bytes(ffi.buffer(stream.bytes, stream.used)) if stream.packets else b""
        train = [
            (whole[packet.start : packet.start + packet.length], packet.arrival)
            for packet in (stream.train[at] for at in range(stream.packets))
        ]
        self._receiver.lib.rx_clear(stream)
        if stream.arrivals:  # those that Python notes itself come after them
            self._owner.noted(stream.log[stream.arrivals - 1].at)
        for packet, arrival in train:
            self._heard(arrival)
            self._owner.opened(packet, arrival)

    def unit(self, event: Any) -> None:
        now, path = event.arrival, self.path
        if path is not None:
            path.seen, path.lost = now, False
        annexb = self._receiver.ffi.buffer(event.data, event.length)[:]
        self._owner.assembled(annexb, event.flags, event.timestamp, now)

    def tell(self) -> None:
        """Have the owner count the packets of whole access units since the last time."""
        stream = self._stream
        if stream is not None and stream.joined:
            packets, octets = stream.joined, stream.octets
            stream.joined = stream.octets = 0
            measured = (stream.measured, stream.measured_at)
            self._owner.counted(Run(packets, octets, stream.jitter, measured))

    def noted(self, now: float) -> None:
        self._heard(now)
        self._owner.noted(now)

    def arrivals(self) -> list[tuple[float, int]]:
        """Arrival and transport-wide sequence number of each packet since the last call."""
        stream = self._stream
        if stream is None or not stream.arrivals:
            return []
        size = _ARRIVAL.size * stream.arrivals
        noted = list(_ARRIVAL.iter_unpack(self._receiver.ffi.buffer(stream.log, size)))
        stream.arrivals = 0
        return noted

    def count(self, statistics: PeerStatistics) -> None:
        """Add what came to nothing since the last call."""
        if (stream := self._stream) is not None:
            statistics.refused += stream.refused
            statistics.limited += stream.route.limited
            stream.refused = stream.route.limited = 0

    def _heard(self, now: float) -> None:
        if self.path is not None:
            self.path.seen, self.path.lost = now, False

    def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._receiver.lib.rx_close(self._receiver.rx, stream)
            self._receiver.dropped(self._number)
            self._owner = _Nobody()  # who holds the lane
