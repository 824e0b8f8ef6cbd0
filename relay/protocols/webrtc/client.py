"""WHIP and WHEP clients of our own: for the command line, the benches and the tests.

Each has a UDP port of its own and its ICE side in the controlling role; they work with
nothing but the loopback interface up.
"""

from __future__ import annotations

import asyncio
import ssl as tls
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import aiohttp

from relay.config import WebRtc
from relay.errors import ParseError, PeerError, PeerTimeout
from relay.media.timeline import Timeline, Unwrapper
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.protocols.webrtc.fanout import MAX_PAYLOAD, LineClock, OutgoingTrack, ntp_time
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.ingest import IngestSession, IngestStatistics
from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.resource import CONNECT, TIMEOUT, Resource
from relay.protocols.webrtc.rtcp import (
    FullIntraRequest,
    Nack,
    PictureLoss,
    SourceDescription,
    compound,
    parse_compound,
)
from relay.protocols.webrtc.session import Session

_AUDIO_CLOCK: Final = 48_000
_REPORT_INTERVAL: Final = 1.0
SILENT: Final = 2.0
"""Seconds without a sign of life after which the server may be asked whether it is there."""
GONE: Final = "the server is gone"


@dataclass(frozen=True, slots=True)
class _Link:
    """A connected peer and all that belongs to it."""

    http: aiohttp.ClientSession
    peers: Peers
    resource: Resource
    peer: Peer

    @property
    def silent(self) -> bool:
        """Whether nothing has come from the server for SILENT seconds."""
        path = self.peer.ice.selected
        if path is None or self.peer.state is not PeerState.CONNECTED:
            return False
        path.refresh()
        return time.monotonic() - path.seen > SILENT

    async def check(self) -> bool:
        """End a silent session whose server is gone, or knows it no more, by HTTP; whether so.

        Silence alone says nothing sure in SILENT seconds: a crowded machine may keep datagrams
        for longer. But a port that is closed, or another server behind it, is no matter of time.
        """
        if not self.silent or not await self.resource.is_gone() or not self.silent:
            return False
        self.peer.end(GONE)
        return True

    async def close(self) -> None:
        await self.resource.delete()
        await self.peers.close()
        await self.http.close()


async def _begin(
    url: str,
    token: str | None,
    *,
    send: bool,
    audio: bool,
    settings: WebRtc | None,
    ssl: tls.SSLContext | bool = True,
) -> tuple[_Link, str, Offering]:
    """POST the offer; the peer is not yet connecting."""
    chosen = settings or WebRtc(host="::" if "//[" in url else "0.0.0.0", port=0)
    peers = await Peers.open(chosen, calling=True)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=CONNECT)
    http = aiohttp.ClientSession(timeout=timeout)
    offering = Offering(peers, send=send, audio=audio)
    link = _Link(http, peers, Resource(http, url, token, ssl), offering.peer)
    try:
        answer = await link.resource.post(offering.text)
    except BaseException:
        await link.close()
        raise
    return link, answer, offering


async def _connected(
    link: _Link, session: Session, changed: asyncio.Event, offering: Offering
) -> None:
    """Wait for CONNECTED.

    Raises:
        PeerTimeout: not in time; with the addresses that were tried.
        PeerError: ended by the other side.
    """
    peer = session.peer
    try:
        async with asyncio.timeout(TIMEOUT):
            while peer.state is PeerState.NEW:
                changed.clear()
                await changed.wait()
    except TimeoutError as error:
        raise PeerTimeout(f"not connected in time: {offering.how_far}") from error
    if peer.state is PeerState.CLOSED:
        raise PeerError(f"not connected: {await link.resource.last_word() or peer.close_reason}")


class _Sending(Session):
    """Our end of a WHIP session."""

    def __init__(self, peer: Peer) -> None:
        self.changed = asyncio.Event()
        super().__init__(peer)

    def state_changed(self, state: PeerState) -> None:
        super().state_changed(state)
        self.changed.set()


