"""Every way in which a job ends: all four channels closed, and its place free at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from relay.orchestrator import jobs as jobs_module
from relay.rpc.live_job import LiveJobAnswer
from relay.rpc.runner import RunnerStatus
from tests.network import eventually
from tests.orchestrator.doubles import ALL, GONE, Desk, RunnerDouble, desk, hanging, sold


async def over(one: Desk, job: LiveJobAnswer, reason: str, seconds: float = 5.0) -> None:
    """The job has ended for ``reason``, nothing of it is left, and another one fits."""
    await one.until(lambda status: status["ended"] == {reason: 1}, seconds)
    await eventually(lambda: _gone(one, job))
    status = await one.status()
    assert status["jobs"] == []


async def _gone(one: Desk, job: LiveJobAnswer) -> bool:
    return await one.channels_of(job) == GONE


@pytest.mark.parametrize("channel", ["input", "control"])
async def test_the_gateway_deletes_a_channel(tmp_path: Path, channel: str) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        url = job.publish_url if channel == "input" else job.control_url
        assert await one.delete(url) == 200
        assert await one.ended() == {f"{channel}_closed": 1}
        assert await one.channels_of(job) == GONE
        # Its place is back at once, whatever the runner still says.
        await one.start()


async def test_the_runner_learns_of_the_end_by_its_channels(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        (start,) = runner.starts

        async def read_until_closed(url: str) -> int:
            async with one.session.get(f"{url}/-1") as response:
                await response.read()
                return int("Lp-Trickle-Closed" in response.headers) or response.status

        readers = [
            asyncio.create_task(read_until_closed(url))
            for url in (start.subscribe_url, start.control_url)
        ]
        await asyncio.sleep(0.05)
        await one.delete(job.publish_url)
        async with asyncio.timeout(5):
            assert await asyncio.gather(*readers) == [1, 1]


async def test_the_runner_deletes_its_events(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        await one.delete(runner.starts[0].events_url)
        await over(one, job, "events_closed")


async def test_the_runner_deletes_its_output_and_may_still_say_why(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        events = runner.starts[0].events_url

        async def read() -> bytes:
            async with one.session.get(f"{job.events_url}/-1") as response:
                return await response.read()

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        await one.delete(runner.starts[0].publish_url)
        async with one.session.post(f"{events}/0", data=b'{"type": "error"}') as response:
            assert response.status == 200
        assert await reader == b'{"type": "error"}'
        await over(one, job, "output_closed")


async def test_the_input_stays_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "SILENCE", 0.4)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        began = time.monotonic()
        for sequence in range(6):
            await asyncio.sleep(0.1)
            async with one.session.post(f"{job.publish_url}/{sequence}", data=b"x") as response:
                assert response.status == 200
        assert await one.channels_of(job) == ALL
        await over(one, job, "silent")
        assert time.monotonic() - began >= 0.9


async def test_a_gateway_that_neither_writes_nor_reads_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "SILENCE", 4.0)
    monkeypatch.setattr(jobs_module, "GONE", 0.4)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()

        async def read() -> None:
            async with one.session.get(f"{job.subscribe_url}/-1") as response:
                await response.read()

        reader = asyncio.create_task(read())
        await asyncio.sleep(2.2)
        assert await one.channels_of(job) == ALL, "it still reads the output"
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await over(one, job, "silent")


async def test_a_gateway_that_has_closed_every_connection_is_gone_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed, and its new one may want the place. Any connection that is left says
    that it lives."""
    monkeypatch.setattr(jobs_module, "LEFT", 0.2)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()

        async def a_beginning() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(60)

        async def read(url: str) -> None:
            async with one.session.get(f"{url}/-1") as response:
                await response.read()

        async def write(url: str) -> None:
            await one.session.post(f"{url}/0", data=a_beginning())

        held = [
            asyncio.create_task(read(job.subscribe_url)),
            asyncio.create_task(write(job.publish_url)),
            asyncio.create_task(read(job.events_url)),
            asyncio.create_task(write(job.control_url)),
        ]
        for connection in held:
            await asyncio.sleep(1.3)
            assert await one.channels_of(job) == ALL
            connection.cancel()
            await asyncio.gather(connection, return_exceptions=True)
        await over(one, job, "silent")


