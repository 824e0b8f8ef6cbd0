"""One session with an orchestrator: what leaves, what comes back, and one ending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from relay.errors import RelayError
from relay.gateway import session as module
from relay.gateway.session import Ending, OrchestratorSession
from relay.media.segmenter import Segmenter
from relay.media.unit import AccessUnit
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.rpc.events import KEEPALIVE_MESSAGE, Event
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest
from relay.rpc.reach import ANYWHERE
from relay.rpc.trust import Trust
from tests.gateway.desk import FRAME
from tests.gateway.seller import CHANNELS, MODEL, Job, Seller, echo, silent
from tests.media.samples import picture, sound
from tests.network import eventually


class Sink:
    """Keeps what comes back. ``takes``: whether output can be sent on."""

    def __init__(self) -> None:
        self.units: list[AccessUnit] = []
        self.events: list[Event] = []
        self.needed = 0
        self.takes = True
        self.drops: list[tuple[int, str]] = []
        self.left = 0

    def output(self, unit: AccessUnit) -> bool:
        self.units.append(unit)
        return self.takes

    def event(self, event: Event) -> None:
        self.events.append(event)

    def keyframe_needed(self) -> None:
        self.needed += 1

    def dropped(self, pictures: int, why: str) -> None:
        self.drops.append((pictures, why))

    def output_left(self) -> None:
        self.left += 1


@asynccontextmanager
async def opened(
    seller: Seller, sink: Sink, *, audio: bool = False
) -> AsyncIterator[tuple[OrchestratorSession, Job]]:
    job = seller.take(LiveJobRequest(MODEL))
    async with open_session() as http:
        one = OrchestratorSession(
            http, job.answer(), sink, trust=Trust().job(ANYWHERE), audio=audio
        )
        await one.open()
        try:
            yield one, job
        finally:
            await one.close()


async def test_pictures_and_sound_go_there_and_come_back_with_their_times() -> None:
    sink = Sink()
    async with Seller(echo).running() as seller, opened(seller, sink, audio=True) as (one, _):
        running = asyncio.create_task(one.run())
        sent = [picture(n * FRAME, key=n == 0) for n in range(5)]
        sent.insert(3, sound(2 * FRAME + 7))
        for unit in sent:
            one.feed(unit, time.monotonic())
        await eventually(lambda: len(sink.units) >= 6)
        assert [(unit.codec, unit.pts, unit.payload) for unit in sink.units] == [
            (unit.codec, unit.pts, unit.payload) for unit in sent
        ]
        one.end(Ending("done", "enough"))
        assert await running == Ending("done", "enough")


async def test_output_that_began_before_it_was_read_is_not_lost() -> None:
    sink = Sink()
    async with Seller(silent).running() as seller, opened(seller, sink) as (one, job):
        for n in range(5):
            job.show(picture(n * FRAME, key=n == 0))
        quicker = TrickleSubscriber(seller.http, job.url("out"), start=0)
        assert await anext(await anext(quicker))
        running = asyncio.create_task(one.run())
        await eventually(lambda: sink.units)
        assert sink.units[0].pts == 0
        await quicker.close()
        one.end(Ending("done", ""))
        await running


async def test_pictures_do_not_wait_for_the_channels_without_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MEDIA_FIRST", 60.0)
    sink = Sink()
    async with Seller(echo).running() as seller, opened(seller, sink) as (one, job):
        running = asyncio.create_task(one.run())
        one.feed(picture(0, key=True), time.monotonic())
        await eventually(lambda: sink.units)
        assert seller.trickle.activity(job.name("events")).readers == 0
        one.end(Ending("done", ""))
        await running


async def test_before_a_key_frame_nothing_is_sent_and_nothing_owed() -> None:
    sink = Sink()
    async with Seller(silent).running() as seller, opened(seller, sink) as (one, job):
        now = time.monotonic()
        one.feed(picture(0), now)
        one.feed(sound(0), now)
        assert sink.needed == 1
        seen = one.observe(starved=0.0)
        assert (seen.input_since, seen.last_input, seen.in_flight) == (None, None, 0)
        one.feed(picture(FRAME, key=True), now + 1)
        one.feed(picture(2 * FRAME), now + 1.1)
        seen = one.observe(starved=0.0)
        assert (seen.input_since, seen.last_input, seen.in_flight) == (now + 1, now + 1.1, 1)
        one.feed(picture(3 * FRAME), now + 5)
        assert one.observe(starved=0.0).input_since == now + 5
        await eventually(lambda: job.units)


async def test_output_that_cannot_be_sent_on_does_not_count() -> None:
    sink = Sink()
    sink.takes = False
    async with Seller(echo).running() as seller, opened(seller, sink) as (one, _):
        running = asyncio.create_task(one.run())
        for n in range(3):
            one.feed(picture(n * FRAME, key=n == 0), time.monotonic())
        await eventually(lambda: len(sink.units) >= 3)
        assert one.observe(starved=0.0).last_output is None
        sink.takes = True
        one.feed(picture(3 * FRAME), time.monotonic())
        await eventually(lambda: one.observe(starved=0.0).last_output)
        one.end(Ending("done", ""))
        await running


async def test_a_peer_that_backs_up_gets_the_next_key_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TricklePublisher", partial(TricklePublisher, max_buffer=1 << 20))
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    sink = Sink()
    async with Seller(silent).running() as seller:
        seller.deaf = True
        async with opened(seller, sink) as (one, _):
            one.feed(picture(0, key=True), 0.0)
            for n in range(1, 60):
                one.feed(picture(n * FRAME, size=400_000), n / 30)
                await asyncio.sleep(0)
                if sink.needed:
                    break
            assert sink.needed == 1
            before = one.observe(starved=0.0)
            one.feed(picture(100 * FRAME), 4.0)
            assert one.observe(starved=0.0).last_input == before.last_input, "nothing was sent"
            one.feed(picture(101 * FRAME, key=True), 4.1)
            assert one.observe(starved=0.0).last_input == 4.1
            assert not one._ended.done()


async def test_an_orchestrator_that_reads_too_slowly_is_told_and_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_AGE", 0.1)
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    sink = Sink()
    async with Seller(silent).running() as seller:
        seller.deaf = True
        async with opened(seller, sink) as (one, _):
            running = asyncio.create_task(one.run())
            sent = 0
            while not running.done():
                asked = sink.needed
                one.feed(picture(sent * FRAME, size=100_000, key=True), time.monotonic())
                while sink.needed == asked and not running.done() and sent < 3000:
                    sent += 1
                    one.feed(picture(sent * FRAME, size=100_000), time.monotonic())
                    await asyncio.sleep(0.005)
                for _ in range(2):  # nothing of them can be shown
                    sent += 1
                    one.feed(picture(sent * FRAME), time.monotonic())
            assert (await running).code == "slow_input"
    # The last drop is told by nobody but the ending: no key frame followed it.
    assert len(sink.drops) == 2
    assert all(why == module.SLOW_READER for _, why in sink.drops)
    assert all(2 < pictures < sent for pictures, _ in sink.drops)


async def test_input_that_is_not_answered_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Segmenter", partial(Segmenter, min_duration=0.0))
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    async with Seller(silent).running() as seller:
        seller.deaf = True
        async with opened(seller, Sink()) as (one, _):
            for n in range(4):
                one.feed(picture(n * FRAME, key=True), float(n))
                await asyncio.sleep(0.05)
            assert one.observe(starved=0.0).in_flight == 4


@pytest.mark.parametrize(
    ("channel", "code"),
    [
        ("in", "input_closed"),
        ("out", "output_closed"),
        ("control", "control_closed"),
        ("events", "events_closed"),
    ],
)
async def test_each_channel_that_is_closed_ends_it(channel: str, code: str) -> None:
    async with Seller(silent).running() as seller, opened(seller, Sink()) as (one, job):
        seller.trickle._callbacks.clear()
        running = asyncio.create_task(one.run())
        one.feed(picture(0, key=True), time.monotonic())
        await eventually(lambda: job.units)
        await job.close(channel)
        assert (await running).code == code


async def test_the_first_ending_is_the_one_that_counts() -> None:
    async with Seller(silent).running() as seller, opened(seller, Sink()) as (one, job):
        one.end(Ending("first", ""))
        one.end(Ending("second", ""))
        await job.close()
        assert (await one.run()).code == "first"


async def test_control_is_kept_alive_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEPALIVE", 0.05)
    async with Seller(silent).running() as seller, opened(seller, Sink()) as (one, job):
        sent = [b"%d" % n for n in range(module.MAX_CONTROLS + 1)]
        assert [one.control(body) for body in sent] == [True] * module.MAX_CONTROLS + [False]
        running = asyncio.create_task(one.run())
        await eventually(lambda: KEEPALIVE_MESSAGE in job.controls)
        # A channel keeps five: a reader that is slower than we write goes on with the newest.
        said, order = [body for body in job.controls if body != KEEPALIVE_MESSAGE], iter(sent[:-1])
        assert said
        assert all(body in order for body in said)
        monkeypatch.setattr(module, "KEEPALIVE", 10.0)
        for body in (b"one", b"two", b"three"):  # who keeps up gets each
            assert one.control(body)
            await eventually(partial(_has, job, body))
        assert [body for body in job.controls if body.isalpha()] == [b"one", b"two", b"three"]
        one.end(Ending("done", ""))
        await running


def _has(job: Job, body: bytes) -> bool:
    return body in job.controls


async def test_a_key_frame_is_asked_only_of_who_announced_it() -> None:
    async def work(job: Job) -> None:
        await job.says_status()
        await job.says_status("LOADING", extensions=("keyframe", "other"))
        await silent(job)

    sink = Sink()
    async with Seller(work).running() as seller, opened(seller, sink) as (one, _):
        assert not one.request_keyframe()
        running = asyncio.create_task(one.run())
        await eventually(lambda: len(sink.events) == 2)
        assert one.request_keyframe()
        assert one.observe(starved=0.0).loading
        one.end(Ending("done", ""))
        await running


async def test_closing_lets_go_of_the_job() -> None:
    async with Seller(silent).running() as seller:
        async with opened(seller, Sink()) as (one, job):
            one.feed(picture(0, key=True), time.monotonic())
            await eventually(lambda: job.units)
        await job.over.wait()
        await eventually(
            lambda: not any(seller.trickle.exists(job.name(name)) for name in CHANNELS)
        )


async def test_closing_waits_for_nobody_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    async with Seller(silent).running() as seller:
        seller.deaf = True
        before = asyncio.all_tasks()
        async with opened(seller, Sink()) as (one, job):
            one.feed(picture(0, key=True), time.monotonic())
        await job.close()
        await job.over.wait()
        await eventually(lambda: not _ours(asyncio.all_tasks() - before))


def _ours(tasks: set[asyncio.Task[object]]) -> list[str]:
    names = [getattr(task.get_coro(), "__qualname__", "") for task in tasks]
    return [name for name in names if name.startswith(("Trickle", "OrchestratorSession"))]


async def test_channels_that_cannot_be_reached_are_an_error_of_ours() -> None:
    nowhere = "http://127.0.0.1:9/ai/trickle/x"
    answer = LiveJobAnswer(nowhere, nowhere, nowhere, nowhere, "x")
    async with open_session() as http:
        one = OrchestratorSession(http, answer, Sink(), trust=Trust().job(ANYWHERE), audio=False)
        with pytest.raises(RelayError):
            await one.open()
        await one.close()
