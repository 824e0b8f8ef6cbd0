from __future__ import annotations

import asyncio
import threading

import pytest

from relay.errors import BadInput
from relay.media.unit import AccessUnit
from relay.worker.codec import Encoder
from relay.worker.loader import Entry, LoadedPipeline
from relay.worker.thread import MediaThread
from relay.worker.transform import Transform
from tests.worker import clip
from tests.worker.desk import until


def thread(deaths: list[BaseException] | None = None) -> MediaThread:
    found = deaths if deaths is not None else []
    return MediaThread(asyncio.get_running_loop(), found.append)


def transform(media: MediaThread) -> Transform:
    pipeline = LoadedPipeline(Entry("model", "pipelines.passthrough:Passthrough", {}))
    return Transform(
        pipeline,
        Encoder(1_000_000, 5.0),
        on_error=lambda reason: None,
        on_step=media.step,
        clock=lambda: 0.0,
    )


async def test_calls_run_in_one_thread_that_is_not_this_one() -> None:
    media = thread()
    first = await media.call(threading.get_ident)
    assert first == await media.call(threading.get_ident)
    assert first != threading.get_ident()
    media.close()


async def test_an_error_of_ours_comes_back_and_the_thread_goes_on() -> None:
    media = thread()

    def refuse() -> None:
        raise BadInput("no")

    with pytest.raises(BadInput, match="no"):
        await media.call(refuse)
    assert await media.call(lambda: 5) == 5
    media.close()


async def test_an_error_that_nobody_foresaw_ends_the_thread_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    deaths: list[BaseException] = []
    media = thread(deaths)
    task = asyncio.create_task(media.call(lambda: 1 / 0))
    await until(lambda: deaths)
    assert isinstance(deaths[0], ZeroDivisionError)
    task.cancel()


async def test_the_frames_of_a_job_have_gone_through_when_it_has_ended() -> None:
    media, out = thread(), list[AccessUnit]()
    media.begin(transform(media), out.append)
    media.ring.put(clip.video(frames=1)[0])
    await media.end()
    assert len(out) == 1
    media.ring.put(clip.video(frames=1)[0])
    await media.call(lambda: None)
    assert len(out) == 1
    media.close()


async def test_it_tells_since_when_it_is_busy() -> None:
    media, gate = thread(), threading.Event()
    assert media.busy_since is None
    task = asyncio.create_task(media.call(gate.wait))
    await until(lambda: media.busy_since is not None)
    gate.set()
    await task
    await until(lambda: media.busy_since is None)
    media.close()


async def test_two_frames_that_come_at_once_are_both_shown_by_an_idle_thread() -> None:
    media, out = thread(), list[AccessUnit]()
    media.begin(transform(media), out.append)
    frames = clip.video(frames=40)
    for first in range(0, 40, 2):  # now and then the thread has not begun to wait yet
        await asyncio.sleep(0.01)
        before = len(out)
        with media.ring._ready:  # so that it does not take the first alone
            media.ring.put(frames[first])
            media.ring.put(frames[first + 1])
        await media.call(lambda: None)
        if len(out) == before + 2:
            break
    else:
        pytest.fail("one of two frames was always left out")
    assert [unit.pts for unit in out] == sorted({unit.pts for unit in out})
    media.close()


async def test_a_thread_that_was_busy_shows_the_newest_frame_only() -> None:
    media, out, gate = thread(), list[AccessUnit](), threading.Event()
    media.begin(transform(media), out.append)
    busy = asyncio.create_task(media.call(gate.wait))
    await until(lambda: media.busy_since is not None)
    for unit in clip.video(frames=2):
        media.ring.put(unit)
    gate.set()
    await busy
    await media.end()
    assert len(out) == 1
    media.close()
