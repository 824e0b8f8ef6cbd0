"""A live job finds a seller, leaves one that fails, and never takes a fault of ours for its."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp
import pytest

from relay.errors import TooLarge, Unavailable, Unprocessable
from relay.gateway import dispatcher, publisher, session, watch
from relay.gateway.moves import KEPT
from relay.gateway.sellers import Started
from relay.gateway.status import StreamState
from relay.media.h264 import join_annexb
from relay.media.mpegts import Muxer
from relay.media.segmenter import Segmenter
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.rpc.events import EXTENSION_KEYFRAME, KEYFRAME_MESSAGE
from tests.gateway.desk import NAME, Desk, gateway
from tests.gateway.seller import Job, Seller, changed, echo, echo_and_stay, silent, stops_after
from tests.media.samples import PPS, idr_slice, picture
from tests.network import eventually

# 1280x720, where the camera's is 320x180.
OTHER_SPS = bytes.fromhex("6742c01fda014016e840000003004000000f23c60ca8")
SCHEMA = {"type": "object", "properties": {"strength": {"type": "number", "maximum": 1}}}


# --- sellers that fail -----------------------------------------------------------------


async def test_a_seller_that_never_sends_a_picture_is_left() -> None:
    async with (
        Seller(silent).running() as mute,
        Seller().running() as good,
        gateway(mute, good) as desk,
        desk.filming(),
    ):
        await desk.live_at(good)
        assert desk.codes == ["no_first_picture"]
        assert desk.stream.swaps == 1
        assert mute.jobs[0].units, "the input did flow"
        await mute.jobs[0].over.wait()


async def test_a_seller_whose_output_stops_is_left_and_the_viewer_stays() -> None:
    async with (
        Seller(stops_after(20)).running() as tired,
        Seller().running() as good,
        gateway(tired, good) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(good)
        assert desk.codes == ["no_output"]
        assert (StreamState.SWITCHING, "no_output") in desk.history
        await viewer.sees(30)


async def test_why_it_moved_and_from_where_to_where_is_told_when_all_is_well_again() -> None:
    began = time.time()
    async with (
        Seller(stops_after(20)).running() as tired,
        Seller().running() as good,
        gateway(tired, good) as desk,
        desk.filming(),
    ):
        now = await desk.live_at(good)
        assert (now.reason_code, now.swaps) == ("", 1)
        (move,) = now.moves
        assert (move.code, move.left, move.taken_by) == ("no_output", tired.url, good.url)
        assert move.words == "no picture for 0.5 seconds while input flows"
        assert began < move.at < time.time()
        assert move.dark is not None
        assert 0.4 < move.dark < time.time() - began, "with the time in which nobody knew of it"


async def test_of_many_moves_the_last_few_are_told_and_all_are_counted() -> None:
    async with (
        Seller(stops_after(3)).running() as tired,
        gateway(tired, output_timeout=0.25) as desk,
        desk.filming(),
    ):
        now = await eventually(lambda: desk.stream if desk.stream.swaps > KEPT + 1 else None)
        assert len(now.moves) == KEPT
        assert all(move.taken_by == tired.url for move in now.moves[:-1])
        assert [move.at for move in now.moves] == sorted(move.at for move in now.moves)


@pytest.mark.parametrize("part", ["run", "open", "feed"])
async def test_what_breaks_in_one_job_of_ours_ends_no_stream(
    part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As sockets of the event loop that are mixed up, which is nothing that we could foresee."""
    whole, broken = getattr(session.OrchestratorSession, part), 0

    def breaks(self: session.OrchestratorSession, *words: object) -> object:
        nonlocal broken
        broken += 1
        if broken == 1:
            raise RuntimeError("File descriptor 22 is used by transport")
        return whole(self, *words)

    async with Seller().running() as seller, gateway(seller) as desk:
        monkeypatch.setattr(session.OrchestratorSession, part, breaks)
        async with desk.filming(), desk.watching() as viewer:
            await desk.live_at(seller)
            await viewer.sees(20)
            assert broken > 1
    assert "RuntimeError: File descriptor 22" in caplog.text


