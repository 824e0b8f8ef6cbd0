"""With names of their own, gateway and runner each do their part, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.orchestrator.doubles import GONE, RunnerDouble, desk, sold

SEPARATE = {"separate_names": True}


@pytest.mark.parametrize("channel", ["input", "output", "control", "events"])
async def test_who_may_write_may_not_read_and_the_other_way(tmp_path: Path, channel: str) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner), **SEPARATE) as one:
        job = await one.start()
        (start,) = runner.starts
        gateways = {
            "input": job.publish_url,
            "output": job.subscribe_url,
            "control": job.control_url,
            "events": job.events_url,
        }[channel]
        runners = {
            "input": start.subscribe_url,
            "output": start.publish_url,
            "control": start.control_url,
            "events": start.events_url,
        }[channel]
        assert gateways != runners
        # Neither can make the other's name out of its own.
        assert start.manifest_id == ""
        assert job.manifest_id not in runners
        writes = channel in ("input", "control")
        writer, reader = (gateways, runners) if writes else (runners, gateways)

        async def ask(method: str, url: str, body: bytes | None = None) -> int:
            async with one.session.request(method, url, data=body) as response:
                await response.read()
                return response.status

        assert await ask("POST", f"{reader}/0", b"x") == 403
        assert await ask("DELETE", f"{reader}/0") == 403
        assert await ask("DELETE", reader) == 403
        assert await ask("POST", f"{writer}/0", b"x") == 200
        assert await ask("GET", f"{writer}/0") == 403
        assert await ask("GET", f"{reader}/0") == 200
        # The network's SDK asks for the next number before it writes.
        assert await ask("GET", f"{writer}/next") == 200
        assert await ask("GET", f"{reader}/next") == 200


async def test_the_names_go_with_the_job(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner), **SEPARATE) as one:
        job = await one.start()
        (start,) = runner.starts
        assert await one.exists(start.publish_url)
        assert await one.delete(job.publish_url) == 200
        await one.until(lambda status: status["jobs"] == [])
        assert await one.channels_of(job) == GONE
        urls = (start.subscribe_url, start.publish_url, start.control_url, start.events_url)
        assert [await one.exists(url) for url in urls] == GONE


async def test_the_runner_ends_the_job_by_its_own_name(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner), **SEPARATE) as one:
        await one.start()
        assert await one.delete(runner.starts[0].events_url) == 200
        await one.until(lambda status: status["ended"] == {"events_closed": 1})
