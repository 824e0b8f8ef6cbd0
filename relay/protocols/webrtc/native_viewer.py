"""The native part of hearing a viewer: reports (``native/viewers.c``), and consent.

As long as all is well nothing of it comes to Python: reports that tell of no loss are kept until
they are looked at, and packets that are asked for again are sent again, as many as are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.native_consent import NativeConsent
from relay.protocols.webrtc.native_track import NativeSendLog, NativeTrack
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.peer_state import PeerStatistics
from relay.protocols.webrtc.rtcp import ReportBlock

if TYPE_CHECKING:
    from relay.protocols.webrtc.link import Link
    from relay.protocols.webrtc.native_receive import NativeReceiver
    from relay.protocols.webrtc.srtp import NativeKeys

_HEAD: Final = 8
_INDEX_AND_TAG: Final = {4: 20, 14: 14}
"""Bytes that SRTCP adds, by what it has from the index on: in GCM the tag stands before it."""


class NativeViewer:
    """One viewer, while it is connected.

    Args:
        trailer: as ``Srtp.rtcp_trailer``.
        ssrcs: of what it is sent; 0: no such track.
        on_rtcp: called with what is not the common case, opened; see ``Peer.on_rtcp``.
        log: of what it is sent, where native code writes that.

    Attributes:
        consent: on the path that it is at.

    Raises:
        MemoryError.
    """

    def __init__(
        self,
        receiver: NativeReceiver,
        keys: NativeKeys,
        trailer: int,
        ssrcs: tuple[int, int],
        on_rtcp: Callable[[bytes, float], None],
        log: NativeSendLog | None = None,
    ) -> None:
        self._receiver = receiver
        self._keys = keys  # held as long as the native part may use them
        self._log = log  # likewise
        self._trailer = trailer
        self._on_rtcp = on_rtcp
        self._number = receiver.admit(self)
        srtp = receiver.ffi.cast("void *", keys.pointer)
        made = receiver.lib.rx_admit(receiver.rx, srtp, self._number)
        if made == receiver.ffi.NULL:
            receiver.dropped(self._number)
            raise MemoryError("no memory for a native viewer")
        self._viewer: Any = made
        self.consent = NativeConsent(receiver, made.consent, self._lead)
        self._allowed = 0
        self._sending: list[NativeTrack] = []  # held as long as it is heard
        self._track: NativeTrack | None = None  # whose checks of ours go along with
        made.ssrcs = ssrcs
        self._reports = [(ssrc, made.reports[at]) for at, ssrc in enumerate(ssrcs)]
        made.trailer = trailer
        if log is not None:
            made.log = receiver.ffi.cast("void *", log.pointer)
        made.seal = _INDEX_AND_TAG.get(trailer, -1)

    def hear(self, path: Path) -> None:
        """From now on it is at ``path``."""
        self.consent.hear(path)

    def _lead(self, raw: bytes) -> bool:
        lib, rx = self._receiver.lib, self._receiver.rx
        return bool(lib.rx_hear(rx, self._viewer, raw, len(raw)) == 0)

    def ask_with(self, track: NativeTrack, tie_breaker: int) -> None:
        """Checks of ours may leave natively, where ``NativeSender.ask`` is given that track."""
        if self._viewer is None:
            return
        if self._track is None:
            self._track = track
            track.hear(self.consent.address)
        self.consent.ask(tie_breaker)

    def send_again(self, tracks: Sequence[OutgoingTrack | None]) -> None:
        """Packets of these may be sent again natively: tracks of the ``ssrcs``."""
        if self._viewer is None:
            return
        for place, track in enumerate(tracks):
            if isinstance(track, NativeTrack):
                self._viewer.tracks[place] = self._receiver.ffi.cast("void *", track.pointer)
                self._sending.append(track)

    def sent_again(self) -> int:
        """Packets that were, since the last call: all that was asked for there."""
        if self._viewer is None:
            return 0
        left = int(self._viewer.again)
        sent, self._allowed = self._allowed - left, left
        return sent

    def expect(self, link: Link, again: int) -> None:
        """What is said until the next call is of that link: what may wait depends on it.

        Args:
            again: packets that may be sent again until then; ``sent_again`` was asked before.
        """
        if self._viewer is not None:
            self._viewer.again = self._allowed = again
            self._viewer.calm = link.calm
            self._viewer.look_at = link.look_at if self._log is None else link.well_until

    def said(self, packet: bytes, now: float) -> None:
        self._on_rtcp(packet, now)

    def reports(self) -> list[tuple[float, ReportBlock]]:
        """The last one about each track since the last call, and when it came."""
        viewer = self._viewer
        if viewer is None:
            return []
        found = []
        for ssrc, report in self._reports:
            if report.count:
                report.count = 0
                told = (report.highest, report.jitter, report.last_report, report.delay)
                found.append((report.at, ReportBlock(ssrc, 0, 0, *told)))
        return found

    def count(self, statistics: PeerStatistics) -> int:
        """Add what was heard since the last call; returns the checks that were answered."""
        viewer = self._viewer
        if viewer is None:
            return 0
        statistics.unprotected += viewer.opened
        statistics.refused += viewer.refused
        statistics.limited += viewer.route.limited
        viewer.opened = viewer.refused = viewer.route.limited = 0
        return self.consent.count()

    @property
    def last_rtcp(self) -> bytes:
        """Of the last packet that was authentic its head and, as it came, its trailer; b"" before
        the first."""
        viewer = self._viewer
        if viewer is None or not viewer.heard[0]:
            return b""
        return bytes(viewer.heard[0 : _HEAD + self._trailer])

    def close(self) -> None:
        """A second call does nothing."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            if self._track is not None:
                self._track.hear(0)
                self._track = None
            self.consent.close()
            self._receiver.lib.rx_dismiss(self._receiver.rx, viewer)
            self._receiver.dropped(self._number)
            self._on_rtcp = _nobody


def _nobody(packet: bytes, now: float) -> None:
    """Who hears of a viewer that is gone."""