async def test_a_search_that_breaks_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Seller().running() as seller, gateway(seller) as desk:
        whole, broken = desk.node.sellers.start, 0

        async def breaks(*words: Any, **more: Any) -> Started:
            nonlocal broken
            broken += 1
            if broken == 1:
                raise RuntimeError("what nobody foresaw")
            return await whole(*words, **more)

        monkeypatch.setattr(desk.node.sellers, "start", breaks)
        async with desk.filming(), desk.watching() as viewer:
            await viewer.sees(20)
            assert broken == 2
    assert "what nobody foresaw" in caplog.text


async def test_a_seller_that_takes_no_input_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "Segmenter", partial(Segmenter, min_duration=0.05))
    async with (
        Seller().running() as deaf,
        Seller().running() as good,
        gateway(deaf, good, start_timeout=20) as desk,
        desk.filming(),
    ):
        deaf.deaf = True
        await desk.live_at(good)
        assert desk.codes == ["slow_input"]


@pytest.mark.parametrize("channel", ["in", "out", "control", "events"])
async def test_a_seller_that_closes_a_channel_is_left(channel: str) -> None:
    async with (
        Seller(echo_and_stay).running() as closing,
        Seller().running() as good,
        gateway(closing, good) as desk,
        desk.filming(),
    ):
        await desk.live_at(closing)
        # That of the input ends the whole job at every orchestrator; here only itself.
        closing.jobs[0].seller.trickle._callbacks.clear()
        await closing.jobs[0].close(channel)
        await desk.live_at(good)
        words = {"in": "input", "out": "output"}
        assert desk.codes == [f"{words.get(channel, channel)}_closed"]


async def garbage(job: Job) -> None:
    async for unit in job.pictures():
        writer = job.output.begin()
        writer.write(bytes([unit.pts % 256]) * 700)
        writer.end()


async def no_key_frames(job: Job) -> None:
    """Another stream's transport stream, from the middle of its group."""
    muxer = Muxer(audio=False)
    writer = job.output.begin()
    writer.write(muxer.tables())
    async for unit in job.pictures():
        writer.write(muxer.write(picture(unit.pts)))


async def sound_only(job: Job) -> None:
    muxer = Muxer(audio=True)
    writer = job.output.begin()
    writer.write(muxer.tables())
    async for unit in job.pictures():
        if not unit.is_video:
            writer.write(muxer.write(unit))


@pytest.mark.parametrize("work", [garbage, no_key_frames, sound_only])
async def test_output_that_cannot_be_shown_is_none(work: object) -> None:
    async with (
        Seller(work).running() as bad,  # type: ignore[arg-type]
        Seller().running() as good,
        gateway(bad, good) as desk,
        desk.filming(audio=True),
    ):
        await desk.live_at(good)
        assert desk.codes == ["no_first_picture"]


async def jumps_ahead(job: Job) -> None:
    """After 20 pictures its clock is an hour ahead."""
    hour = 3600 * VIDEO_CLOCK
    async for unit in job.pictures():
        ahead = len(job.units) > 20
        job.show(replace(unit, pts=unit.pts + hour) if ahead else unit)