class WhipClient:
    """A publisher.

    Attributes:
        on_keyframe_request: the server asked for a key frame (PLI or FIR).
        peer: the connection, for its statistics.
    """

    def __init__(self, link: _Link, session: Session) -> None:
        self._link = link
        self._session = session
        self.peer = link.peer
        self.on_keyframe_request: Callable[[], None] = _nothing
        self._video = _outgoing(self.peer.video, self.peer)
        self._audio = _outgoing(self.peer.audio, self.peer)
        self._clock = LineClock()
        self._report_at = 0.0
        self.peer.on_rtcp = self._on_rtcp

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        audio: bool = True,
        settings: WebRtc | None = None,
        ssl: tls.SSLContext | bool = True,
    ) -> Self:
        """Offer H.264 (and Opus) to a WHIP endpoint, and wait until media can flow.

        Args:
            ssl: for an https endpoint; True is the system's authorities.

        Raises:
            PeerTimeout, PeerRefused, PeerError.
        """
        link, answer, offering = await _begin(
            url, token, send=True, audio=audio, settings=settings, ssl=ssl
        )
        try:
            session = _Sending(link.peer)
            offering.accept(answer)
            client = cls(link, session)
            await _connected(link, session, session.changed, offering)
        except BaseException:
            await link.close()
            raise
        return client

    def send(self, unit: AccessUnit) -> None:
        """Send one access unit now; nothing once the session is over.

        ``unit.pts`` is the line of both tracks; sender reports say how they belong
        together.
        """
        track = self._video if unit.is_video else self._audio
        if track is None or self.peer.state is not PeerState.CONNECTED:
            return
        payloads = packetize(unit.payload) if unit.is_video else [unit.payload]
        if not payloads or max(map(len, payloads)) > MAX_PAYLOAD:
            return
        timestamp = unit.pts * track.clock_rate // VIDEO_CLOCK
        track.send_alone(payloads, timestamp, marker=unit.is_video)
        wall = time.time()
        self._clock.observe(unit.pts / VIDEO_CLOCK, wall)
        if time.monotonic() >= self._report_at:
            self._report(wall)

    def _report(self, wall: float) -> None:
        self._report_at = time.monotonic() + _REPORT_INTERVAL
        line = self._clock.at(wall)
        if line is None:
            return
        reports = [
            track.sender_report(ntp_time(wall), line)
            for track in (self._video, self._audio)
            if track is not None and track.packets
        ]
        for report in reports:
            names = SourceDescription(((report.ssrc, self.peer.id),))
            self.peer.send_rtcp(compound([report, names]))

    def _on_rtcp(self, data: bytes, now: float) -> None:
        try:
            packets = parse_compound(data)
        except ParseError:
            return  # one compound lost; the next says the same again
        for packet in packets:
            if isinstance(packet, Nack):
                self._resend(packet)
            elif isinstance(packet, PictureLoss | FullIntraRequest):
                self.on_keyframe_request()

    def _resend(self, nack: Nack) -> None:
        for track in (self._video, self._audio):
            if track is not None and track.ssrc == nack.media:
                for sequence in nack.sequences:
                    packet = track.retransmission(sequence)
                    if packet is not None:
                        self.peer.send_rtp(packet)

    async def wait_closed(self) -> str:
        """Wait until the session is over, by either side; returns why."""
        return await self._session.wait_closed()

    async def last_word(self) -> str | None:
        """Why the server ended the session, where it is a gateway of ours that says so."""
        return await self._link.resource.last_word()

    @property
    def silent(self) -> bool:
        """Whether nothing has come from the server for two seconds."""
        return self._link.silent

    async def check(self) -> bool:
        """End a silent session whose server is gone, which is asked by HTTP; whether it was."""
        return await self._link.check()

    async def close(self) -> None:
        """DELETE the session and free everything."""
        await self._link.close()


class _RtpLine(Timeline):
    """RTP timestamps as they are, unwrapped, in 90 kHz: the sender's line can be read off."""

    def __init__(self) -> None:
        super().__init__()
        self._video_counter = Unwrapper(32)
        self._audio_counter = Unwrapper(32)

    def video(self, rtp_timestamp: int, arrival: float) -> int:
        return self._video_counter.unwrap(rtp_timestamp)

    def audio(self, rtp_timestamp: int, arrival: float) -> int:
        return self._audio_counter.unwrap(rtp_timestamp) * VIDEO_CLOCK // _AUDIO_CLOCK

    def sender_report(self, codec: Codec, ntp: int, rtp_timestamp: int, arrival: float) -> None:
        return


class _Receiving(IngestSession):
    """Our end of a WHEP session: the gateway's own receive path."""

    def __init__(
        self,
        peer: Peer,
        on_unit: Callable[[AccessUnit], None],
        on_rtp: Callable[[bytes, float], None] | None,
    ) -> None:
        self.changed = asyncio.Event()
        self._deliver: Callable[[AccessUnit], None] = on_unit
        super().__init__(peer, self, on_rtp)
        self._timeline = _RtpLine()

    def unit(self, unit: AccessUnit) -> None:
        self._deliver(unit)

    def closed(self, reason: str) -> None:
        self._deliver = _drop  # whoever takes the units may hold us

    def state_changed(self, state: PeerState) -> None:
        super().state_changed(state)
        self.changed.set()


class WhepClient:
    """A viewer.

    Attributes:
        peer: the connection, for its statistics.
    """

    def __init__(self, link: _Link, session: _Receiving) -> None:
        self._link = link
        self._session = session
        self.peer = link.peer

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        on_unit: Callable[[AccessUnit], None],
        on_rtp: Callable[[bytes, float], None] | None = None,
        token: str | None = None,
        audio: bool = True,
        settings: WebRtc | None = None,
        ssl: tls.SSLContext | bool = True,
    ) -> Self:
        """Ask a WHEP endpoint for its stream, and wait until media can flow.

        Args:
            on_unit: called with each access unit, from a key frame on; ``pts`` is the
                RTP timestamp in 90 kHz, for audio too.
            on_rtp: called first with each decrypted packet and its arrival.

        Raises:
            PeerTimeout, PeerRefused, PeerError.
        """
        link, answer, offering = await _begin(
            url, token, send=False, audio=audio, settings=settings, ssl=ssl
        )
        try:
            offering.accept(answer)
            session = _Receiving(link.peer, on_unit, on_rtp)
            await _connected(link, session, session.changed, offering)
        except BaseException:
            await link.close()
            raise
        return cls(link, session)

    def request_keyframe(self) -> None:
        self._session.request_keyframe()

    def statistics(self) -> IngestStatistics:
        return self._session.statistics()

    async def wait_closed(self) -> str:
        """Wait until the session is over, by either side; returns why."""
        return await self._session.wait_closed()

    async def last_word(self) -> str | None:
        """As ``WhipClient.last_word``."""
        return await self._link.resource.last_word()

    @property
    def silent(self) -> bool:
        """As ``WhipClient.silent``."""
        return self._link.silent

    async def check(self) -> bool:
        """As ``WhipClient.check``."""
        return await self._link.check()

    async def close(self) -> None:
        """DELETE the session and free everything."""
        await self._link.close()


def _nothing() -> None:
    return


def _drop(unit: AccessUnit) -> None:
    return


def _outgoing(parameters: TrackParameters | None, peer: Peer) -> OutgoingTrack | None:
    return None if parameters is None else OutgoingTrack(parameters, peer)
