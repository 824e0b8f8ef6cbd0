"""A publisher's media in: units for the sink, and what the publisher is told and asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest
from aiortc import RTCSessionDescription

from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.congestion import TransportFeedback
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.keyframe_requests import KEYFRAME_INTERVAL
from relay.protocols.webrtc.negotiation import TRANSPORT_CC
from relay.protocols.webrtc.peer import Peer, PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import (
    Bye,
    FullIntraRequest,
    Nack,
    PictureLoss,
    ReceiverReport,
    Remb,
    Rtcp,
    SenderReport,
    SourceDescription,
    Unknown,
    compound,
)
from relay.protocols.webrtc.rtp import RtpPacket, pack_elements
from tests.protocols.webrtc import aiortc_client
from tests.protocols.webrtc.aiortc_client import connection, offer_of
from tests.protocols.webrtc.fake_peer import FakePeer, until
from tests.protocols.webrtc.inlet import Inlet, NativeInlet
from tests.protocols.webrtc.outlet import parameters
from tests.protocols.webrtc.source import SSRC, Sender

AUDIO_SSRC = 0x5555


class Sink:
    def __init__(self) -> None:
        self.units: list[AccessUnit] = []
        self.reasons: list[str] = []

    def unit(self, unit: AccessUnit) -> None:
        self.units.append(unit)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)


class Publisher:
    """A session over a peer without a network.

    Attributes:
        inlet: the way that its packets take.
    """

    inlet: Inlet

    def __init__(
        self,
        *,
        feedback: tuple[str, ...] = ("nack", "nack pli", "ccm fir", "transport-cc"),
        audio: bool = True,
        video: bool = True,
        remote_ssrc: int | None = None,
    ) -> None:
        given = replace(
            parameters(),
            payload_type=96,
            rtx_payload_type=97,
            remote_ssrc=remote_ssrc,
            feedback=frozenset(feedback),
            extensions={TRANSPORT_CC: 3},
        )
        sound = replace(parameters(Codec.OPUS), extensions={TRANSPORT_CC: 3})
        self.peer = FakePeer(given if video else None, sound if audio else None)
        self.inlet.admit(self.peer)
        self.sink = Sink()
        self.session = IngestSession(cast("Peer", self.peer), self.sink)
        self.sender = Sender()
        self.transport = 65530
        self.sounds = 0

    def connect(self) -> Publisher:
        self.peer.connect()
        return self

    def send(self, packet: RtpPacket, now: float) -> None:
        packet.profile, packet.extension = pack_elements({3: self.transport.to_bytes(2, "big")})
        self.transport = (self.transport + 1) & 0xFFFF
        self.inlet.give(self.peer, [packet.serialise()], now)

    def picture(self, now: float, *, keyframe: bool = False, without: int | None = None) -> None:
        for index, packet in enumerate(self.sender.next(keyframe=keyframe)):
            if index != without:
                self.send(packet, now)

    def sound(self, now: float) -> None:
        payload = b"\xf8\xff\xfe"
        self.send(RtpPacket(111, False, self.sounds, self.sounds * 960, AUDIO_SSRC, payload), now)
        self.sounds += 1

    def told(self, kind: type[Rtcp]) -> list[Rtcp]:
        return [packet for packet in self.peer.control if isinstance(packet, kind)]

    def feedbacks(self) -> list[TransportFeedback]:
        return [
            TransportFeedback.parse(packet.body)
            for packet in self.peer.control
            if isinstance(packet, Unknown) and (packet.kind, packet.count) == (205, 15)
        ]


@pytest.fixture(params=[Inlet, NativeInlet], ids=["pure", "native"], autouse=True)
def inlet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inlet]:
    made: Inlet = request.param()
    monkeypatch.setattr(Publisher, "inlet", made, raising=False)
    yield made
    made.close()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_pictures_and_sound_come_out_on_one_line_near_zero() -> None:
    publisher = Publisher().connect()
    start = now()
    publisher.picture(start, keyframe=True)
    publisher.sound(start)
    publisher.picture(start + 1 / 30)
    publisher.sound(start + 0.02)
    units = publisher.sink.units
    assert [unit.codec for unit in units] == [Codec.H264, Codec.OPUS] * 2
    assert [unit.keyframe for unit in units] == [True, False, False, False]
    assert [unit.pts for unit in units] == [0, 0, 3000, 1800]
    assert units[0].payload == publisher.sender.sent_units[0]
    assert units[2].arrival == start + 1 / 30
    publisher.peer.end("over")


async def test_the_senders_reports_bring_sound_and_picture_together() -> None:
    publisher = Publisher().connect()
    start = now()
    publisher.picture(start, keyframe=True)
    publisher.sound(start)
    second = 1 << 32
    # The same instant is 0.1 s later on the sound's own clock: it was sent late.
    reports = [
        SenderReport(SSRC, 100 * second, 5000, 1, 1),
        SenderReport(AUDIO_SSRC, 100 * second, 4800, 1, 1),
        SenderReport(0x9999, 100 * second, 1, 1, 1),
    ]
    publisher.peer.on_rtcp(compound(reports), start + 0.1)
    publisher.picture(start + 1 / 30)
    publisher.sound(start + 0.02)
    video, audio = publisher.sink.units[-2:]
    assert video.pts - 3000 - (audio.pts - 1800) == 9000
    publisher.peer.end("over")


async def test_a_missing_packet_is_asked_for_at_once() -> None:
    publisher = Publisher().connect()
    publisher.picture(now(), keyframe=True)
    publisher.picture(now(), without=2)
    (nack,) = publisher.told(Nack)
    assert isinstance(nack, Nack)
    assert (nack.sender, nack.media) == (1000, SSRC)
    missing = publisher.sender.retransmission(nack.sequences[0])
    publisher.send(missing, now())
    assert len(publisher.sink.units) == 2
    assert publisher.session.statistics().nacks == 1
    publisher.peer.end("over")


async def test_a_hole_that_stays_ends_in_a_request_for_a_key_frame() -> None:
    publisher = Publisher(feedback=("nack", "nack pli")).connect()
    publisher.picture(now(), keyframe=True)
    publisher.picture(now(), without=2)
    await until(lambda: publisher.told(PictureLoss))
    assert publisher.told(PictureLoss) == [PictureLoss(1000, SSRC)]
    assert len(publisher.told(Nack)) > 3
    publisher.peer.end("over")


async def test_sound_behind_a_hole_leaves_by_the_timer() -> None:
    publisher = Publisher().connect()
    publisher.sound(now())
    publisher.sounds += 1
    publisher.sound(now())
    assert len(publisher.sink.units) == 1
    await until(lambda: len(publisher.sink.units) == 2)
    publisher.peer.end("over")


async def test_arrivals_are_told_soon_also_across_the_wrap() -> None:
    publisher = Publisher().connect()
    start = now()
    for index in range(10):
        publisher.sound(start + index / 1000)
    await until(publisher.feedbacks)
    (feedback,) = publisher.feedbacks()
    assert (feedback.sender, feedback.media, feedback.base) == (1000, AUDIO_SSRC, 65530)
    assert [arrival is not None for arrival in feedback.arrivals] == [True] * 10
    await until(lambda: publisher.session._arrivals.due_at == float("inf"))
    assert len(publisher.feedbacks()) == 1
    publisher.peer.end("over")


async def test_many_arrivals_at_once_are_told_at_once() -> None:
    publisher = Publisher().connect()
    for _ in range(250):
        publisher.sound(now())
    assert len(publisher.feedbacks()) == 1
    publisher.peer.end("over")


async def test_who_takes_an_estimate_only_is_told_one() -> None:
    publisher = Publisher(feedback=("nack", "nack pli", "goog-remb")).connect()
    begin = now()
    for index in range(40):
        publisher.picture(begin + index / 30, keyframe=index == 0)
    told = [packet for packet in publisher.told(Remb) if isinstance(packet, Remb)]
    assert [packet.ssrcs for packet in told] == [(SSRC,), (SSRC,)]
    assert all(packet.bitrate > 1_000_000 for packet in told)
    assert Publisher().connect().told(Remb) == []


async def test_packets_without_a_transport_number_are_not_told() -> None:
    publisher = Publisher().connect()
    publisher.peer.on_rtp(RtpPacket(111, False, 1, 1, 5, b"x").serialise(), now())
    assert publisher.session._arrivals.pending == 0
    assert len(publisher.sink.units) == 1
    publisher.peer.end("over")


async def test_reports_of_both_tracks_go_out_every_second() -> None:
    publisher = Publisher().connect()
    publisher.picture(now(), keyframe=True)
    publisher.sound(now())
    await until(lambda: publisher.told(ReceiverReport))
    (report,) = publisher.told(ReceiverReport)
    assert isinstance(report, ReceiverReport)
    assert [block.ssrc for block in report.blocks] == [SSRC, AUDIO_SSRC]
    assert publisher.told(SourceDescription) == [SourceDescription(((1000, "fake"),))]
    seen = publisher.session.statistics()
    assert seen.bitrate > 0
    assert seen.fps > 0
    publisher.peer.end("over")


async def test_requests_for_a_key_frame_are_kept_apart_and_one_is_kept() -> None:
    publisher = Publisher(remote_ssrc=77).connect()
    for _ in range(5):
        publisher.session.request_keyframe()
    assert publisher.told(PictureLoss) == [PictureLoss(1000, 77)]
    first = now()
    await until(lambda: len(publisher.told(PictureLoss)) == 2)
    assert now() - first > KEYFRAME_INTERVAL * 0.9
    assert publisher.session.statistics().plis == 2
    publisher.peer.end("over")


async def test_a_request_kept_is_dropped_when_a_key_frame_comes() -> None:
    publisher = Publisher().connect()
    publisher.picture(now(), keyframe=True)
    publisher.session.request_keyframe()
    publisher.session.request_keyframe()
    publisher.picture(now(), keyframe=True)
    await asyncio.sleep(KEYFRAME_INTERVAL + 0.05)
    assert len(publisher.told(PictureLoss)) == 1
    publisher.peer.end("over")


async def test_full_intra_requests_are_counted_where_nothing_else_is_understood() -> None:
    publisher = Publisher(feedback=("ccm fir",)).connect()
    publisher.picture(now(), keyframe=True)
    publisher.session.request_keyframe()
    await asyncio.sleep(KEYFRAME_INTERVAL + 0.01)
    publisher.session.request_keyframe()
    assert publisher.told(FullIntraRequest) == [
        FullIntraRequest(1000, ((SSRC, 1),)),
        FullIntraRequest(1000, ((SSRC, 2),)),
    ]
    publisher.peer.end("over")


async def test_no_key_frame_can_be_asked_of_a_stream_without_a_name_or_without_video() -> None:
    for publisher in (Publisher().connect(), Publisher(video=False).connect()):
        publisher.session.request_keyframe()
        assert publisher.peer.rtcp == []
        publisher.sound(now())
        assert len(publisher.sink.units) == 1
        publisher.peer.end("over")


async def test_sound_where_only_pictures_were_agreed_is_dropped() -> None:
    publisher = Publisher(audio=False).connect()
    publisher.sound(now())
    assert publisher.sink.units == []
    assert (publisher.session.has_audio, publisher.session.has_video) == (False, True)
    publisher.peer.end("over")


async def test_malformed_packets_are_counted_and_change_nothing() -> None:
    publisher = Publisher().connect()
    publisher.peer.on_rtp(b"\x80", now())
    publisher.peer.on_rtp(b"\xa0" + bytes(11) + b"\xff", now())
    publisher.peer.on_rtcp(b"\x81\xc9\x00\x09", now())
    publisher.picture(now(), keyframe=True)
    assert len(publisher.sink.units) == 1
    assert publisher.session.statistics().malformed == 3
    publisher.peer.end("over")


async def test_a_goodbye_in_mid_stream_ends_nothing() -> None:
    publisher = Publisher().connect()
    publisher.picture(now(), keyframe=True)
    publisher.peer.on_rtcp(Bye((SSRC,)).serialise(), now())
    publisher.picture(now())
    assert len(publisher.sink.units) == 2
    assert publisher.sink.reasons == []
    publisher.peer.end("over")


async def test_statistics_tell_what_came() -> None:
    publisher = Publisher().connect()
    before = publisher.session.statistics()
    assert (before.width, before.last_arrival, before.keyframe_age) == (None, None, None)
    start = now()
    publisher.picture(start, keyframe=True)
    publisher.picture(start, without=1)
    seen = publisher.session.statistics()
    assert (seen.width, seen.height) == (1280, 720)
    assert (seen.packets, seen.lost) == (14, 1)
    assert seen.last_arrival == start
    assert seen.keyframe_age is not None
    publisher.peer.end("over")


async def test_the_sink_is_told_the_end_once_and_the_timer_ends() -> None:
    publisher = Publisher().connect()
    publisher.sound(now())
    assert publisher.session._timer is not None
    await publisher.session.close("taken over")
    await publisher.session.close("again")
    assert publisher.sink.reasons == ["taken over"]
    assert publisher.session._timer is None
    assert await publisher.session.wait_closed() == "taken over"
    publisher.session.request_keyframe()
    publisher.session.request_keyframe()
    assert publisher.session._timer is None


# -- over a real socket, with aiortc at the other end


async def test_aiortc_publishes_and_is_told_and_asked(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    async with connection() as client:
        sender = client.addTrack(aiortc_client.video_track())
        client.addTrack(aiortc_client.audio_track())
        asked = asyncio.Event()
        monkeypatch.setattr(sender, "_send_keyframe", asked.set)
        session = await Ingest(peers).answer(await offer_of(client), sink)
        await client.setRemoteDescription(RTCSessionDescription(sdp=session.answer, type="answer"))
        await until(lambda: {unit.codec for unit in sink.units} == set(Codec))
        session.request_keyframe()
        async with asyncio.timeout(5):
            await asked.wait()
        reports = await sender.getStats()
        while not any(one.type == "remote-inbound-rtp" for one in reports.values()):
            await asyncio.sleep(0.1)
            reports = await sender.getStats()
        videos = [unit for unit in sink.units if unit.is_video]
        assert videos[0].payload == aiortc_client.IDR
        assert videos[0].keyframe
        assert [unit.pts for unit in videos] == sorted(unit.pts for unit in videos)
        assert session.statistics().lost == 0
    await until(lambda: sink.reasons)
    assert sink.reasons == ["closed by the peer"]
    assert session.peer.state is PeerState.CLOSED
