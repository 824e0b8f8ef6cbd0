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
    await media.begin(transform(media), out.append)
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
