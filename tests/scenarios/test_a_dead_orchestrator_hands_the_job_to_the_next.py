"""Two orchestrators share a worker; one dies or hangs, and the other takes the job."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.live import publishing, reaches, status, watching
from tests.network import Program

NAME = "cam"


@asynccontextmanager
async def two_orchestrators(folder: Path) -> AsyncIterator[tuple[str, list[Program]]]:
    started: list[Program] = []
    try:
        worker = await Program.start("worker", folder, {"worker.port": 0, "worker.slots": 2})
        started.append(worker)
        models = [{"model_id": "passthrough", "url": worker.url, "capacity": 2}]
        sellers = []
        for number in (1, 2):
            seller = await Program.start(
                "orchestrator",
                folder,
                {"orchestrator.port": 0, "orchestrator.models": models},
                name=f"orchestrator{number}",
            )
            started.append(seller)
            sellers.append(seller)
        gateway = await Program.start(
            "gateway",
            folder,
            {
                "gateway.port": 0,
                "gateway.webrtc.port": 0,
                "gateway.orchestrators": [seller.url for seller in sellers],
            },
        )
        started.append(gateway)
        yield gateway.url, sellers
    finally:
        for program in reversed(started):
            await program.stop()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_the_job_moves(tmp_path: Path, blow: signal.Signals) -> None:
    async with two_orchestrators(tmp_path) as (base, sellers):
        async with (
            publishing(f"{base}/whip/{NAME}", model="passthrough"),
            watching(f"{base}/whep/{NAME}") as viewer,
        ):
            await viewer.sees(20)
            before = await status(base, NAME)
            assert before["serving"]["orchestrator"] == sellers[0].url
            assert before["serving"]["why"] == "first of 2 alike in the operator's list"
            hit = time.monotonic()
            sellers[0].send(blow)
            await viewer.sees(15, after=hit + 1.1, within=15)
            after = await reaches(base, NAME, "live")
            assert after["serving"]["orchestrator"] == sellers[1].url
            assert after["serving"]["why"] in {
                "the only one that offers the model",
                "the only one that did not fail lately",
            }
            await asyncio.sleep(0.3)
            assert viewer.gap(hit) < 15.0
            assert viewer.gap(hit, audio=True) < 3.0


async def test_a_full_orchestrator_is_passed_over(tmp_path: Path) -> None:
    async with two_orchestrators(tmp_path) as (base, _):
        async with (
            publishing(f"{base}/whip/one", model="passthrough"),
            publishing(f"{base}/whip/two", model="passthrough"),
        ):
            await reaches(base, "one", "live")
            await reaches(base, "two", "live")
            async with publishing(f"{base}/whip/three", model="passthrough"):
                failed = await reaches(base, "three", "failed")
                assert failed["reason"] == "no worker is free; trying again"
                assert failed["reason_code"] == "orchestrator_capped"
                assert (await status(base, "one"))["state"] == "live"
