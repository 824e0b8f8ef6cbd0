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
from relay.protocols.webrtc.fanout import (
    MAX_PAYLOAD,
    FanOut,
    OutgoingTrack,
    send_each,
)
from relay.protocols.webrtc.native_track import NativeSendLog, NativeSentFrames, NativeTrack
from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.payloads import Payloads
from relay.protocols.webrtc.srtp import protect_pointer

_TOGETHER: Final = 16
"""Tracks that lie side by side."""

_RANDOM: Final = 14
"""Bytes of a check of ours; as fanout.h has it."""


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

    def new_history(self) -> Any:
        """
        Raises: MemoryError.
        """
        made = self._lib.fan_history_new(self._out, self._counts)
        if made == self.ffi.NULL:
            raise MemoryError("no memory for what is sent")
        return self.ffi.gc(made, self._lib.fan_history_free)

    def follow(self, track: Any, history: Any) -> None:
        """From now on that track is sent all that goes into ``history``; None: none of it."""
        self._lib.fan_follow(track, self.ffi.NULL if history is None else history)

    def fan_out(self) -> NativeFanOut:
        return NativeFanOut(self)

    def send(
        self,
        tracks: Any,
        count: int,
        payloads: Sequence[bytes],
        timestamp: int,
        *,
        marker: bool,
        history: Any,
    ) -> int:
        """One frame to ``count`` tracks of the array; returns on how many SRTP failed.

        Args:
            history: where it is kept, a ``struct fan_history`` or NULL.

        Raises:
            ValueError: a payload of more than MAX_PAYLOAD bytes.
        """
        if type(payloads) is Payloads:
            data, lengths = payloads.data, payloads.lengths
        else:
            if max(map(len, payloads)) > MAX_PAYLOAD:
                raise ValueError(f"a payload of more than {MAX_PAYLOAD} bytes")
            data, lengths = b"".join(payloads), array("H", map(len, payloads)).tobytes()
        packets, ticks, counts = len(lengths) // 2, timestamp & 0xFFFFFFFF, self._counts
        failed: int = self._send(
            self._out, tracks, count, data, lengths, packets, ticks, marker, history, counts
        )
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


class NativeFanOut(FanOut):
    """One call a frame."""

    def __init__(self, sender: NativeSender) -> None:
        super().__init__()
        self.sent = self._sent = NativeSentFrames(sender)
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
        if tracks and sender.send(
            *(self._array, len(tracks), payloads, timestamp),
            marker=marker,
            history=self._sent.native,
        ):
            failed += [
                track for track in tracks if isinstance(track, NativeTrack) and track.native.status
            ]
        if sender.streamed:
            streamed = list(self._members & sender.streamed)
            failed += send_each(streamed, payloads, timestamp, marker=marker)
        self.sent.add(payloads, timestamp, marker=marker)
        return failed