async def test_a_gateway_whose_requests_came_to_their_end_may_take_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be one that sends whole segments, now and then."""
    monkeypatch.setattr(jobs_module, "LEFT", 0.2)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        await asyncio.sleep(1.2)
        assert await one.channels_of(job) == ALL
        async with one.session.post(f"{job.publish_url}/0", data=b"x") as response:
            assert response.status == 200
        await asyncio.sleep(1.5)
        assert await one.channels_of(job) == ALL


async def test_the_runner_is_gone(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        await runner.close()
        await over(one, job, "runner_lost")
        assert (await one.status())["runners"][0]["state"] == "down"
        await runner.open()
        await one.until_up()
        await one.start()


async def test_the_runner_reports_an_error(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        runner.status = RunnerStatus.ERROR
        await over(one, job, "runner_lost")


async def test_the_runner_was_started_again_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.orchestrator.capacity.SETTLING", 0.1)
    async with RunnerDouble(slots=2).running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        looks = runner.looks
        await eventually(lambda: runner.looks > looks + 5)
        assert await one.channels_of(job) == ALL
        runner.finish()
        await over(one, job, "runner_lost")


async def test_one_failed_look_is_no_loss(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        hiccup = runner.looks
        runner.fail_looks = 1
        await eventually(lambda: runner.looks > hiccup + 3)
        assert await one.channels_of(job) == ALL


async def test_a_runner_that_loads_while_it_runs_a_job_keeps_it(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()
        runner.status = RunnerStatus.LOADING
        looks = runner.looks
        await eventually(lambda: runner.looks > looks + 3)
        assert await one.channels_of(job) == ALL
        assert (await one.status())["runners"][0]["state"] == "up"


async def test_only_the_jobs_of_the_lost_runner_end(tmp_path: Path) -> None:
    async with (
        RunnerDouble().running() as first,
        RunnerDouble().running() as second,
        desk(tmp_path, sold(first, second)) as one,
    ):
        jobs = [await one.start(), await one.start()]
        assert (len(first.starts), len(second.starts)) == (1, 1)
        await first.close()
        await over_one(one)
        alive = [job for job in jobs if await one.channels_of(job) == ALL]
        assert [job.manifest_id for job in alive] == [second.starts[0].manifest_id]
        await first.open()


async def over_one(one: Desk) -> None:
    await one.until(lambda status: status["ended"] == {"runner_lost": 1})
    assert len((await one.status())["jobs"]) == 1


async def test_the_input_is_deleted_while_the_job_still_begins(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        runner.refuse = hanging()
        caller = asyncio.create_task(one.start())
        await one.until(lambda status: status["jobs"])
        (job,) = one.node.jobs.running
        job_url = f"{one.url}/ai/trickle/{job.channels.input}"
        await one.delete(job_url)
        assert (await one.status())["jobs"] == []
        caller.cancel()
        await asyncio.wait([caller])
        assert await one.ended() == {"input_closed": 1}


# draining


async def test_a_drain_waits_for_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner, capacity=2)) as one:
        job = await one.start()
        token = await one.token()
        drain = asyncio.create_task(one.node.drain(time.monotonic() + 30))
        await asyncio.sleep(0)
        async with one.session.post(f"{one.url}/live-video-to-video", data=b"{}") as response:
            assert (response.status, await response.text()) == (503, "draining\n")
        async with one.session.get(f"{one.url}/readyz") as response:
            assert response.status == 503
        assert await one.channels_of(job) == ALL
        assert token
        assert not drain.done()
        await one.delete(job.control_url)
        async with asyncio.timeout(5):
            await drain


async def test_a_drain_ends_at_its_deadline_and_a_stop_ends_the_rest(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()

        async def read() -> bool:
            async with one.session.get(f"{job.events_url}/-1") as response:
                return "Lp-Trickle-Closed" in response.headers

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        began = time.monotonic()
        patient = asyncio.create_task(one.node.drain(began + 60))
        await one.node.drain(began + 0.1)
        assert not patient.done(), "the deadline alone has ended the other"
        assert await one.channels_of(job) == ALL
        async with asyncio.timeout(3):
            await one.node.stop()
            await patient
        assert await reader  # it was told, not cut off
        with pytest.raises(aiohttp.ClientConnectionError):
            await one.status()
