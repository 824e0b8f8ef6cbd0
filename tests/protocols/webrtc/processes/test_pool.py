"""Viewers in another process see, ask and end as those of the gateway's own."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiortc import RTCSessionDescription

from relay.errors import NotFound, PreconditionFailed, PreconditionRequired, RelayError
from relay.media.unit import Codec
from relay.protocols.webrtc import sdpfrag
from relay.protocols.webrtc.h264_payload import packetize
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.processes.session import FarViewer
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, compound
from tests.protocols.webrtc import encoded, offers
from tests.protocols.webrtc.aiortc_client import connection, offer_of, reach
from tests.protocols.webrtc.bridge import Bridge
from tests.protocols.webrtc.processes.hall import SHOW, hall, until


@pytest.mark.parametrize("native", [True, False])
async def test_a_viewer_elsewhere_sees_what_one_here_does(native: bool) -> None:
    async with hall(native=native) as made:
        await made.started()
        first = made.picture(keyframe=True)
        made.picture()
        there, here = await made.watcher(1), await made.watcher(0)
        await until(lambda: len(there.pictures) >= 2 and len(here.pictures) >= 2)
        for _ in range(20):
            made.picture()
            made.sound()
            await asyncio.sleep(0.002)
        await until(lambda: made.number in there.pictures and made.number in here.pictures)
        expected = list(range(first, made.number + 1))
        assert there.pictures == expected == here.pictures
        await until(lambda: there.sounds == here.sounds == 20)
        assert made.wanted == 0


async def test_a_viewer_elsewhere_asks_restarts_and_leaves() -> None:
    async with hall() as made:
        process = await made.started()
        made.picture(keyframe=True)
        viewer = await made.watcher(1)
        peer, session = viewer.peer, viewer.session
        made.picture()
        await until(lambda: len(viewer.pictures) >= 2)
        # NACK: the packet comes again, as RTX.
        assert peer.video is not None
        source = viewer.ssrc
        peer.send_rtcp(compound([Nack(peer.video.ssrc, source, (viewer.sequences[-1],))]))
        await until(lambda: -1 in viewer.sequences)
        # PLI: a key frame is asked of the publisher.
        assert made.wanted == 0
        peer.send_rtcp(compound([PictureLoss(peer.video.ssrc, source)]))
        await until(lambda: made.wanted == 1)
        # PATCH: candidates, another generation's tag, and a restart.
        etag = session.etag
        assert (await session.patch(b"a=end-of-candidates\r\n", etag)).status == 204
        with pytest.raises(PreconditionFailed):
            await session.patch(b"a=end-of-candidates\r\n", '"other"')
        with pytest.raises(PreconditionRequired):
            await session.patch(b"a=end-of-candidates\r\n", None)
        answer = await session.patch(b"a=ice-ufrag:abcd\r\na=ice-pwd:" + b"p" * 22 + b"\r\n", etag)
        assert answer.status == 200
        assert answer.body is not None
        assert "a=ice-ufrag:" in answer.body
        assert answer.etag == session.etag != etag
        # What it is like, and its end.
        [told] = await made.egress.viewers(SHOW)
        assert (told.id, told.process) == (session.id, 1)
        assert told.packets >= 2
        assert (told.nacked, told.keyframes_asked) == (1, 1)
        await session.close("enough")
        await reach(peer, PeerState.CLOSED)
        assert session.close_reason == "enough"
        with pytest.raises(NotFound) as caught:
            await session.patch(b"", etag)
        assert caught.value.code == "session_ended"
        await until(lambda: not process.viewers)
        assert made.egress.count(SHOW) == 0
        assert not process.feeds  # nothing is sent where nobody watches


async def test_an_offer_that_comes_as_the_last_viewer_leaves_is_answered_and_begins_anew() -> None:
    async with hall(egress_processes=1) as made:
        process = await made.started()
        for _ in range(20):
            made.picture(keyframe=True)
            session = await made.egress.answer(SHOW, offers.viewer())
            assert isinstance(session, FarViewer)
            await session.close("enough")
        number = made.picture(keyframe=True)
        viewer = await made.watcher(1)
        await until(lambda: number in viewer.pictures)
        assert [feed.viewers for feed in process.feeds.values()] == [1]


async def test_a_restart_is_followed_by_the_viewer() -> None:
    async with hall() as made:
        await made.started()
        made.picture(keyframe=True)
        viewer = await made.watcher(1)
        ufrag, pwd = viewer.peer.ice.renew(0.0)
        text = f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n".encode()
        answer = await viewer.session.patch(text, viewer.session.etag)
        fragment = sdpfrag.parse((answer.body or "").encode())
        assert fragment.ufrag is not None
        assert fragment.pwd is not None
        viewer.peer.ice.set_remote(fragment.ufrag, fragment.pwd)
        place = (made.peers.udp.host, made.peers.udp.port)
        viewer.peer.ice.check_addresses([place], time.monotonic())
        assert fragment.ufrag.encode() in made.peers.udp._by_ufrag
        path = viewer.peer.ice.selected
        assert path is not None
        asked = viewer.peer.ice.statistics.answered
        await until(lambda: path.answered is not None and path.theirs.ufrag == fragment.ufrag)
        await until(lambda: viewer.peer.ice.statistics.answered > asked)  # the process's own check
        number = made.picture()
        await until(lambda: number in viewer.pictures)


async def test_an_offer_that_is_refused_is_refused_there_too() -> None:
    async with hall() as made:
        process = await made.started()
        with pytest.raises(RelayError) as caught:
            await made.egress.answer(SHOW, "v=0\r\n")
        made.where = 0
        with pytest.raises(type(caught.value)) as here:
            await made.egress.answer(SHOW, "v=0\r\n")
        assert (caught.value.code, str(caught.value)) == (here.value.code, str(here.value))
        assert not process.feeds
        with pytest.raises(NotFound):
            await made.egress.answer("nothing", "v=0\r\n")


async def test_viewers_of_all_processes_are_one_list_in_the_order_they_came() -> None:
    async with hall() as made:
        await made.started(1)
        await made.started(2)
        viewers = [await made.watcher(where) for where in (1, 0, 2, 1)]
        ids = [viewer.session.id for viewer in viewers]
        found = await made.egress.viewers(SHOW)
        assert [told.id for told in found] == ids
        assert [told.process for told in found] == [1, 0, 2, 1]
        page = await made.egress.viewers(SHOW, limit=2, after=lambda key: key == ids[0])
        assert [told.id for told in page] == ids[1:3]
        assert made.egress.count(SHOW) == 4
        status = made.egress.status()
        assert [(told.number, told.viewers) for told in status] == [(0, 1), (1, 2), (2, 1)]
        assert len({told.pid for told in status}) == 3


async def test_the_end_of_a_stream_is_told_to_viewers_everywhere() -> None:
    async with hall() as made:
        await made.started()
        viewer = await made.watcher(1)
        await made.egress.close(SHOW, "the stream was stopped")
        assert viewer.session.close_reason == "the stream was stopped"
        await reach(viewer.peer, PeerState.CLOSED)
        assert viewer.peer.close_reason == "closed by the peer"
        made.egress.open(SHOW, on_keyframe_wanted=lambda: None)


async def test_what_a_process_did_not_look_at_is_told_with_the_rest() -> None:
    async with hall() as made:
        process = await made.started()
        viewer = await made.watcher(1)
        for number in range(300):  # more than a handshake takes
            viewer.peer.transmit(b"\x16" + bytes(40))
            if number % 10 == 9:
                await asyncio.sleep(0.005)
        await until(lambda: process.unread["dtls"] > 0)
        assert dict(made.egress.unread()) == {0: made.peers.dropped, process: process.unread}
        assert made.peers.dropped["dtls"] == 0


async def test_a_viewer_that_says_nothing_more_is_given_up() -> None:
    async with hall(consent_timeout=1.0) as made:
        process = await made.started()
        viewer = await made.watcher(1)
        viewer.mine.udp.close()  # as a browser that is killed
        await until(lambda: viewer.session.is_closed)
        assert viewer.session.close_reason == "no sign of life"
        assert process.viewers == 0


async def test_a_viewer_by_tcp_alone_may_be_elsewhere() -> None:
    async with hall(tcp_port=0, consent_timeout=2.0) as made:
        await made.started()
        made.picture(keyframe=True)
        assert made.peers.tcp is not None
        bridge = Bridge((made.peers.udp.host, made.peers.tcp.port))
        await bridge.open()
        viewer = await made.watcher(1, through=bridge.through)
        number = made.picture()
        await until(lambda: number in viewer.pictures)
        await until(lambda: any(report[1] == 200 for report in viewer.reports))
        bridge.writer.transport.abort()
        await until(lambda: viewer.session.is_closed)
        assert viewer.session.close_reason == "no sign of life"
        await bridge.close()


async def test_aiortc_plays_what_a_process_sends() -> None:
    async with hall() as made, connection() as client:
        await made.started()
        pictures = encoded.pictures(40)
        number = 0

        def send() -> None:
            nonlocal number
            annexb, keyframe = pictures[number]
            payloads = packetize(annexb)
            made.egress.frame(SHOW, Codec.H264, payloads, number * 3000, keyframe=keyframe)
            number += 1

        for _ in range(20):
            send()
        client.addTransceiver("video", direction="recvonly")
        session = await made.egress.answer(SHOW, await offer_of(client))
        assert isinstance(session, FarViewer)
        await client.setRemoteDescription(RTCSessionDescription(sdp=session.answer, type="answer"))
        [track] = [one.receiver.track for one in client.getTransceivers()]
        async with asyncio.timeout(10):
            for _ in range(15):  # of the kept group, which went there with the first viewer
                await track.recv()
            while number < 40:
                send()
                await asyncio.sleep(0.01)
            for _ in range(15):
                await track.recv()
        await session.close("enough")
