"""The native part of the fan-out: one call a frame for all viewers (``native/fanout.c``), and
one for the sender reports that are due.

Where it is missing, pure Python sends the same packets, at a fraction of the viewers a core.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from relay.protocols.webrtc import native_library
from relay.protocols.webrtc.datagrams import ours, sockaddr
from relay.protocols.webrtc.dtls import SrtpError, protect_pointer
from relay.protocols.webrtc.fanout import (
    MAX_PAYLOAD,
    MID_PACKETS,
    FanOut,
    OutgoingTrack,
    send_each,
)
from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.path import is_stream
from relay.protocols.webrtc.payloads import Payloads
from relay.protocols.webrtc.sendlog import OVERHEAD, REMEMBERED, SendLog

_TOGETHER: Final = 16
"""Tracks that lie side by side."""

_RANDOM: Final = 14
"""Bytes of a check of ours; as fanout.h has it."""

MAX_NAME: Final = 32
"""Bytes of the CNAME of a track."""


@cache
def _library() -> tuple[Any, Any] | None:
    return native_library.load("fanout.h", "fan_track")


class NativeSender:
    """Sends frames through one UDP socket.

    Args:
        fd: of the socket; it stays the caller's, and open as long as this is used.
        count: called now and then with the datagrams that were sent, and those that were not.
        protect, protect_rtcp: addresses of functions like libsrtp's ``srtp_protect`` and
            ``srtp_protect_rtcp``; those by default.

    Raises:
        MemoryError.
    """

    def __init__(
        self,
        library: tuple[Any, Any],
        fd: int,
        count: Callable[[int, int], None],
        protect: int | None = None,
        protect_rtcp: int | None = None,
    ) -> None:
        self.ffi, self._lib = library
        rtp = protect_pointer() if protect is None else protect
        rtcp = protect_pointer("srtp_protect_rtcp") if protect_rtcp is None else protect_rtcp
        cast = self.ffi.cast
        made = self._lib.fan_new(fd, cast("fan_protect", rtp), cast("fan_protect", rtcp))
        if made == self.ffi.NULL:
            raise MemoryError("no memory for the native fan-out")
        self._out = self.ffi.gc(made, self._lib.fan_free)
        self._counts = self.ffi.new("struct fan_counts *")
        self._send = self._lib.fan_payloads
        self._count = count
        self._fresh: list[tuple[Any, Any]] = []
        self.streamed: set[OutgoingTrack] = set()
        """Tracks of viewers that are reached by TCP: Python sends those."""

    @classmethod
    def over(cls, fd: int, count: Callable[[int, int], None]) -> NativeSender | None:
        """A sender where the native part is built, else None."""
        library = _library()
        return cls(library, fd, count) if library is not None else None

    def track(
        self,
        parameters: TrackParameters,
        outlet: Any,
        name: str = "",
        log: NativeSendLog | None = None,
    ) -> NativeTrack:
        """
        Args:
            name: the CNAME that its sender reports carry, of at most MAX_NAME bytes; "": none.
        """
        return NativeTrack(parameters, outlet, self, name.encode(), log)

    def log(self, identifier: int) -> NativeSendLog:
        return NativeSendLog(identifier, self)

    def new_track(self) -> tuple[Any, Any]:
        """A ``struct fan_track``, and what is to be held as long as it is used."""
        if not self._fresh:
            owner = self.ffi.new("struct fan_track[]", _TOGETHER)
            self._fresh = [(owner + at, owner) for at in range(_TOGETHER)]
        return self._fresh.pop()

    def new_log(self) -> Any:
        """
        Raises: MemoryError.
        """
        made = self._lib.fan_log_new()
        if made == self.ffi.NULL:
            raise MemoryError("no memory for a log of what is sent")
        return self.ffi.gc(made, self._lib.fan_log_free)

    def fan_out(self) -> NativeFanOut:
        return NativeFanOut(self)

    def send(
        self, tracks: Any, count: int, payloads: Sequence[bytes], timestamp: int, *, marker: bool
    ) -> int:
        """One frame to ``count`` tracks of the array; returns on how many SRTP failed.

        Raises:
            ValueError: a payload of more than MAX_PAYLOAD bytes.
        """
        if type(payloads) is Payloads:
            data, lengths = payloads.data, payloads.lengths
        else:
            if max(map(len, payloads)) > MAX_PAYLOAD:
                raise ValueError(f"a payload of more than {MAX_PAYLOAD} bytes")
            data, lengths = b"".join(payloads), array("H", map(len, payloads)).tobytes()
        out, packets, counts = self._out, len(lengths) // 2, self._counts
        ticks = timestamp & 0xFFFFFFFF
        failed: int = self._send(out, tracks, count, data, lengths, packets, ticks, marker, counts)
        return failed

    def tell(self) -> None:
        """Bring the port's counts up to date; ``report`` does it too."""
        counts = self._counts
        self._count(counts.sent, counts.unsent)
        counts.sent = counts.unsent = 0

    def gather(self, tracks: Sequence[OutgoingTrack]) -> Any:
        """Tracks as ``report`` takes them, to be used no longer than these are there; those of one
        viewer stand together."""
        natives = [track.native for track in tracks if isinstance(track, NativeTrack)]
        return self.ffi.new("struct fan_track *[]", natives)

    def report(self, gathered: Any, ntp: int, line_seconds: float) -> None:
        """A sender report of each track that has sent anything; see ``sender_report``.

        Where SRTCP fails nothing is sent: media fails there too, and that is what ends a viewer.
        """
        count = len(gathered)
        self._lib.fan_report(self._out, gathered, count, ntp, line_seconds, self._counts)
        self.tell()

    def ask(self, gathered: Any, now: float) -> list[int]:
        """Send the checks of ours that are due; see ``NativeViewer.ask_with``.

        Returns:
            Places of the tracks whose viewers have left the last one unanswered: it is for Python
            to ask those.
        """
        count = len(gathered)
        late = self.ffi.new("uint32_t[]", max(count, 1))
        random = os.urandom(_RANDOM * count)
        found = self._lib.fan_ask(self._out, gathered, count, random, now, late, self._counts)
        self.tell()
        return [late[at] for at in range(found)]


