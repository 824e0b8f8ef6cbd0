"""A named stream outlives its publishers, and is nobody's but theirs who may have it."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.errors import BadInput, NotFound, PeerRefused, Unavailable
from relay.gateway import live
from relay.gateway import path as module
from relay.gateway.path import TABLE
from relay.gateway.places import check_name
from relay.gateway.publisher import Wish
from relay.gateway.status import StreamState
from relay.media.unit import VIDEO_CLOCK
from relay.protocols.webrtc.client import WhipClient
from tests.gateway.desk import NAME, Desk, gateway
from tests.gateway.seller import Seller
from tests.live import LOOPBACK
from tests.network import eventually


@pytest.mark.parametrize("name", ["a", "cam-1", "_", "~x.y", "a" * 128, "out"])
def test_a_name_may_be_had(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", ".x", "a" * 129, "cam-out", "-out", "a b", "a/b", "ä", "a\n", "%41"]
)
def test_a_name_may_not_be_had(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_name(name)
    assert caught.value.code == "bad_name"


def test_the_table_covers_every_state() -> None:
    assert set(TABLE) == set(StreamState)
    reachable, todo = set[StreamState](), [StreamState.WAITING]
    while todo:
        state = todo.pop()
        if state not in reachable:
            reachable.add(state)
            todo += TABLE[state]
    assert reachable == set(StreamState)
    assert not TABLE[StreamState.ENDED]
    for state in set(StreamState) - {StreamState.ENDED}:
        assert StreamState.ENDED in TABLE[state], "a stream can be stopped at any time"
    for state in set(StreamState) - {StreamState.ENDED, StreamState.WAITING}:
        assert StreamState.WAITING in TABLE[state], "a publisher can leave at any time"


# --- takeover --------------------------------------------------------------------------


async def connect(desk: Desk, token: str | None = None) -> WhipClient:
    return await WhipClient.connect(desk.whip, token=token, settings=LOOPBACK)


async def test_the_same_key_takes_a_live_name_over_at_once() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller, publish_key="sesame") as desk,
    ):
        with pytest.raises(PeerRefused, match="401"):
            await connect(desk, "another")
        first = await connect(desk, "sesame")
        second = await connect(desk, "sesame")
        assert await first.wait_closed()
        assert desk.stream.state is StreamState.CONNECTING
        await first.close()
        assert desk.path.has_publisher, "the one that was put out takes nobody along"
        await second.close()


async def test_without_a_key_only_a_silent_publisher_gives_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SILENT", 0.3)
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming() as camera,
    ):
        await desk.live_at(seller)
        with pytest.raises(PeerRefused, match="409"):
            await connect(desk)
        assert desk.stream.state is StreamState.LIVE
        camera.paused = True
        await asyncio.sleep(0.5)
        other = await connect(desk)
        assert await camera.whip.wait_closed()
        await other.close()


async def test_of_two_that_race_for_a_name_one_gets_it() -> None:
    async with gateway() as desk:
        came = await asyncio.gather(connect(desk), connect(desk), return_exceptions=True)
        winners = [one for one in came if isinstance(one, WhipClient)]
        losers = [one for one in came if isinstance(one, PeerRefused)]
        assert (len(winners), len(losers)) == (1, 1)
        assert "409" in str(losers[0])
        await asyncio.sleep(0.1)
        assert winners[0].peer.close_reason == ""
        await winners[0].close()


async def test_a_refused_offer_leaves_a_running_stream_alone_and_no_idle_one_behind() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller, publish_key="sesame") as desk,
    ):
        for kind in ("publish", "play"):
            with pytest.raises(BadInput):
                await offer(desk, kind, "empty")
            assert desk.node.streams() == []
        whip = await connect(desk, "sesame")
        for kind in ("publish", "play"):
            with pytest.raises(BadInput):
                await offer(desk, kind, NAME)
        assert desk.stream.state is StreamState.CONNECTING
        assert whip.peer.close_reason == ""
        await whip.close()


async def offer(desk: Desk, kind: str, name: str) -> None:
    if kind == "publish":
        await desk.node.publish(name, "no offer", token="sesame")
    else:
        await desk.node.play(name, "no offer")


async def test_a_stream_that_is_stopped_while_it_is_being_answered_takes_nobody_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gateway() as desk:
        answer = desk.node._ingest.answer
        sessions = []

        async def slow(offer: str, sink: object) -> object:
            session = await answer(offer, sink)  # type: ignore[arg-type]
            sessions.append(session)
            await desk.node.stop_stream(NAME)
            return session

        monkeypatch.setattr(desk.node._ingest, "answer", slow)
        with pytest.raises(PeerRefused, match="503"):
            await connect(desk)
        assert sessions[0].is_closed
        assert desk.node.streams() == []


# --- viewers, publishers and the clock ----------------------------------------------------


async def test_viewers_outlive_publishers_and_their_clock_goes_on() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.watching() as viewer,
    ):
        assert desk.stream.state is StreamState.WAITING
        for _ in range(3):
            began = time.monotonic()
            async with desk.filming(audio=True):
                await viewer.sees(8, after=began)
            waiting = await desk.reaches(StreamState.WAITING)
            assert waiting.viewers == 1
            assert waiting.reason_code == "publisher_gone"
            assert waiting.input is None
        for units in (viewer.video, viewer.audio):
            stamps = [unit.pts for _, unit in units]
            assert stamps == sorted(set(stamps))
            times = [arrived for arrived, _ in units]
            assert (stamps[-1] - stamps[0]) / VIDEO_CLOCK < times[-1] - times[0] + 1.0
        assert len(seller.jobs) == 3


async def test_a_publisher_that_never_sends_a_key_frame_is_told_and_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEYFRAME_WARNING", 0.3)
    monkeypatch.setattr(module, "KEYFRAME_END", 1.2)
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.watching(),
        desk.filming() as camera,
    ):
        camera.keyframes = False
        told = await desk.reaches(StreamState.CONNECTING, "no_keyframe")
        assert told.reason.startswith("the publisher has sent no key frame for")
        assert told.reason_since is not None
        await camera.whip.wait_closed()
        waiting = await desk.reaches(StreamState.WAITING)
        assert "no key frame" in waiting.reason
        assert seller.posts == []


async def test_a_stream_that_nobody_publishes_says_so() -> None:
    async with gateway() as desk, desk.watching():
        assert desk.stream.state is StreamState.WAITING
        assert (desk.stream.reason_code, desk.stream.reason) == (
            "no_publisher",
            "nobody publishes it; its viewers wait 60 s for somebody",
        )
        async with desk.filming():
            assert desk.stream.reason_code != "no_publisher"


async def test_a_stream_that_is_not_live_has_nothing_to_change() -> None:
    async with gateway() as desk, desk.watching():
        for change in (
            desk.node.update(NAME, b"{}"),
            desk.node.set_model(NAME, "x", {}),
        ):
            with pytest.raises(NotFound) as caught:
                await change
            assert caught.value.code == "stream_not_live"


async def test_a_stopped_stream_ends_for_everyone() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.watching() as viewer,
        desk.filming() as camera,
    ):
        await desk.live_at(seller)
        path = desk.path
        await desk.node.stop_stream(NAME)
        assert viewer.client is not None
        await viewer.client.wait_closed()
        await camera.whip.wait_closed()
        await seller.jobs[0].over.wait()
        assert path.viewers == 0
        assert path.idle
        assert desk.node.streams() == []


async def test_a_name_is_free_at_once_though_its_last_job_takes_time_to_end() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
    ):
        seller.deaf = True
        async with desk.filming():
            await eventually(lambda: desk.stream.serving)
            stopping = asyncio.create_task(desk.node.stop_stream(NAME))
            await asyncio.sleep(0)
            seller.deaf = False
            async with desk.watching() as viewer, desk.filming():
                await viewer.sees(3)
                assert not stopping.done()
                await stopping
                seen = time.monotonic()
                await viewer.sees(3, after=seen)


async def test_a_job_that_breaks_each_time_is_a_failure_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.5)
    async with Seller().running() as seller, gateway(seller) as desk:

        async def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(desk.node.sellers, "choices", broken)
        async with desk.filming():
            failed = await desk.reaches(StreamState.FAILED)
            assert (failed.reason_code, failed.reason) == (
                "internal",
                "the gateway failed; trying again",
            )


async def test_where_not_even_another_job_can_be_begun_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(live.Live, "_not_found", broken)
    async with gateway() as desk, desk.filming():
        failed = await desk.reaches(StreamState.FAILED)
        assert (failed.reason_code, failed.reason) == (
            "internal",
            "the gateway failed; publish again",
        )


async def test_no_such_stream_is_not_found() -> None:
    async with gateway() as desk:
        with pytest.raises(NotFound) as caught:
            desk.node.stream("nobody")
        assert caught.value.code == "stream_not_found"
        for change in (desk.node.stop_stream("nobody"), desk.node.update("nobody", b"{}")):
            with pytest.raises(NotFound):
                await change


async def test_answering_takes_no_name_from_a_stopped_stream() -> None:
    """Its path is gone; a late viewer is told so, and a new one may come."""
    async with gateway() as desk:
        async with desk.watching():
            path = desk.path
            await desk.node.stop_stream(NAME)
        with pytest.raises(NotFound):
            await path.play("v=0")
        with pytest.raises((BadInput, Unavailable)):
            await path.publish("v=0", Wish("m", {}, "s", "r"))
        async with desk.watching():
            assert desk.stream.viewers == 1


# --- the end -----------------------------------------------------------------------------


async def test_a_stop_ends_the_job_when_sound_of_the_source_still_waits() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming(audio=True),
    ):
        await desk.reaches(StreamState.LIVE)
        path = desk.path

        def sound_waits() -> bool:
            return len(path.rendition._source_audio) > 0

        await eventually(sound_waits, every=0)
        await desk.node.stop_stream(NAME)
        await asyncio.wait_for(seller.jobs[0].over.wait(), 3)
        assert len(seller.jobs) == 1
