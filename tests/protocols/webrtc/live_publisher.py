"""A publisher with good keys on the real socket, of which each packet can be spoiled on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from relay.errors import ParseError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, Rtcp, parse_compound
from relay.protocols.webrtc.rtp import RtpPacket
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.source import PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, Sender, number_of
from tests.protocols.webrtc.test_peer_moves import until

AT_ONCE = 40
"""Packets between two turns of the loop: the socket's buffer is small where nobody tuned it."""


class Sink:
    def __init__(self) -> None:
        self.units: list[AccessUnit] = []

    def unit(self, unit: AccessUnit) -> None:
        self.units.append(unit)

    def closed(self, reason: str) -> None:
        return


class Sending:
    """What a publisher sends, whoever receives it.

    Attributes:
        asked: sequence numbers that it was asked for.
        wanted: how often it was asked for a key frame.
        repairs: whether it sends again what it is asked for.
    """

    def __init__(self, peer: Peer, sink: Sink) -> None:
        self.peer, self.sink = peer, sink
        track = self.peer.video
        assert track is not None
        assert (track.payload_type, track.rtx_payload_type) == (PAYLOAD_TYPE, RTX_PAYLOAD_TYPE)
        self.sender = Sender(ssrc=track.ssrc)
        self.rtx_ssrc = track.rtx_ssrc
        self.asked: list[int] = []
        self.wanted = 0
        self.repairs = True
        self.peer.on_rtcp = self._rtcp

    def _rtcp(self, data: bytes, now: float) -> None:
        try:
            told: list[Rtcp] = parse_compound(data)
        except ParseError as error:
            raise AssertionError("what we say cannot be read") from error
        for packet in told:
            if isinstance(packet, PictureLoss):
                self.wanted += 1
            elif isinstance(packet, Nack):
                self.asked += packet.sequences
                if self.repairs:
                    self._repair(packet.sequences)

    def _repair(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            if sequence in self.sender.history:
                again = self.sender.retransmission(sequence)
                assert self.rtx_ssrc is not None
                again.ssrc = self.rtx_ssrc
                self.peer.transmit(self.seal(again))

    def seal(self, packet: RtpPacket) -> bytes:
        return self.peer.srtp_protect(packet.serialise())

    def sealed(self, *, keyframe: bool = False, size: int = 2500) -> list[bytes]:
        """The next picture, ready to leave."""
        return [self.seal(packet) for packet in self.sender.next(keyframe=keyframe, size=size)]

    async def send(self, datagrams: list[bytes]) -> None:
        for at in range(0, len(datagrams), AT_ONCE):
            for datagram in datagrams[at : at + AT_ONCE]:
                self.peer.transmit(datagram)
            await asyncio.sleep(0.001)

    async def show(self, *, keyframe: bool = False, size: int = 2500) -> None:
        """The next picture, until it is there."""
        await self.send(self.sealed(keyframe=keyframe, size=size))
        await self.seen(self.sender.number - 1)

    async def seen(self, number: int) -> None:
        await until(lambda: self.numbers[-1:] == [number])

    @property
    def numbers(self) -> list[int]:
        """Of the pictures that came out; -1 for one that has none."""
        return [_number(unit.payload) for unit in self.sink.units]


class Publisher(Sending):
    """One whose session is at hand."""

    def __init__(self, peer: Peer, session: IngestSession, sink: Sink) -> None:
        super().__init__(peer, sink)
        self.session = session

    async def goes_on(self) -> None:
        """Whatever was: with the next key frames there is a picture, and all that follow."""
        before = len(self.sink.units)
        async with asyncio.timeout(10):
            while len(self.sink.units) == before:
                await self.send(self.sealed(keyframe=True))
                await asyncio.sleep(0.01)
        await self.seen(self.sender.number - 1)
        first = self.sender.number
        for _ in range(5):
            await self.show()
        assert self.numbers[-5:] == list(range(first, first + 5))
        self.is_in_native_hands()
        assert self.session.peer.state is PeerState.CONNECTED

    def is_in_native_hands(self) -> None:
        """Where there is a native part: nothing of the last pictures went by Python."""
        lane = self.session._lane
        assert lane is None or lane.active

    @property
    def refused(self) -> int:
        """Packets that did not pass SRTP, so far."""
        lane, counted = self.session._lane, self.session.peer.statistics
        if lane is not None:
            lane.count(counted)
        return counted.refused


def _number(annexb: bytes) -> int:
    try:
        return number_of(annexb)
    except ValueError:
        return -1


@asynccontextmanager
async def publishing(
    server: Peers, mine: Peers, *, sequence: int = 100, profile: str = "42e01f"
) -> AsyncIterator[Publisher]:
    """Two pictures are through; the native part has the stream where there is one.

    Args:
        sequence: number of the first packet.
        profile: of H.264, as the offer has it.
    """
    sink = Sink()
    offering = Offering(mine, send=True, audio=False)
    offer = offering.text.replace("profile-level-id=42e01f", f"profile-level-id={profile}")
    session = await Ingest(server).answer(offer, sink)
    assert f"profile-level-id={profile}" in session.answer
    offering.accept(session.answer)
    await reach(offering.peer, PeerState.CONNECTED)
    made = Publisher(offering.peer, session, sink)
    made.sender.sequence = sequence
    await made.show(keyframe=True)
    await made.show()
    lane = session._lane
    assert (lane is not None) == (server.udp.native is not None)
    assert lane is None or lane.active
    try:
        yield made
    finally:
        await session.close("test over")