class NativeSendLog(SendLog):
    """A log that the native part writes; what Python sends is written here likewise."""

    __slots__ = ("_cast", "native")

    def __init__(self, identifier: int, sender: NativeSender) -> None:
        super().__init__(identifier)
        self.native = sender.new_log()
        self._cast = sender.ffi.cast
        assert len(self.native.sent) == REMEMBERED

    @property
    def pointer(self) -> int:
        """Its address, for other native code; good as long as this object is there."""
        return int(self._cast("uintptr_t", self.native))

    @property
    def next(self) -> int:
        return int(self.native.next) & 0xFFFF

    def take(self, payload: int) -> int:
        native = self.native
        number = int(native.next)
        native.next = number + 1
        native.octets += payload + OVERHEAD
        native.sent[number % REMEMBERED] = (self._clock(), native.octets)
        return number & 0xFFFF

    def find(self, number: int) -> tuple[float, int] | None:
        native = self.native
        count = int(native.next)
        back = (count - 1 - number) & 0xFFFF
        if back >= min(count, REMEMBERED):
            return None
        sent = native.sent[(count - 1 - back) % REMEMBERED]
        return sent.at, sent.octets


class NativeTrack(OutgoingTrack):
    """A track whose numbers the native part keeps."""

    __slots__ = ("_array", "_keys", "_owner", "_sender", "native")

    def __init__(
        self,
        parameters: TrackParameters,
        outlet: Any,
        sender: NativeSender,
        name: bytes = b"",
        log: NativeSendLog | None = None,
    ) -> None:
        self._sender = sender
        self._keys: Any = None
        self.native, self._owner = sender.new_track()
        self._array = sender.ffi.new("struct fan_track *[]", [self.native])
        super().__init__(parameters, outlet, log)
        native = self.native
        native.ssrc, native.payload_type = self.ssrc, self.payload_type
        native.offset = self.offset
        native.clock_rate = self.clock_rate
        if len(name) > MAX_NAME:
            raise ValueError(f"a name of more than {MAX_NAME} bytes")
        native.name_length = len(name)
        native.name[0 : len(name)] = name
        native.log = sender.ffi.NULL if log is None else log.native
        native.extension_packets = MID_PACKETS
        if self.extension:
            native.extension_length = len(self.extension)
            native.extension[0 : len(self.extension)] = self.extension

    # The class above keeps these as its own attributes.

    @property
    def sequence(self) -> int:
        return int(self.native.sequence)

    @sequence.setter
    def sequence(self, value: int) -> None:
        self.native.sequence = value

    @property
    def offset(self) -> int:
        return int(self.native.offset)

    @offset.setter
    def offset(self, value: int) -> None:
        self.native.offset = value

    @property
    def timestamp(self) -> int:
        return int(self.native.timestamp)

    @timestamp.setter
    def timestamp(self, value: int) -> None:
        self.native.timestamp = value & 0xFFFFFFFF

    @property
    def packets(self) -> int:
        return int(self.native.packets)

    @packets.setter
    def packets(self, value: int) -> None:
        self.native.packets = value

    @property
    def octets(self) -> int:
        return int(self.native.octets)

    @octets.setter
    def octets(self, value: int) -> None:
        self.native.octets = value

    def hear(self, consent: int) -> None:
        """Checks of ours, of the ``struct rx_consent`` at that address, go along; 0: no more."""
        self.native.consent = self._sender.ffi.cast("void *", consent)

    def route(self, keys: Any, address: tuple[Any, ...] | None) -> None:
        """
        Args:
            keys: what ``Srtp.sending`` is, held as long as the native part may use it.
            address: as the port names it; None: nowhere.
        """
        ffi, native = self._sender.ffi, self.native
        streamed = keys is not None and address is not None and is_stream(address)
        (self._sender.streamed.add if streamed else self._sender.streamed.discard)(self)
        if keys is None or address is None or streamed:
            native.srtp = ffi.NULL
            self._keys = None
            return
        raw, own = sockaddr(address), ours(address)
        native.address[0 : len(raw)] = raw
        native.address_length = len(raw)
        native.ours[0 : len(own)] = own
        native.ours_length = len(own)
        self._keys = keys
        native.srtp = ffi.cast("void *", keys.pointer)

    def send(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> None:
        if self in self._sender.streamed:
            super().send(payloads, timestamp, marker=marker)
        elif self._sender.send(self._array, 1, payloads, timestamp, marker=marker):
            raise SrtpError(f"srtp_protect: status {self.native.status}")


class NativeFanOut(FanOut):
    """One call a frame."""

    def __init__(self, sender: NativeSender) -> None:
        super().__init__()
        self._sender = sender
        self._array = sender.ffi.new("struct fan_track *[]", 1)
        self._members: frozenset[OutgoingTrack] = frozenset()

    def set(self, tracks: Sequence[OutgoingTrack]) -> None:
        super().set(tracks)
        natives = [track.native for track in tracks if isinstance(track, NativeTrack)]
        assert len(natives) == len(tracks)
        self._members = frozenset(tracks)
        self._array = self._sender.ffi.new("struct fan_track *[]", natives)

    def frame(
        self, payloads: Sequence[bytes], timestamp: int, *, marker: bool
    ) -> list[OutgoingTrack]:
        sender, tracks = self._sender, self._tracks
        failed: list[OutgoingTrack] = []
        if tracks and sender.send(self._array, len(tracks), payloads, timestamp, marker=marker):
            failed += [
                track for track in tracks if isinstance(track, NativeTrack) and track.native.status
            ]
        if sender.streamed:
            streamed = list(self._members & sender.streamed)
            failed += send_each(streamed, payloads, timestamp, marker=marker)
        self.sent.add(payloads, timestamp, marker=marker)
        return failed
