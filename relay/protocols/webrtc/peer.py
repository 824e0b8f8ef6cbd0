"""One WebRTC peer: ICE of our own below, OpenSSL's DTLS in the middle, bare RTP above.

A datagram is handled whole, synchronously, in the read of the shared socket: there is no
task, no queue and no thread for a peer, only one timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from math import ceil, inf
from typing import TYPE_CHECKING, Final

from relay.media.unit import Codec
from relay.protocols.webrtc.addresses import not_in_time
from relay.protocols.webrtc.budget import MediaBudget
from relay.protocols.webrtc.dtls import Dtls
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.native_viewer import NativeViewer
from relay.protocols.webrtc.negotiation import Negotiated, TrackParameters
from relay.protocols.webrtc.path import Path, ignore
from relay.protocols.webrtc.peer_state import PEER_STATES, PeerState, PeerStatistics
from relay.protocols.webrtc.sdp import Candidate
from relay.protocols.webrtc.srtp import NativeKeys, SrtpError
from relay.protocols.webrtc.stun import Address
from relay.protocols.webrtc.turns import Line
from relay.states import StateMachine

if TYPE_CHECKING:
    from relay.protocols.webrtc.peers import Peers

__all__ = ["Peer", "PeerState", "TrackParameters"]

_log = logging.getLogger(__name__)

_MAX_EARLY: Final = 64
_MAX_PACKET: Final = 1500
_DOUBT: Final = 0.1
_DEAF: Final = 10.0
"""Seconds that a peer gets at most, beyond its time, while the socket is not read empty."""
_PATIENT: Final = 0.5
_TOGETHER: Final = 0.05
"""Seconds: what may wait for long is done for many peers at the same moment. A loop that
wakes for each between two frames runs every time with cold caches."""


def _always_read(data: bytes, now: float) -> bool:
    return False


def _unchanged(packet: bytes) -> bytes:
    return packet


class Peer:
    """One connection. Made by ``Peers``.

    Attributes:
        id: unique in this process.
        certificate: the one whose fingerprint it was told, whatever is made anew later.
        answer: the session description to hand out, or that was handed in.
        video, audio: what was agreed, None without such a track.
        on_rtp, on_rtcp: opened packets, with ``time.monotonic()`` of each; they must not wait.
        unread: whether an RTCP packet, as it came, may be dropped without opening it.
        on_state: called after each change; CLOSED is the last.
        on_ready: called once, when the handshake is done and our last flight is yet to leave.
        on_route: called when ``sending`` or where it goes to has changed.
        srtp_protect: RTP in, SRTP out.
        transmit: sends one datagram to where the peer is now; nothing unless CONNECTED.
        sending: the keys of ``srtp_protect`` for native code; None unless CONNECTED.
        receiving: the keys that open what comes, likewise.
        heard: the path of the last datagram.
        hearing: what native code hears of it, where it does.
        close_reason: why it is CLOSED.
        log_level: of the lines that tell its states.
    """

    def __init__(self, peers: Peers, ice: IceSession, name: str) -> None:
        self.id = name
        self.ice = ice
        self.certificate = peers.certificate
        self.answer = ""
        self.video: TrackParameters | None = None
        self.audio: TrackParameters | None = None
        self.close_reason = ""
        self.log_level = logging.INFO
        self.on_rtp: Callable[[bytes, float], None] = ignore
        self.on_rtcp: Callable[[bytes, float], None] = ignore
        self.unread: Callable[[bytes, float], bool] = _always_read
        self.on_state: Callable[[PeerState], None] = ignore
        self.srtp_protect: Callable[[bytes], bytes] = _unchanged
        self.transmit: Callable[[bytes], None] = ignore
        self.on_ready: Callable[[], None] = ignore
        self.on_route: Callable[[], None] = ignore
        self.sending: NativeKeys | None = None
        self.receiving: NativeKeys | None = None
        self.heard: Path | None = None
        self.heard_ssrc = self._heard_rtcp = b""
        self.hearing: NativeViewer | None = None
        self.rtcp_trailer = 0
        self.statistics = PeerStatistics()
        self.agreed: Negotiated | None = None
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._client = False  # of DTLS
        self._fingerprints: tuple[tuple[str, str], ...] = ()
        self._dtls: Dtls | None = None
        self._withheld = False  # of the last flight
        self._shaking = Line(peers.turns, self._handshake, time.monotonic())
        self._early: deque[tuple[bytes, float]] = deque(maxlen=_MAX_EARLY)
        self._unprotect: Callable[[bytes], bytes] | None = None
        self._unprotect_rtcp: Callable[[bytes], bytes] = _unchanged
        self._protect_rtcp: Callable[[bytes], bytes] = _unchanged
        self._timer: asyncio.TimerHandle | None = None
        self._budget = MediaBudget(time.monotonic())
        self._doubted = inf  # since when
        # uvloop's handle of a timer that is due already does not tell when it was for.
        self._timer_at = 0.0
        self._machine = StateMachine(
            f"peer {name}", PeerState.NEW, PEER_STATES, log=_log, on_change=self._changed
        )
        self._deadline = time.monotonic() + peers.settings.connect_timeout
        ice.on_datagram = self._datagram
        ice.on_selected = self._selected
        ice.on_answered = self._answered
        ice.on_schedule = self._schedule
        self._schedule(self._deadline)

    @property
    def state(self) -> PeerState:
        return self._machine.state

    @property
    def candidates(self) -> list[Candidate]:
        """Ours."""
        return self._peers.candidates

    @property
    def address(self) -> Address | None:
        """Where the peer is now."""
        return self.ice.selected.address if self.ice.selected is not None else None

    @property
    def heard_rtcp(self) -> bytes:
        """The last RTCP packet that was authentic, as it came: its head and its end at least."""
        native = self.hearing.last_rtcp if self.hearing is not None else b""
        return native or self._heard_rtcp

    @property
    def native(self) -> NativeReceiver | None:
        return self._peers.udp.native

    def send_rtp(self, packet: bytes) -> None:
        """Protect and send; silently nothing unless CONNECTED."""
        if self._machine.state is PeerState.CONNECTED:
            self.transmit(self.srtp_protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send a compound packet; silently nothing unless CONNECTED."""
        if self._machine.state is PeerState.CONNECTED:
            self.transmit(self._protect_rtcp(packet))

    def goodbye(self) -> list[bytes]:
        """What tells the other end that this one is gone, for whoever is left to send it then.

        Empty before the handshake is done. The last flight comes first where it is ours: who has
        missed it could not read what follows, and who has it drops the repetition.
        """
        if self._dtls is None or not self._dtls.ready:
            return []
        return [*([] if self._client else self._dtls.flight), *self._dtls.goodbye()]

    async def close(self, reason: str) -> None:
        """Say goodbye to the other end and free everything. A second call does nothing."""
        self.end(reason)

    def end(self, reason: str) -> None:
        """``close`` for callers that cannot wait; nothing in it waits anyway.

        Whoever was called back is let go of: a closed peer is no cycle of references, and its
        memory is free with the last one.
        """
        if self._machine.state is PeerState.CLOSED:
            return
        self.close_reason = reason
        if self._dtls is not None:
            self._send(self._dtls.goodbye())
        self.transmit = ignore
        self.srtp_protect = self._protect_rtcp = _unchanged
        self._unprotect = self._dtls = self.sending = self.receiving = None
        self.on_route()
        self._early.clear()
        self._shaking.close()
        self.ice.close()
        if self._timer is not None:  # last: what let go above may have set it
            self._timer.cancel()
            self._timer = None
        self._peers.forget(self)
        self._machine.to(PeerState.CLOSED, reason, level=self.log_level)
        self.on_rtp = self.on_rtcp = self.on_state = self.on_ready = self.on_route = ignore
        self.unread = _always_read
        self._unprotect_rtcp = _unchanged

    def accept(self, agreed: Negotiated) -> None:
        """Set what was agreed; from here on the peer can connect."""
        self.agreed = agreed
        self.video = agreed.track(Codec.H264)
        self.audio = agreed.track(Codec.OPUS)
        self._fingerprints = agreed.fingerprints
        self._client = agreed.active
        self.ice.quiet = agreed.patient
        if self.ice.selected is not None:  # a check that overtook the answer to our offer
            self._selected(self.ice.selected)

    # -- below: what the socket and the clock do ---------------------------------------

    def _changed(self, old: PeerState, new: PeerState) -> None:
        self._peers.half_open.remove(self)
        self.on_state(new)

    def _selected(self, path: Path) -> None:
        udp, address = self._peers.udp, path.address
        if self._machine.state is PeerState.CONNECTED:
            self.transmit = udp.sender(address)
            self.on_route()
        elif self._dtls is None and self.agreed is not None:
            self._dtls = Dtls(self.certificate, self._fingerprints, client=self._client)
            self._peers.half_open.begin(self)
            if self._client:
                self._send(self._dtls.begin(time.monotonic()))
                self._schedule_dtls(time.monotonic())

    def _answered(self, path: Path) -> None:
        if path is self.ice.selected and self._withheld and self._dtls is not None:
            self._send(self._dtls.flight)

    def _send(self, datagrams: list[bytes]) -> None:
        path = self.ice.selected
        if path is None or not datagrams:
            return
        self._withheld = False
        for datagram in datagrams:
            if path.may_send(len(datagram)):
                self.ice.settled = True
                self._peers.udp.sendto(datagram, path.address)
            else:
                self._withheld = True

    def _datagram(self, data: bytes, path: Path, now: float) -> None:
        first = data[0]
        if 127 < first < 192:
            self.heard = path
            if not self._budget.take(data, now):
                self.statistics.limited += 1
            elif self._unprotect is None:
                self._keep_early(data, now)
            elif len(data) >= 12 and 191 < data[1] < 224 and self.unread(data, now):
                return
            elif self._media(data, now):
                path.seen, path.lost = now, False
        elif 19 < first < 64 and self._dtls is not None:
            path.grant(len(data))
            self.statistics.limited += not self._shaking.put(data, now)

    def _media(self, data: bytes, now: float) -> bool:
        """Decrypt and hand on; whether the packet was authentic."""
        unprotect = self._unprotect
        if unprotect is None or not 12 <= len(data) <= _MAX_PACKET:
            return False
        is_rtcp = 191 < data[1] < 224
        try:
            packet = self._unprotect_rtcp(data) if is_rtcp else unprotect(data)
        except SrtpError:
            self.statistics.refused += 1
            return False
        self.statistics.unprotected += 1
        self._budget.know(data[4:8] if is_rtcp else data[8:12])
        if is_rtcp:
            self._heard_rtcp = data
            self.on_rtcp(packet, now)
        else:
            self.heard_ssrc = data[8:12]
            self.on_rtp(packet, now)
        return True

    def roam(self, data: bytes, address: Address, now: float) -> bool:
        """Something under its SSRC has come from an unknown address: whether it is its own.

        Of media only where nothing comes from where it was. Who sees no packet any more
        reports once, if at all: that is taken at once.
        """
        path, is_rtcp = self.ice.selected, 191 < data[1] < 224
        if path is not None:
            path.refresh()
        if path is None or not (is_rtcp or now - path.seen > _DOUBT):
            return False
        if not self._media(data, now):
            return False
        path.lost = True
        self.ice.probe(address, len(data), now)
        return True

    def _keep_early(self, data: bytes, now: float) -> None:
        """Media may overtake the last flight of the handshake."""
        if self._dtls is None or len(self._early) >= _MAX_EARLY:
            self.statistics.early_dropped += 1
        else:
            self._early.append((data, now))

    def _handshake(self, data: bytes) -> None:
        dtls, now = self._dtls, time.monotonic()
        if dtls is None:
            return  # ended before its turn came
        known = dtls.ready
        flight = dtls.receive(data, now)
        if dtls.ready and not known:
            self.on_ready()
        self._send(flight)
        if dtls.ready and not known:
            self._connected(dtls)
        if self._dtls is not dtls:
            return  # ended from a callback
        if dtls.failure is not None:
            self.end(dtls.failure)
        elif dtls.ended:
            self.end("closed by the peer")
        else:
            self._schedule_dtls(now)

    def _connected(self, dtls: Dtls) -> None:
        assert self.address is not None
        self.transmit = self._peers.udp.sender(self.address)
        keys = dtls.srtp()
        self.srtp_protect, self._protect_rtcp = keys.protect, keys.protect_rtcp
        self._unprotect, self._unprotect_rtcp = keys.unprotect, keys.unprotect_rtcp
        self.sending, self.receiving = keys.sending, keys.receiving
        self.rtcp_trailer = keys.rtcp_trailer
        self.on_route()
        self.ice.establish(time.monotonic())
        self._machine.to(PeerState.CONNECTED, level=self.log_level)
        while self._early and self._unprotect is not None:
            self._media(*self._early.popleft())

    def _schedule_dtls(self, now: float) -> None:
        dtls = self._dtls
        if dtls is not None and not dtls.ready and (at := dtls.next_poll(now)) is not None:
            self._schedule(at)

    def _schedule(self, at: float) -> None:
        """Be woken at ``at``, or earlier."""
        if self._machine.state is PeerState.CLOSED:
            return
        delay = at - time.monotonic()
        when = self._loop.time() + max(0.0, delay)
        if delay > _PATIENT:
            when = ceil(when / _TOGETHER) * _TOGETHER
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        now = time.monotonic()
        self._timer_at = -inf  # what ``tick`` asks for is in what it returns: one timer for all
        try:
            at = self._tick(now)
        finally:
            self._timer = None
        if at is not None:
            self._schedule(at)
            self._schedule_dtls(now)

    def _tick(self, now: float) -> float | None:
        """Do what is due; when to be woken next, None when it has ended."""
        connecting = self._machine.state is PeerState.NEW
        if connecting and now >= self._deadline:
            self.end(not_in_time(self.candidates, heard=self.ice.selected is not None))
            return None
        dtls = self._dtls
        if dtls is not None and not dtls.ready:
            self._send(dtls.poll(now))
        at = self.ice.tick(now)
        reason = self.ice.expired(now)
        if reason is None:
            self._doubted = inf
        elif now - self._doubted > (_DEAF if self._peers.udp.unread else 0):
            self.end(reason)
            return None
        else:
            # After a stall of ours, or with more to do than we can, its signs of life may
            # still wait in the socket: look again, until all that came has been heard.
            self._doubted = min(self._doubted, now)
            at = now + _DOUBT
        return min(at, self._deadline) if connecting else at