async def test_a_clock_that_jumps_in_mid_job_does_not_end_the_picture_of_the_next() -> None:
    async with (
        Seller(jumps_ahead).running() as bad,
        Seller().running() as good,
        gateway(bad, good) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(good)
        assert desk.codes == ["no_output"]
        moved = time.monotonic()
        await viewer.sees(20, after=moved)
        spread = viewer.video[-1][1].pts - viewer.video[0][1].pts
        assert spread < 60 * VIDEO_CLOCK


async def test_a_clock_of_its_own_is_laid_on_the_streams_own() -> None:
    def own_clock(unit: AccessUnit) -> AccessUnit:
        return replace(unit, pts=unit.pts + 5000 * VIDEO_CLOCK)

    async with (
        Seller(stops_after(20)).running() as first,
        Seller(changed(own_clock)).running() as second,
        gateway(first, second) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(second)
        moved = time.monotonic()
        await viewer.sees(20, after=moved)
        assert desk.path.rendition.foreign == 1
        stamps = [unit.pts for _, unit in viewer.video]
        assert stamps == sorted(set(stamps))
        assert stamps[-1] - stamps[0] < 60 * VIDEO_CLOCK


async def from_zero(job: Job) -> None:
    """Its clock begins with each job, which early in a stream looks like the stream's."""
    first: int | None = None
    async for unit in job.pictures():
        first = unit.pts - 7 if first is None else first
        job.show(replace(unit, pts=unit.pts - first))


async def test_a_clock_that_begins_with_the_job_is_not_taken_for_old_pictures() -> None:
    async with (
        Seller(stops_after(30)).running() as first,
        Seller(from_zero).running() as second,
        gateway(first, second) as desk,
        desk.filming(),
    ):
        await desk.live_at(second)
        assert desk.codes == ["no_output"]
        assert desk.path.rendition.foreign == 1


async def test_output_that_repeats_what_was_seen_is_left_out_and_a_key_frame_asked_for() -> None:
    """The kept group goes to the next worker, so its first pictures are old ones."""
    async with (
        Seller(stops_after(40)).running() as first,
        Seller().running() as second,
        gateway(first, second) as desk,
        desk.filming() as camera,
        desk.watching() as viewer,
    ):
        # The one that the viewer needs is asked for.
        camera.key_every = 10_000
        await desk.live_at(second)
        moved = time.monotonic()
        await viewer.sees(20, after=moved)
        stamps = [unit.pts for _, unit in viewer.video]
        assert stamps == sorted(set(stamps))
        assert desk.path.rendition.foreign == 0


async def other_size(job: Job) -> None:
    async for unit in job.pictures():
        payload = join_annexb([OTHER_SPS, PPS, idr_slice()]) if unit.keyframe else unit.payload
        job.show(replace(unit, payload=payload))


async def test_output_of_another_size_is_shown_as_it_is() -> None:
    async with Seller(other_size).running() as seller, gateway(seller) as desk, desk.filming():
        status = await desk.live_at(seller)
        assert status.output is not None
        assert (status.output.width, status.output.height) == (1280, 720)
        assert status.input is not None
        assert (status.input.width, status.input.height) == (320, 180)


async def dies_at_once(job: Job) -> None:
    async for unit in job.pictures():
        job.show(unit)
        if len(job.units) > 3:
            return


async def test_a_seller_that_dies_after_each_first_picture_is_not_asked_without_end() -> None:
    async with (
        Seller(dies_at_once).running() as seller,
        gateway(seller) as desk,
        desk.filming(),
    ):
        await eventually(lambda: len(seller.jobs) >= 2)
        before = len(seller.posts)
        await asyncio.sleep(1.0)
        assert len(seller.posts) - before <= 5


# --- events ----------------------------------------------------------------------------


async def test_no_event_for_too_long_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "EVENT_GAP", 0.6)

    async def talks(job: Job) -> None:
        talking = asyncio.create_task(_talk(job))
        await echo(job)
        talking.cancel()

    async with (
        Seller().running() as quiet,
        Seller(talks).running() as good,
        gateway(quiet, good) as desk,
        desk.filming(),
    ):
        await desk.live_at(good)
        assert desk.codes == ["no_events"]
        await asyncio.sleep(0.8)
        assert len(good.jobs) == 1


async def _talk(job: Job) -> None:
    while True:
        await job.says_status()
        await asyncio.sleep(0.2)


async def test_a_model_that_loads_gets_three_times_the_patience_and_then_its_own() -> None:
    async def loads(job: Job) -> None:
        await job.says_status("LOADING")
        loaded = asyncio.get_running_loop().time() + 2.5
        told = False
        async for unit in job.pictures():
            late = asyncio.get_running_loop().time() - loaded
            if late > 0 and not told:
                told = True
                await job.says_status("ONLINE")
            if late > 0.3:
                job.show(unit)

    async with (
        Seller(loads).running() as slow,
        Seller().running() as other,
        gateway(slow, other, start_timeout=1.5) as desk,
        desk.filming(),
    ):
        await desk.live_at(slow)
        assert desk.codes == []


async def test_a_model_that_loads_for_ever_is_left() -> None:
    async def loads(job: Job) -> None:
        await job.says_status("LOADING")
        await silent(job)

    async with (
        Seller(loads).running() as stuck,
        Seller().running() as good,
        gateway(stuck, good, start_timeout=0.4) as desk,
        desk.filming(),
    ):
        began = time.monotonic()
        await desk.live_at(good)
        assert time.monotonic() - began >= 1.2
        assert desk.codes == ["no_first_picture"]


@pytest.mark.parametrize(
    "body",
    [b"no json", b"", b"[1]", b'{"event": 3}', b'{"type": "status", "state": "' + b"x" * (2 << 20)],
    ids=["text", "empty", "array", "no object", "2 MiB"],
)
async def test_an_event_that_is_none_is_skipped(body: bytes) -> None:
    async def talks(job: Job) -> None:
        await job.says_status("LOADING")
        await job.say(body)
        await job.says_status(pipeline_version="9")
        await echo(job)

    async with Seller(talks).running() as seller, gateway(seller) as desk, desk.filming():
        await desk.live_at(seller)
        await eventually(lambda: desk.stream.runner.get("pipeline_version") == "9")
        assert desk.codes == []


async def test_an_error_of_the_worker_is_told_until_another_one_serves() -> None:
    async def complains(job: Job) -> None:
        await job.say(b'{"event": {"type": "error", "message": "CUDA is out of memory"}}')
        await stops_after(40)(job)

    async with (
        Seller(complains).running() as bad,
        Seller().running() as good,
        gateway(bad, good) as desk,
        desk.filming(),
    ):
        await desk.live_at(bad)
        await eventually(lambda: desk.stream.runner_error == "CUDA is out of memory")
        await desk.live_at(good)
        assert desk.stream.runner_error is None


# --- faults that are not the seller's ----------------------------------------------------


async def test_a_publisher_without_key_frames_is_told_and_then_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "KEYFRAME_WARNING", 0.5)
    monkeypatch.setattr(dispatcher, "KEYFRAME_END", 1.5)
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming() as camera,
    ):
        await desk.live_at(seller)
        camera.keyframes = False
        told = await desk.reaches(StreamState.LIVE, "no_keyframe")
        assert told.reason.startswith("the publisher has sent no key frame for")
        camera.keyframes = True
        await desk.reaches(StreamState.LIVE, "")
        camera.keyframes = False
        await camera.whip.wait_closed()
        waiting = await desk.reaches(StreamState.WAITING)
        assert "no key frame" in waiting.reason
        await seller.jobs[0].over.wait()
        assert len(seller.jobs) == 1, "the seller is not blamed"


