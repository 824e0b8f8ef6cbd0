"""Renditions out to viewers: who gets what, who is asked for a key frame, who is told the end."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import av
import pytest
from aiortc import MediaStreamTrack, RTCSessionDescription

from relay.errors import NotFound
from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.fanout import MAX_PAYLOAD
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rendition import (
    DECODED,
    GROUP_LIFE,
    KEYFRAME_INTERVAL,
    MAX_GROUP,
    MAX_GROUP_TIME,
    PUMPED,
    SOONER,
)
from relay.protocols.webrtc.rtcp import (
    Nack,
    PictureLoss,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
)
from relay.protocols.webrtc.srtp import SrtpError
from relay.protocols.webrtc.viewer import CATCH_UP_FIRST, CATCH_UP_RATE, MAX_BACKLOG
from tests.protocols.webrtc import encoded
from tests.protocols.webrtc.aiortc_client import connection, offer_of
from tests.protocols.webrtc.fake_peer import FakePeer, until
from tests.protocols.webrtc.show import Show


def numbers(peer: FakePeer) -> list[int]:
    return [packet.payload[0] for packet in peer.packets if packet.payload_type == 102]


async def test_a_viewer_before_any_picture_waits_for_the_first_key_frame(show: Show) -> None:
    peer = await show.join()
    assert show.wanted == 1
    show.picture()
    assert peer.rtp == []
    show.picture(keyframe=True)
    show.picture()
    assert numbers(peer) == [2, 3]


async def test_a_late_viewer_begins_with_the_group_at_once(show: Show) -> None:
    show.picture(keyframe=True)
    for _ in range(5):
        show.picture()
    peer = await show.join()
    assert numbers(peer) == [1, 2, 3, 4, 5, 6]
    show.picture()
    assert numbers(peer) == [1, 2, 3, 4, 5, 6, 7]
    assert show.wanted == 0


async def test_a_key_frame_begins_a_new_group(show: Show) -> None:
    show.picture(keyframe=True)
    show.picture()
    show.picture(keyframe=True)
    assert numbers(await show.join()) == [3]


async def test_nobody_is_started_from_what_is_over(show: Show) -> None:
    show.picture(keyframe=True)
    show.egress.forget("show")
    show.egress.forget("nobody")
    peer = await show.join()
    assert numbers(peer) == []
    show.picture(keyframe=True)
    assert numbers(peer) == [2]


async def test_a_viewer_with_much_to_catch_up_is_brought_to_the_edge(show: Show) -> None:
    show.picture(keyframe=True, packets=100)
    for _ in range(10):
        show.picture(packets=30)
    peer = await show.join()
    assert len(peer.rtp) < 400
    show.picture()
    await until(lambda: len(peer.rtp) == 401)
    show.picture()
    assert numbers(peer)[-2:] == [12, 13]


async def test_a_group_too_large_is_not_kept_and_a_key_frame_is_asked_for(show: Show) -> None:
    show.picture(keyframe=True)
    for _ in range(MAX_GROUP // (1000 * 500) + 1):
        show.picture(packets=500, size=1000)
    peer = await show.join()
    assert (peer.rtp, show.wanted) == ([], 1)
    show.picture(keyframe=True)
    assert len(peer.rtp) == 1


async def test_with_many_pictures_to_catch_up_a_key_frame_is_asked_for_as_well(show: Show) -> None:
    show.picture(keyframe=True)
    for _ in range(int(SOONER / DECODED)):
        show.picture()
    peer = await show.join()
    assert numbers(peer)[:2] == [1, 2], "it does not wait for it"
    assert show.wanted == 1
    await show.join()
    assert show.wanted == 1, "it may soon be there"
    show.picture(keyframe=True)
    assert numbers(await show.join()) == [show.number]
    assert show.wanted == 1


async def test_with_much_to_catch_up_likewise(show: Show) -> None:
    show.picture(keyframe=True)
    for _ in range(int(SOONER * CATCH_UP_RATE / (1000 * 100)) + 1):
        show.picture(packets=100, size=1000)
    peer = await show.join()
    assert len(peer.rtp) >= CATCH_UP_FIRST
    assert show.wanted == 1
    show.picture(keyframe=True)
    assert peer.packets[-1].payload[0] == show.number, "nobody needs what came before it"


async def test_a_group_too_long_is_not_kept(show: Show) -> None:
    show.picture(keyframe=True)
    show.number += MAX_GROUP_TIME // 3000
    show.picture()
    assert (await show.join()).rtp == []


async def test_a_picture_of_long_ago_is_not_shown_to_a_new_viewer(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    show.picture(keyframe=True)
    later = time.monotonic() + GROUP_LIFE
    monkeypatch.setattr(time, "monotonic", lambda: later)
    peer = await show.join()
    assert (peer.rtp, show.wanted) == ([], 1)


async def test_sound_waits_for_the_picture(show: Show) -> None:
    show.egress.frame("show", Codec.H264, [b"x"], 0)  # no key frame: nothing to begin with
    peer = await show.join()
    show.sound()
    assert peer.rtp == []
    show.picture(keyframe=True)
    show.sound()
    assert [packet.payload_type for packet in peer.packets] == [102, 111]


async def test_sound_does_not_wait_for_ever(show: Show) -> None:
    show.egress.frame("show", Codec.H264, [b"x"], 0)
    peer = await show.join()

    def heard() -> bool:
        show.sound()
        return bool(peer.rtp)

    await until(heard)
    assert {packet.payload_type for packet in peer.packets} == {111}


async def test_sound_flows_where_there_is_no_picture_at_all(show: Show) -> None:
    peer = await show.join()
    show.sound()
    assert [packet.payload for packet in peer.packets] == [b"opus"]


async def test_a_viewer_without_video_gets_sound_only() -> None:
    made = Show(video=False)
    peer = await made.join()
    made.picture(keyframe=True)
    made.sound()
    assert [packet.payload_type for packet in peer.packets] == [111]
    await made.egress.close("show", "over")


async def test_a_viewer_without_sound_gets_pictures_only() -> None:
    made = Show(audio=False)
    peer = await made.join()
    made.picture(keyframe=True)
    made.sound()
    assert numbers(peer) == [1]
    await made.egress.close("show", "over")


async def test_requests_for_a_key_frame_are_limited_however_many_ask(show: Show) -> None:
    show.picture(keyframe=True)
    peers = [await show.join() for _ in range(3)]
    pli = PictureLoss(1, 1000).serialise()
    for step in range(100):  # ten seconds
        for peer in peers:
            peer.on_rtcp(pli, 1000 + step / 10)
    assert show.wanted == 10 / KEYFRAME_INTERVAL
    assert show.egress.viewers("show")[0].keyframes_asked == 100


async def test_a_missing_packet_is_sent_again_to_who_asked(show: Show) -> None:
    first, second = await show.join(), await show.join()
    show.picture(keyframe=True, packets=3)
    wanted = first.packets[1]
    first.on_rtcp(Nack(1, 1000, (wanted.sequence,)).serialise(), 1.0)
    assert first.packets[-1].payload == wanted.sequence.to_bytes(2, "big") + wanted.payload
    assert (len(first.rtp), len(second.rtp)) == (4, 3)
    assert [one.resent for one in show.egress.viewers("show")] == [1, 0]


async def test_a_report_counts_whether_it_comes_alone_or_with_others(show: Show) -> None:
    alone, among = await show.join(), await show.join()
    show.picture(keyframe=True)
    report = ReceiverReport(1, (ReportBlock(1000, 64, 5, 0, 900, 0, 0),)).serialise()
    alone.on_rtcp(report, 1.0)
    among.on_rtcp(report + SourceDescription(((1, "a"),)).serialise(), 1.0)
    told = [(one.fraction_lost, one.jitter) for one in show.egress.viewers("show")]
    assert told == [(0.25, 0.01)] * 2


async def test_keys_that_fail_at_a_retransmission_end_the_viewer(show: Show) -> None:
    peer = await show.join()
    show.picture(keyframe=True)

    def refuse(packet: bytes) -> None:
        raise SrtpError("no key")

    peer.send_rtp = refuse
    peer.on_rtcp(Nack(1, 1000, (peer.packets[0].sequence,)).serialise(), 1.0)
    assert peer.close_reason == "SRTP failed: no key"


@pytest.mark.parametrize("data", [b"", b"\x80\xc9\x00\x09\0\0\0\1", b"\x00" * 40])
async def test_malformed_control_packets_change_nothing(show: Show, data: bytes) -> None:
    peer = await show.join()
    peer.on_rtcp(data, 1.0)
    show.picture(keyframe=True)
    assert numbers(peer) == [1]


async def test_a_viewer_whose_keys_fail_is_let_go_and_hurts_no_other(show: Show) -> None:
    good, bad = await show.join(), await show.join()

    def refuse(packet: bytes) -> bytes:
        raise SrtpError("no key")

    bad.srtp_protect = refuse
    show.picture(keyframe=True)
    show.picture()
    assert bad.state is PeerState.CLOSED
    assert numbers(good) == [1, 2]
    assert len(show.egress.viewers("show")) == 1
    for keyframe in (True, False):
        if not keyframe:
            show.picture(keyframe=True, packets=200)
        await show.egress.answer("show", "offer")
        late = show.peers.made[-1]
        late.srtp_protect = refuse
        late.connect()
        assert late.state is PeerState.CLOSED


async def test_a_viewer_whose_keys_fail_while_it_catches_up_is_let_go(show: Show) -> None:
    show.picture(keyframe=True, packets=200)
    show.picture(packets=200)
    peer = await show.join()

    def refuse(packet: bytes) -> bytes:
        raise SrtpError("no key")

    peer.srtp_protect = refuse
    await until(lambda: peer.state is PeerState.CLOSED)
    assert show.egress.viewers("show") == []


async def test_a_viewer_too_far_behind_waits_for_a_key_frame_which_is_asked_for(
    show: Show,
) -> None:
    show.picture(keyframe=True, packets=200, size=1000)
    show.picture(packets=200, size=1000)
    peer = await show.join()
    for _ in range(MAX_BACKLOG // (1000 * 500) + 1):
        show.picture(packets=500, size=1000)
    (one,) = show.egress.viewers("show")
    assert (one.state, show.wanted) == ("waiting", 1)
    sent = len(peer.rtp)
    show.picture()
    assert len(peer.rtp) == sent
    show.picture(keyframe=True)
    assert len(peer.rtp) == sent + 1


async def test_of_many_that_catch_up_some_are_served_a_step_and_all_in_turn(show: Show) -> None:
    show.picture(keyframe=True)
    for _ in range(60):
        show.picture(packets=4)
    peers = [await show.join() for _ in range(2 * PUMPED + 1)]
    known = show.egress._find("show")

    def progress() -> list[int]:
        before = [len(peer.rtp) for peer in peers]
        known.pump()
        return [n for n, peer in enumerate(peers) if len(peer.rtp) > before[n]]

    assert progress() == list(range(PUMPED))
    assert progress() == list(range(PUMPED, 2 * PUMPED))
    assert progress() == [*range(PUMPED - 1), 2 * PUMPED]
    await until(lambda: all(len(peer.rtp) == 241 for peer in peers))
    assert {viewer.state for viewer in show.egress.viewers("show")} == {"live"}


async def test_a_viewer_that_leaves_is_forgotten(show: Show) -> None:
    stays, leaves = await show.join(), await show.join()
    show.picture(keyframe=True)
    leaves.end("closed by the peer")
    show.picture()
    assert (numbers(stays), numbers(leaves)) == ([1, 2], [1])
    (one,) = show.egress.viewers("show")
    assert one.state == "live"


async def test_nothing_of_a_crowd_is_kept_when_all_have_left(show: Show) -> None:
    for _ in range(3):
        await show.join()
    show.step(keyframe=True)
    sessions = [weakref.ref(one) for one in show.egress._renditions["show"].sessions.values()]
    assert len(sessions) == 3
    while show.peers.made:
        show.peers.made.pop().end("closed by the peer")
    gc.collect()
    assert [one() for one in sessions] == [None] * 3


async def test_a_viewer_that_leaves_while_catching_up_is_forgotten(show: Show) -> None:
    show.picture(keyframe=True, packets=500)
    show.picture(packets=500)
    peer = await show.join()
    sent = len(peer.rtp)
    peer.end("closed by the peer")
    show.picture()
    assert len(peer.rtp) == sent
    assert show.egress.viewers("show") == []


async def test_sender_reports_tell_both_tracks_by_one_clock(show: Show) -> None:
    peer = await show.join()
    show.picture(keyframe=True)
    show.sound()
    await until(lambda: len(peer.control) >= 3)
    video, audio, names = peer.control[:3]
    assert isinstance(video, SenderReport)
    assert isinstance(audio, SenderReport)
    assert names == SourceDescription(((1000, "fake"), (2000, "fake")))
    assert (video.ssrc, video.packets, video.octets) == (1000, 1, 1)
    assert (audio.ssrc, audio.packets, audio.octets) == (2000, 1, 4)
    assert video.ntp == audio.ntp
    seen, heard = peer.packets
    ticks = (video.timestamp - seen.timestamp) & 0xFFFFFFFF
    samples = (audio.timestamp - heard.timestamp) & 0xFFFFFFFF
    assert ticks / 90_000 == pytest.approx(samples / 48_000, abs=1e-3)


async def test_nobody_is_looked_after_before_a_report_is_due(show: Show) -> None:
    def wait() -> float:
        return show.egress._timer_at - asyncio.get_running_loop().time()

    show.picture(keyframe=True)
    peer = await show.join()
    await until(lambda: wait() > 0.5)
    assert [packet for packet in peer.control if isinstance(packet, SenderReport)]
    (rendition,) = show.egress._renditions.values()
    (session,) = rendition.sessions.values()
    rendition.pause(session)
    assert wait() < 0.2, "it is asked soon whether its link is good again"


async def test_no_report_for_a_track_that_has_sent_nothing(show: Show) -> None:
    peer = await show.join()
    show.sound()
    await until(lambda: peer.control)
    assert [type(packet) for packet in peer.control[:2]] == [SenderReport, SourceDescription]
    assert isinstance(peer.control[0], SenderReport)
    assert peer.control[0].ssrc == 2000


async def test_a_unit_that_fits_into_no_packet_is_dropped(show: Show) -> None:
    peer = await show.join()
    show.egress.frame("show", Codec.OPUS, [b"x" * (MAX_PAYLOAD + 1)], 0)
    show.egress.frame("show", Codec.OPUS, [], 0)
    assert peer.rtp == []


async def test_viewers_are_counted_as_they_come_and_go(show: Show) -> None:
    assert show.egress.count("show") == 0
    peers = [await show.join() for _ in range(3)]
    assert show.egress.count("show") == len(show.egress.viewers("show")) == 3
    peers[0].end("gone")
    assert show.egress.count("show") == 2
    with pytest.raises(NotFound):
        show.egress.count("another")


async def test_viewers_come_in_pages_in_the_order_in_which_they_came(show: Show) -> None:
    for _ in range(5):
        await show.join()
    ids = [viewer.id for viewer in show.egress.viewers("show")]

    def page(limit: int, after: str) -> list[str]:
        found = show.egress.viewers("show", limit=limit, after=lambda one: one == after)
        return [viewer.id for viewer in found]

    assert page(2, "") == ids[:2]
    assert page(2, ids[1]) == ids[2:4]
    assert page(2, ids[3]) == ids[4:]
    assert page(2, ids[4]) == []
    assert page(2, "one that left") == ids[:2]


async def test_when_a_rendition_ends_its_viewers_are_told(show: Show) -> None:
    peer = await show.join()
    session = await show.egress.answer("show", "offer")
    await show.egress.close("show", "the stream has ended")
    assert peer.state is PeerState.CLOSED
    assert await session.wait_closed() == "the stream has ended"
    with pytest.raises(NotFound):
        show.picture()
    with pytest.raises(NotFound):
        await show.egress.answer("show", "offer")
    with pytest.raises(NotFound):
        show.egress.viewers("show")
    await show.egress.close("show", "again")


async def test_a_rendition_that_ends_while_a_viewer_is_let_in_ends_it_too(show: Show) -> None:
    answer = show.peers.answer

    async def slow(offer: str, *, receive: bool) -> object:
        await show.egress.close("show", "over")
        return await answer(offer, receive=receive)

    show.peers.answer = slow  # type: ignore[method-assign, assignment]
    with pytest.raises(NotFound):
        await show.egress.answer("show", "offer")
    assert show.peers.made[0].state is PeerState.CLOSED


async def test_opening_again_changes_only_who_is_asked_for_key_frames(show: Show) -> None:
    peer = await show.join()
    asked: list[int] = []
    show.egress.open("show", on_keyframe_wanted=lambda: asked.append(1))
    peer.on_rtcp(PictureLoss(1, 1000).serialise(), 10**9)
    assert (asked, show.wanted) == ([1], 1)
    show.picture(keyframe=True)
    assert numbers(peer) == [1]


# -- over a real socket, with aiortc at the other end


async def picture_of(track: MediaStreamTrack) -> av.VideoFrame:
    frame = await track.recv()
    assert isinstance(frame, av.VideoFrame)
    return frame


async def test_aiortc_plays_what_it_gets_from_the_group_and_live(peers: Peers) -> None:
    egress = Egress(peers)
    egress.open("show", on_keyframe_wanted=lambda: None)
    made = encoded.pictures(40)
    number = 0

    def send() -> None:
        nonlocal number
        annexb, keyframe = made[number]
        egress.frame("show", Codec.H264, packetize(annexb), number * 3000, keyframe=keyframe)
        egress.frame("show", Codec.OPUS, [b"\xf8\xff\xfe"], number * 1600)
        number += 1

    for _ in range(20):
        send()
    async with connection() as client:
        for kind in ("video", "audio"):
            client.addTransceiver(kind, direction="recvonly")
        session = await egress.answer("show", await offer_of(client))
        await client.setRemoteDescription(RTCSessionDescription(sdp=session.answer, type="answer"))
        video, audio = (one.receiver.track for one in client.getTransceivers())
        await until(lambda: session.peer.state is PeerState.CONNECTED)
        async with asyncio.timeout(10):
            frames = [await picture_of(video) for _ in range(15)]
            while number < 40:
                send()
                await asyncio.sleep(0.01)
            frames += [await picture_of(video) for _ in range(20)]
            sound = await audio.recv()
            assert isinstance(sound, av.AudioFrame)
            assert sound.samples == 960
        bright = [int(frame.to_ndarray(format="gray")[100, 100]) for frame in frames]
        assert bright == sorted(bright)
        assert len(set(bright)) > 25
        assert frames[0].width == encoded.WIDTH
        (seen,) = egress.viewers("show")
        assert seen.packets >= 60
        await egress.close("show", "the stream has ended")
        await until(lambda: client.connectionState == "closed")
