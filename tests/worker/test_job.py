"""Jobs in this process, over a real trickle server; see test_node for the real children."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relay.media.unit import AccessUnit
from relay.rpc.events import EXTENSION_KEYFRAME
from relay.rpc.reach import ANYWHERE
from relay.rpc.runner import RunnerStart
from relay.rpc.trust import Trust
from relay.worker import job as job_module
from relay.worker.codec import Decoder
from relay.worker.job import Job, JobEnd, JobSettings
from relay.worker.loader import Entry, LoadedPipeline
from relay.worker.thread import MediaThread
from tests.pipelines import models
from tests.worker import clip
from tests.worker.desk import BOUND, Desk, desk, until
from tests.worker.stand_ins import Moody

SETTINGS = JobSettings(bitrate=1_000_000, keyframe_interval=1.0)


class Running:
    """A job under way, with the desk it works for."""

    def __init__(self, desk: Desk, job: Job, task: asyncio.Task[JobEnd]) -> None:
        self.desk = desk
        self.job = job
        self.task = task

    async def end(self) -> JobEnd:
        return await asyncio.wait_for(asyncio.shield(self.task), BOUND)


@asynccontextmanager
async def running(
    entry: str, settings: Mapping[str, Any] | None = None, **params: Any
) -> AsyncIterator[Running]:
    def died(error: BaseException) -> None:
        raise AssertionError("the media thread died") from error

    media = MediaThread(asyncio.get_running_loop(), died)
    pipeline = LoadedPipeline(Entry("model", entry, settings or {}))
    values = pipeline.parameters.merged(params)
    await media.call(lambda: pipeline.begin(values))
    pipeline.parameters.put(values)
    async with desk() as it:
        job = Job(it.start("model"), pipeline, media, SETTINGS, Trust().job(ANYWHERE))
        task = asyncio.create_task(job.run())
        try:
            yield Running(it, job, task)
        finally:
            job.end("the test is over")
            await asyncio.wait_for(task, BOUND)
            media.close()


PASSTHROUGH = "pipelines.passthrough:Passthrough"
PAINT = "tests.worker.stand_ins:Paint"
MOODY = "tests.worker.stand_ins:Moody"


def lumas(units: list[AccessUnit]) -> list[int]:
    """The mean luma of each decoded picture."""
    decoder = Decoder()
    pictures = [picture for unit in units for picture in decoder.decode(unit)]
    return [
        round(float(picture.to_array("yuv420p", picture.size)[: picture.size[1]].mean()))
        for picture in pictures
    ]


def sizes(units: list[AccessUnit]) -> list[tuple[int, int]]:
    decoder = Decoder()
    return [picture.size for unit in units for picture in decoder.decode(unit)]


def interleaved(video: list[AccessUnit]) -> Iterator[AccessUnit]:
    """Audio packets of 20 ms between frames, in the order of their time."""
    audio = [clip.opus(number * 1800, number) for number in range(len(video) * 5 // 3)]
    return iter(sorted([*video, *audio], key=lambda unit: unit.pts))


async def test_frames_come_back_with_their_timestamps_and_the_job_ends_with_its_input() -> None:
    video = clip.video(frames=40)
    async with running(PASSTHROUGH) as it:
        await it.desk.step(video)
        await it.desk.end_input()
        end = await it.end()
        assert end == JobEnd("the input channel was closed")
        assert [unit.pts for unit in it.desk.video] == [unit.pts for unit in video]
        assert not it.desk.server.exists("mid-out")
        assert not it.desk.server.exists("mid-events")
    assert sizes(it.desk.video) == [(160, 96)] * 40


async def test_output_is_cut_at_key_frames_a_second_apart() -> None:
    async with running(PASSTHROUGH) as it:
        video = clip.video(frames=70)
        for second in (video[:30], video[30:60], video[60:]):
            await it.desk.step(second)
            segmenter = it.job._output._segmenter
            assert segmenter is not None
            assert segmenter._cut is not None
            began, _ = segmenter._cut
            await until(lambda began=began: time.monotonic() > began + 1.0)  # type: ignore[misc]
        keys = [unit.pts for unit in it.desk.video if unit.keyframe]
        assert keys == [0, 90_000, 180_000]
        assert len(it.desk.segments) == 3


async def test_audio_passes_with_its_timestamps_and_its_bytes() -> None:
    units = list(interleaved(clip.video(frames=30)))
    async with running(PASSTHROUGH) as it:
        await it.desk.step(units[:1], audio=True)
        await it.desk.feed(units[1:], audio=True, pace=0.005)
        sent = [unit for unit in units[1:] if not unit.is_video]
        await until(lambda: len(it.desk.audio) >= len(sent))
        got = [(unit.pts, unit.payload) for unit in it.desk.audio]
        assert got[-len(sent) :] == [(unit.pts, unit.payload) for unit in sent]


async def test_audio_goes_on_while_the_pipeline_fails() -> None:
    units = list(interleaved(clip.video(frames=60)))
    async with running(MOODY) as it:
        await it.desk.step(units[:20], audio=True)
        await it.desk.control({"mood": "raise"})
        await until(lambda: it.desk.params == {"mood": "raise"})
        frames, packets = len(it.desk.video), len(it.desk.audio)
        await it.desk.feed(units[20:], audio=True, pace=0.003)
        await until(lambda: len(it.desk.audio) >= packets + 50)
        assert len(it.desk.video) <= frames + 1


async def test_new_parameters_show_in_the_next_frames_and_in_the_status() -> None:
    video = clip.video(frames=60, keyframe_interval=5.0)
    async with running(PAINT, luma=40) as it:
        await it.desk.step(video[:20])
        await it.desk.control({"keep": "alive"})
        await it.desk.control({"luma": 200})
        await until(lambda: it.desk.params == {"luma": 200, "other": 0})
        await it.desk.step(video[20:21])
        assert lumas(it.desk.video)[-2:] == [40, 200]
        assert it.desk.errors == []


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ({"luma": 500}, "luma: 500 is greater"),
        ({"lumen": 1}, "unexpected"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"luma":' + b" " * 40_000 + b"1}", "larger than"),
        (b'{"luma":' * 900 + b"1" + b"}" * 900, "levels"),
        ({"luma": 66}, "66 is not a colour"),
    ],
)
async def test_bad_parameters_are_an_error_event_and_change_nothing(
    message: dict[str, Any] | bytes, word: str
) -> None:
    video = clip.video(frames=10)
    async with running(PAINT, luma=40) as it:
        await it.desk.step(video[:5])
        await it.desk.control(message)
        await until(lambda: it.desk.errors)
        assert word in it.desk.errors[0]
        await it.desk.step(video[5:])
        assert set(lumas(it.desk.video)) == {40}
        await it.desk.control({"other": 1})
        await until(lambda: it.desk.params == {"luma": 40, "other": 1})


async def test_changes_in_a_row_all_count() -> None:
    async with running(PAINT) as it:
        await until(lambda: it.desk.statuses)
        it.job._command(b'{"other":3}')
        for luma in range(100, 140):
            it.job._command(b'{"luma":%d}' % luma)
            await asyncio.sleep(0)
        await until(lambda: it.desk.params == {"luma": 139, "other": 3})
        assert it.desk.errors == []


async def test_the_last_message_of_a_burst_arrives() -> None:
    async with running(PAINT) as it:
        for luma in range(100, 160):
            await it.desk.control({"luma": luma})
        await until(lambda: it.job._wanted["luma"] == 159)
        await until(lambda: it.job._pipeline.parameters.values["luma"] == 159)


async def test_a_key_frame_comes_when_it_is_asked_for() -> None:
    video = clip.video(frames=30, keyframe_interval=5.0)
    async with running(PASSTHROUGH) as it:
        await it.desk.step(video[:10])
        assert it.desk.statuses[0].extensions == (EXTENSION_KEYFRAME,)
        await it.desk.control(b'{"relay":"keyframe"}')
        await asyncio.sleep(0.1)
        await it.desk.step(video[10:])
        keys = [number for number, unit in enumerate(it.desk.video) if unit.keyframe]
        assert keys == [0, 10]


async def test_another_size_in_mid_stream_goes_through() -> None:
    wide = clip.video(160, 96, frames=10)
    tall = clip.video(96, 160, frames=10, start=10 * clip.STEP)
    async with running(PASSTHROUGH) as it:
        await it.desk.step([*wide, *tall])
        assert sizes(it.desk.video) == [(160, 96)] * 10 + [(96, 160)] * 10
        assert it.desk.video[10].keyframe


async def test_rgb_frames_come_in_the_size_that_was_asked_for() -> None:
    for entry, size in (("Halved", (80, 48)), ("Restored", (160, 96))):
        async with running(f"tests.worker.stand_ins:{entry}") as it:
            await it.desk.step(clip.encoded([clip.flat(160, 96, 200, 0)]))
            assert sizes(it.desk.video) == [size]
            assert lumas(it.desk.video)[0] < 60


async def test_a_model_of_a_fixed_size_gives_the_source_size_back(tmp_path: Path) -> None:
    model = models.invert(tmp_path / "m.onnx", [1, 3, 36, 64])
    async with running("pipelines.onnx:Onnx", {"model": model}) as it:
        await it.desk.step(clip.encoded([clip.flat(160, 96, 200, 0)]))
        assert sizes(it.desk.video) == [(160, 96)]
        assert lumas(it.desk.video)[0] < 60


async def test_the_effects_work_in_a_job() -> None:
    video = clip.video(frames=12, keyframe_interval=5.0)
    async with running("pipelines.effects:Effects", effect="negative") as it:
        await it.desk.step(video[:6])
        await it.desk.control({"effect": "none"})
        await until(lambda: it.desk.params.get("effect") == "none")
        await it.desk.step(video[6:])
        source, shown = lumas(video), lumas(it.desk.video)
        for number in range(12):
            wanted = 251 - source[number] if number < 6 else source[number]
            assert abs(shown[number] - wanted) < 6


async def test_a_slow_pipeline_gets_the_newest_frame_and_the_others_are_left_out() -> None:
    video = clip.video(frames=30, keyframe_interval=5.0)
    async with running(MOODY, mood="gate") as it:
        for batch in (video[:1], video[1:10], video[10:30]):
            await it.desk.feed(batch, pace=0)
            await until(lambda batch=batch: it.job._frames_in > batch[-1].pts // clip.STEP)  # type: ignore[misc]
            if batch[0] is video[0]:
                await until(lambda: Moody.entered.acquire(blocking=False))
                continue
            Moody.gate.release()
            await until(lambda: Moody.entered.acquire(blocking=False))
        Moody.gate.release()
        await until(lambda: len(it.desk.video) == 3)
        assert [unit.pts // clip.STEP for unit in it.desk.video] == [0, 9, 29]
        decoder = Decoder()
        pictures = [picture for unit in it.desk.video for picture in decoder.decode(unit)]
        for picture in pictures:
            source = clip.pattern(160, 96, picture.pts // clip.STEP).astype(int)
            got = picture.to_array("yuv420p", picture.size).astype(int)
            assert np.abs(got - source).mean() < 12  # the right picture for its timestamp


async def test_a_frame_that_raised_is_not_sent_and_the_next_one_is() -> None:
    video = clip.video(frames=40, keyframe_interval=5.0)
    async with running(MOODY, mood="odd") as it:
        for odd, even in zip(video[::2], video[1::2], strict=True):
            raised = it.job._transform.counts.failed
            it.desk.put(odd)
            await until(lambda raised=raised: it.job._transform.counts.failed > raised)  # type: ignore[misc]
            await it.desk.step([even])
        assert [unit.pts for unit in it.desk.video] == [unit.pts for unit in video[1::2]]
        assert it.desk.errors == ["process: RuntimeError: every other day"]
        status = it.desk.statuses[-1].inference_status
        assert status.last_error in (None, "process: RuntimeError: every other day")


@pytest.mark.parametrize("mood", ["none", "exit"])
async def test_a_pipeline_that_gives_no_picture_or_exits_only_loses_the_frame(mood: str) -> None:
    async with running(MOODY, mood=mood) as it:
        await it.desk.feed(clip.video(frames=5))
        await until(lambda: it.desk.errors)
        assert it.desk.video == []
        await it.desk.control({"mood": "well"})
        await it.desk.feed(clip.video(frames=40, start=5 * clip.STEP))
        await until(lambda: it.desk.video)


async def test_a_pipeline_that_only_fails_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "MAX_FAILING", 0.5)
    async with running(MOODY, mood="raise") as it:
        await it.desk.feed(clip.video(frames=10))
        end = await it.end()
        assert end.failed
        assert "failed for" in end.reason
        await until(lambda: any("failed for" in error for error in it.desk.errors))
        assert not it.desk.server.exists("mid-out")


async def test_silence_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "MAX_IDLE", 0.3)
    async with running(PASSTHROUGH) as it:
        end = await it.end()
        assert end.reason.startswith("no input for")


async def test_a_closed_control_channel_ends_the_job() -> None:
    async with running(PASSTHROUGH) as it:
        await it.desk.feed(clip.video(frames=3))
        await it.desk.server.close("mid-control")
        assert await it.end() == JobEnd("the control channel was closed")


async def test_a_deleted_output_channel_ends_the_job() -> None:
    async with running(PASSTHROUGH) as it:
        await it.desk.feed(clip.video(frames=3))
        await it.desk.server.close("mid-out")
        assert (await it.end()).reason == "the output channel was closed"


async def test_what_pictures_need_is_connected_first() -> None:
    came: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        came.append(b" ".join(line.split()[:2]).decode())
        await reader.read()  # no answer: until the job ends
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        media = MediaThread(asyncio.get_running_loop(), lambda error: None)
        pipeline = LoadedPipeline(Entry("model", PASSTHROUGH, {}))
        start = RunnerStart(f"{base}/in", f"{base}/out", f"{base}/control", f"{base}/events")
        job = Job(start, pipeline, media, SETTINGS, Trust().job(ANYWHERE))
        running = asyncio.create_task(job.run())
        await until(lambda: {"GET /control/0", "POST /events/0"} <= set(came), str(came))
        assert came.index("POST /out/0") < min(
            map(came.index, ("GET /control/0", "POST /events/0"))
        )
        job.end("the test is over")
        await asyncio.wait_for(running, BOUND)
        media.close()


async def test_channels_that_cannot_be_reached_fail_the_job() -> None:
    def died(error: BaseException) -> None:
        raise AssertionError("the media thread died") from error

    with socket.create_server(("127.0.0.1", 0)) as server:
        base = f"http://127.0.0.1:{server.getsockname()[1]}"
    media = MediaThread(asyncio.get_running_loop(), died)
    pipeline = LoadedPipeline(Entry("model", PASSTHROUGH, {}))
    start = RunnerStart(f"{base}/in", f"{base}/out", f"{base}/control", f"{base}/events")
    end = await asyncio.wait_for(
        Job(start, pipeline, media, SETTINGS, Trust().job(ANYWHERE)).run(), BOUND
    )
    assert end.failed
    media.close()


async def test_a_job_needs_neither_control_nor_events() -> None:
    media = MediaThread(asyncio.get_running_loop(), lambda error: None)
    pipeline = LoadedPipeline(Entry("model", PASSTHROUGH, {}))
    async with desk() as it:
        start = replace(it.start("model"), control_url="", events_url="")
        task = asyncio.create_task(
            Job(start, pipeline, media, SETTINGS, Trust().job(ANYWHERE)).run()
        )
        await it.step(clip.video(frames=3))
        await it.end_input()
        assert not (await asyncio.wait_for(task, BOUND)).failed
    media.close()


async def test_segments_of_a_stock_gateway_are_read() -> None:
    captures = Path(__file__).parents[1] / "captures" / "ts"
    async with running(PASSTHROUGH) as it:
        for number in range(2):
            writer = it.desk._input.begin()
            writer.write((captures / f"stock-gateway.input-{number}.ts").read_bytes())
            writer.end()
            wanted = 60 * (number + 1)
            await until(lambda wanted=wanted: it.job._transform.counts.decoded == wanted)  # type: ignore[misc]
        await until(lambda: it.desk.video)
        assert set(sizes(it.desk.video)) == {(320, 180)}
        assert it.job._transform.counts.undecodable == 0


async def test_garbage_in_the_input_is_told_and_survived() -> None:
    video = clip.video(frames=40, keyframe_interval=0.5)
    async with running(PASSTHROUGH) as it:
        await it.desk.step(video[:10])
        it.desk.write(b"\x00garbage" * 500)
        damaged = AccessUnit(video[10].codec, b"\0\0\0\1\x65" + b"\xff" * 300, video[10].pts, 0.0)
        it.desk.put(damaged)
        await it.desk.feed(video[11:])
        await until(lambda: it.desk.video and it.desk.video[-1].pts == video[-1].pts)
        assert it.desk.errors


async def test_echo_hands_bytes_and_cuts_back_untouched() -> None:
    async with running("pipelines.echo:Echo") as it:
        sent: list[bytes] = []
        for number in range(3):
            writer = it.desk._input.begin()
            sent.append(b"")
            for unit in range(4):
                part = bytes([0x47, number, unit]) * 100
                writer.write(part)
                sent[-1] += part
                await until(lambda: it.desk.segments and it.desk.segments[-1] == sent[-1])
            writer.end()
        assert it.desk.segments == sent
        await until(lambda: it.desk.statuses)
        assert it.desk.statuses[0].extensions == ()


async def test_the_first_status_comes_at_once_and_again_for_late_readers() -> None:
    async with running(PASSTHROUGH) as it:
        await until(lambda: it.desk.statuses, bound=1.0)
        assert it.desk.statuses[0].state == "LOADING"
        assert it.desk.statuses[0].pipeline == "model"
        await until(lambda: len(it.desk.statuses) >= 2, bound=5.0)
        types = [event.type for event in it.desk.events]
        assert "runner_receive_stream_request" in types