async def test_a_pause_of_the_publisher_is_no_fault_of_the_seller() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming() as camera,
    ):
        await desk.live_at(seller)
        camera.paused = True
        await asyncio.sleep(1.0)
        camera.paused = False
        await asyncio.sleep(0.7)
        assert desk.codes == []
        assert len(seller.jobs) == 1


async def test_a_silent_publisher_is_told_of_until_it_sends_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher, "SILENT", 0.4)
    async with Seller().running() as seller, gateway(seller) as desk, desk.filming() as camera:
        await desk.live_at(seller)
        camera.paused = True
        (told,) = await eventually(lambda: desk.stream.warnings)
        assert told.code == "input_silent"
        assert "nothing has come from the publisher for" in told.words
        assert desk.stream.state is StreamState.LIVE
        camera.paused = False
        await eventually(lambda: not desk.stream.warnings)


async def test_a_standstill_of_our_own_loop_is_no_fault_of_the_seller() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller, output_timeout=0.3) as desk,
        desk.filming(),
    ):
        await desk.live_at(seller)
        for _ in range(3):
            # Short enough that input still counts as flowing.
            time.sleep(dispatcher.INPUT_FLOWS - 0.08)  # noqa: ASYNC251  the fault itself
            await asyncio.sleep(0.3)
        assert desk.codes == []


