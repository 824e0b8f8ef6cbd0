"""Publishers in another process send, are asked and end as those of the gateway's own."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.errors import NotFound, PreconditionFailed, RelayError
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.ingest import IngestSession
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.processes import ingests, process
from relay.protocols.webrtc.rtp import RtpPacket
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.bridge import Bridge, detour
from tests.protocols.webrtc.nat import Nat
from tests.protocols.webrtc.processes.hall import until
from tests.protocols.webrtc.processes.pier import Caller, Landing, pier
from tests.protocols.webrtc.test_viewer_moves import is_check


def told(units: list[AccessUnit]) -> list[tuple[Codec, bytes, int, bool]]:
    """All but when they came."""
    first = units[0].pts
    return [(unit.codec, unit.payload, unit.pts - first, unit.keyframe) for unit in units]


async def show(publishers: list[Caller], *, keyframe: bool = False) -> None:
    for publisher in publishers:
        await publisher.show(keyframe=keyframe)


@pytest.mark.parametrize("native", [True, False])
async def test_what_a_publisher_elsewhere_sends_is_what_one_here_does(native: bool) -> None:
    async with pier(native=native) as made:
        await made.started()
        both = [await made.publisher(1), await made.publisher(0)]
        there, here = both
        await show(both, keyframe=True)
        for number in range(20):
            await show(both, keyframe=number == 12)
        assert told(there.sink.units) == told(here.sink.units)
        assert [unit.keyframe for unit in there.sink.units].count(True) == 2
        arrivals = [unit.arrival for unit in there.sink.units]
        assert arrivals == sorted(arrivals)
        assert 0 <= time.monotonic() - arrivals[-1] < 5, "one clock"
        assert (there.session.has_video, there.session.has_audio) == (True, False)
        await until(lambda: there.session.statistics().packets == here.session.statistics().packets)
        seen, own = there.session.statistics(), here.session.statistics()
        assert (seen.width, seen.height) == (own.width, own.height) == (1280, 720)
        assert seen.lost == own.lost == 0
        assert seen.last_arrival is not None
        assert seen.keyframe_age is not None
        assert own.keyframe_age is not None
        assert abs(seen.keyframe_age - own.keyframe_age) < 1


async def test_sound_comes_too() -> None:
    async with pier() as made:
        await made.started()
        publisher = await made.publisher(1, audio=True)
        track = publisher.peer.audio
        assert track is not None
        assert publisher.session.has_audio
        for number in range(10):
            packet = RtpPacket(
                track.payload_type, False, number, number * 960, track.ssrc, b"\xfc" + bytes(40)
            )
            await publisher.send([publisher.seal(packet)])
        await until(lambda: len(publisher.sink.units) >= 9)
        assert {unit.codec for unit in publisher.sink.units} == {Codec.OPUS}


async def test_what_is_lost_on_the_way_there_is_asked_for_and_comes() -> None:
    async with pier() as made:
        await made.started()
        publisher = await made.publisher(1)
        await publisher.show(keyframe=True)
        datagrams = publisher.sealed(size=6000)
        await publisher.send([*datagrams[:1], *datagrams[2:]])
        await publisher.seen(1)
        assert len(publisher.asked) == 1
        await until(lambda: publisher.session.statistics().nacks == 1)
        await publisher.show()
        assert publisher.numbers == [0, 1, 2]


async def test_a_publisher_elsewhere_is_asked_for_a_key_frame_restarts_and_leaves() -> None:
    async with pier() as made:
        process = await made.started()
        publisher = await made.publisher(1)
        session = publisher.session
        await publisher.show(keyframe=True)
        wanted = publisher.wanted
        session.request_keyframe()
        await until(lambda: publisher.wanted > wanted)
        # PATCH: candidates, another generation's tag, and a restart.
        etag = session.etag
        assert (await session.patch(b"a=end-of-candidates\r\n", etag)).status == 204
        with pytest.raises(PreconditionFailed):
            await session.patch(b"a=end-of-candidates\r\n", '"other"')
        answer = await session.patch(b"a=ice-ufrag:abcd\r\na=ice-pwd:" + b"p" * 22 + b"\r\n", etag)
        assert answer.status == 200
        assert answer.etag == session.etag != etag
        assert process.publishers == 1
        await session.close("enough")
        assert publisher.landing.ended == ["enough"]
        await reach(publisher.peer, PeerState.CLOSED)
        with pytest.raises(NotFound) as caught:
            await session.patch(b"", session.etag)
        assert caught.value.code == "session_ended"
        await until(lambda: not process.publishers)
        session.request_keyframe()  # nobody is there, and nothing happens
        assert publisher.landing.ended == ["enough"], "it is told once"


async def test_a_publisher_that_leaves_by_itself_is_told_of() -> None:
    async with pier() as made:
        process = await made.started()
        publisher = await made.publisher(1)
        await publisher.show(keyframe=True)
        await publisher.peer.close("I go")
        await until(lambda: publisher.landing.ended)
        assert publisher.landing.ended == ["closed by the peer"] == [publisher.session.close_reason]
        assert process.publishers == 0


async def test_an_offer_that_is_refused_is_refused_there_too() -> None:
    async with pier() as made:
        process = await made.started()
        found = []
        for made.where in (1, 0):
            sink = Landing()
            with pytest.raises(RelayError) as caught:
                await made.ingest.answer("v=0\r\n", sink)
            found.append((type(caught.value), caught.value.code, str(caught.value)))
            assert not sink.ended
        assert found[0] == found[1]
        assert process.publishers == 0


async def test_a_publisher_elsewhere_that_has_moved_goes_on() -> None:
    async with pier() as made:
        await made.started()
        router = Nat((made.peers.udp.host, made.peers.udp.port))
        await router.open()
        try:
            publisher = await made.publisher(
                1, through=lambda answer: detour(answer, router.inward)
            )
            await publisher.show(keyframe=True)
            await publisher.show()
            router.hold = is_check  # no check of its own tells of it
            for _ in range(2):
                await router.rebind()
                first, tried = publisher.sender.number, 0
                while publisher.numbers[-1] < first:
                    assert tried < 33, "a second of its stream"
                    await publisher.send(publisher.sealed(keyframe=True))
                    await asyncio.sleep(0.03)
                    tried += 1
                await publisher.show(keyframe=True)
        finally:
            router.close()


async def test_a_publisher_by_tcp_alone_may_be_elsewhere() -> None:
    async with pier(tcp_port=0, consent_timeout=2.0) as made:
        await made.started()
        assert made.peers.tcp is not None
        bridge = Bridge((made.peers.udp.host, made.peers.tcp.port))
        await bridge.open()
        publisher = await made.publisher(1, through=bridge.through)
        await publisher.show(keyframe=True)
        for _ in range(5):
            await publisher.show()
        assert publisher.numbers == list(range(6))
        bridge.writer.transport.abort()
        await until(lambda: publisher.landing.ended)
        assert publisher.landing.ended == ["no sign of life"]
        await bridge.close()


async def test_publishers_are_spread_and_the_first_waits_for_a_process() -> None:
    async with pier() as made:
        assert not made.ingest._ready()
        await made.publisher(None)
        await made.started(1)
        await made.started(2)
        for _ in range(3):
            publisher = await made.publisher(None)
            await publisher.show(keyframe=True)
        assert made.ingest.here() == 0
        status = made.ingest.status()
        assert [(one.kind, one.number, one.publishers, one.viewers) for one in status] == [
            ("ingest", 1, 2, 0),
            ("ingest", 2, 2, 0),
        ]


async def test_where_no_process_starts_the_gateway_receives_after_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingests, "PATIENCE", 0.2)
    monkeypatch.setattr(process, "PROGRAMS", "nothing")
    async with pier() as made:
        publisher = await made.publisher(None)
        await publisher.show(keyframe=True)
        assert isinstance(publisher.session, IngestSession)
        assert made.ingest.here() == 1


async def test_without_such_a_setting_all_are_received_here() -> None:
    async with pier(ingest_processes=0) as made:
        publisher = await made.publisher(None)
        await publisher.show(keyframe=True)
        assert isinstance(publisher.session, IngestSession)
        assert publisher.session.process == 0
        assert made.ingest.here() == 1
        assert made.ingest.status() == []
