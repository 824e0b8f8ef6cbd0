"""A worker dies; the same viewer sees video again, hears all the while, and is told."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relay.cli import clip
from tests.live import Viewer, publishing, reaches, status, watching
from tests.network import Network, eventually

NAME = "cam"
NEGATIVE = {"effect": "negative"}


def is_negative(image: np.ndarray[Any, Any]) -> bool:
    """The clip's first cell is white at the top; a processed picture shows it black."""
    height, width = image.shape[:2]
    cell = image[: int(height * clip.STRIP / 3), : width // clip.CELLS // 2]
    return float(cell.mean()) < 128


async def victim(network: Network, role: str) -> int:
    """The process to hit: the slot's child that runs the job, or the worker itself."""
    if role == "worker":
        worker = network.process("worker")
        assert worker is not None
        return worker.pid
    # Of the warm children, the one that works is the one that uses the processor.
    before = {slot.pid: slot.cpu_times().user for slot in network.slots()}
    await asyncio.sleep(1.0)
    used = {slot.pid: slot.cpu_times().user - before[slot.pid] for slot in network.slots()}
    return max(used, key=lambda pid: used[pid])


@pytest.mark.parametrize(
    ("role", "blow"),
    [
        ("slot", signal.SIGKILL),
        ("slot", signal.SIGSTOP),
        ("worker", signal.SIGKILL),
    ],
    ids=["slot-killed", "slot-stopped", "worker-killed"],
)
async def test_the_viewer_goes_on(tmp_path: Path, role: str, blow: signal.Signals) -> None:
    async with Network.running(tmp_path, worker__slots=2) as network:
        async with (
            publishing(network.whip(NAME), model="effects", params=NEGATIVE),
            watching(network.whep(NAME)) as viewer,
        ):
            await viewer.sees(30)
            pid = await victim(network, role)
            network_process = next(
                p for p in [*network.slots(), network.process("worker")] if p and p.pid == pid
            )
            hit = time.monotonic()
            network_process.send_signal(blow)
            # The state between may be shorter than any look at it.
            move = await eventually(lambda: last_move(network.url), 4)
            again = await viewer.sees(15, after=hit + 1.1, within=15)
            await reaches(network.url, NAME, "live")
            await asyncio.sleep(0.5)
            _check(viewer, hit, again)
            assert move["reason"]
            now = await status(network.url, NAME)
            assert now["swaps"] >= 1
            assert now["moves"][0]["seconds_without_picture"] < 15.0
            assert now["params"] == NEGATIVE


async def last_move(url: str) -> dict[str, Any] | None:
    """Why the work moved the last time."""
    moves: list[dict[str, Any]] = (await status(url, NAME))["moves"]
    return moves[-1] if moves else None


def _check(viewer: Viewer, hit: float, again: float) -> None:
    pictures = list(viewer.pictures())
    assert len(pictures) > 40
    assert all(is_negative(image) for _, image in pictures), "the raw camera showed"
    assert any(arrived > again - 0.01 for arrived, _ in pictures)
    # How long it takes is measured in bench/moments; here, that it goes on at all.
    assert viewer.gap(hit) < 15.0
    assert viewer.gap(hit, audio=True) < 3.0


async def test_a_worker_that_never_comes_back_is_said(tmp_path: Path) -> None:
    async with Network.running(tmp_path, worker__slots=1) as network:
        async with (
            publishing(network.whip(NAME), model="effects"),
            watching(network.whep(NAME)) as viewer,
        ):
            await viewer.sees(10)
            orchestrator = network.process("orchestrator")
            assert orchestrator is not None
            orchestrator.send_signal(signal.SIGSTOP)
            try:
                await reaches(network.url, NAME, "switching", within=4)
                failed = await reaches(network.url, NAME, "failed", within=20)
                assert "trying again" in failed["reason"]
            finally:
                orchestrator.send_signal(signal.SIGCONT)
            since = time.monotonic()
            await viewer.sees(5, after=since, within=20)

            async def live() -> bool:
                return bool((await status(network.url, NAME))["state"] == "live")

            await eventually(live)