# --- key frames ------------------------------------------------------------------------


async def test_a_key_frame_is_asked_of_a_worker_that_announced_it() -> None:
    async def announces(job: Job) -> None:
        await job.says_status(extensions=(EXTENSION_KEYFRAME,))
        await echo(job)

    async with (
        Seller(announces).running() as seller,
        gateway(seller) as desk,
        desk.filming() as camera,
        desk.watching() as viewer,
    ):
        await viewer.sees(5)
        await eventually(lambda: "extensions" in desk.stream.runner)
        assert viewer.client is not None
        await asyncio.sleep(0.6)
        before = camera.asked
        viewer.client.request_keyframe()
        await eventually(lambda: KEYFRAME_MESSAGE in seller.jobs[0].controls)
        assert camera.asked == before


async def test_for_all_others_it_is_asked_of_the_publisher() -> None:
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming() as camera,
        desk.watching() as viewer,
    ):
        await viewer.sees(5)
        await asyncio.sleep(0.6)
        before = camera.asked
        assert viewer.client is not None
        viewer.client.request_keyframe()
        await eventually(lambda: camera.asked > before)
        assert KEYFRAME_MESSAGE not in seller.jobs[0].controls


# --- parameters --------------------------------------------------------------------------


async def test_parameters_reach_the_worker_as_they_are_written_and_go_along() -> None:
    body = b'{ "prompt":  "a\\u00e9"}'
    async with (
        Seller().running() as first,
        Seller().running() as second,
        gateway(first, second) as desk,
        desk.filming(params='{"seed":1}'),
    ):
        await desk.live_at(first)
        assert first.posts[0]["params"] == {"seed": 1}
        assert await desk.node.update(NAME, body) == {"seed": 1, "prompt": "aé"}
        await eventually(lambda: first.jobs[0].controls == [body])
        await first.jobs[0].close()
        await desk.live_at(second)
        assert second.posts[0]["params"] == {"seed": 1, "prompt": "aé"}
        # No schema says that the merged ones mean the same.
        await eventually(lambda: second.jobs[0].controls == [body])


async def test_a_seller_with_a_schema_gets_them_only_with_the_job() -> None:
    async with (
        Seller().running() as first,
        Seller().running() as second,
    ):
        first.schema = second.schema = SCHEMA
        async with gateway(first, second) as desk, desk.filming():
            await desk.live_at(first)
            await desk.node.update(NAME, b'{"strength": 0.5}')
            with pytest.raises(Unprocessable, match="strength: 2 is greater"):
                await desk.node.update(NAME, b'{"strength": 2}')
            assert desk.stream.params == {"strength": 0.5}
            # Null gives a parameter back its default.
            assert await desk.node.update(NAME, b'{"strength": null}') == {}
            await desk.node.update(NAME, b'{"strength": 0.5}')
            await first.jobs[0].close()
            await desk.live_at(second)
            assert second.posts[0]["params"] == {"strength": 0.5}
            assert second.jobs[0].controls == []


@pytest.mark.parametrize("schema", [None, SCHEMA], ids=["no schema", "schema"])
async def test_an_update_while_the_job_is_being_posted_is_not_lost(
    schema: dict[str, object] | None,
) -> None:
    async with Seller().running() as seller:
        seller.hold, seller.schema = asyncio.Event(), schema
        async with gateway(seller) as desk, desk.filming():
            await eventually(lambda: seller.posts)
            await desk.node.update(NAME, b'{"strength": 0.25}')
            seller.hold.set()
            await desk.live_at(seller)
            assert seller.posts[0]["params"] == {}
            await eventually(lambda: seller.jobs[0].controls)
            assert seller.jobs[0].controls[0] == b'{"strength":0.25}'


async def test_parameters_have_a_bound_and_so_has_what_waits() -> None:
    async with (
        Seller(silent).running() as seller,
        gateway(seller, start_timeout=10) as desk,
        desk.filming(),
    ):
        await eventually(lambda: desk.stream.serving)
        with pytest.raises(TooLarge):
            await desk.node.update(NAME, b'{"a": "' + b"x" * (32 << 10) + b'"}')
        for number in range(session.MAX_CONTROLS):
            desk.path.update(b'{"n": %d}' % number)
        with pytest.raises(Unavailable) as caught:
            desk.path.update(b'{"n": -1}')
        assert caught.value.code == "control_backlog"
        assert desk.stream.params["n"] == session.MAX_CONTROLS - 1
        await eventually(lambda: len(seller.jobs[0].controls) == session.MAX_CONTROLS)


# --- models -----------------------------------------------------------------------------


async def model_is(desk: Desk, model: str) -> bool:
    serving = desk.stream.serving
    return desk.stream.state is StreamState.LIVE and bool(serving) and serving.model == model  # type: ignore[union-attr]


async def test_the_model_of_a_live_stream_can_be_changed() -> None:
    async with (
        Seller(models=("ident", "other")).running() as seller,
        gateway(seller) as desk,
        desk.filming(),
    ):
        await desk.live_at(seller)
        with pytest.raises(Unprocessable, match="nothing"):
            await desk.node.set_model(NAME, "nothing", {})
        await desk.node.set_model(NAME, "other", {"a": 1})
        await eventually(lambda: model_is(desk, "other"))
        assert desk.codes == ["model_changed"]
        assert desk.stream.swaps == 0
        assert seller.posts[1]["model_id"] == "other"
        assert seller.posts[1]["params"] == {"a": 1}


async def test_the_model_that_a_stream_has_already_takes_no_parameters_from_it() -> None:
    async with Seller().running() as seller, gateway(seller) as desk, desk.filming():
        await desk.live_at(seller)
        await desk.node.update(NAME, b'{"a": 1}')
        at = f"{desk.server.url}/v1/streams/{NAME}/model"
        async with aiohttp.ClientSession() as http:
            async with http.post(at, json={"model": "ident"}) as answer:
                assert (answer.status, (await answer.json())["params"]) == (200, {"a": 1})
            assert desk.stream.state is StreamState.LIVE
            async with http.post(at, json={"model": "ident", "params": {"b": 2}}) as answer:
                assert (answer.status, (await answer.json())["params"]) == (200, {"b": 2})
        await eventually(lambda: len(seller.posts) == 2)
        assert seller.posts[1]["params"] == {"b": 2}


async def test_a_model_that_is_changed_while_the_job_is_being_posted_is_the_one_that_runs() -> None:
    async with Seller(models=("ident", "other")).running() as seller:
        seller.hold = asyncio.Event()
        async with gateway(seller) as desk, desk.filming():
            await eventually(lambda: seller.posts)
            await desk.node.set_model(NAME, "other", {})
            seller.hold.set()
            await eventually(lambda: model_is(desk, "other"))
            assert desk.stream.model == "other"
            assert [post["model_id"] for post in seller.posts] == ["ident", "other"]
            await seller.jobs[0].over.wait()
