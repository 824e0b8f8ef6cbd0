"""An ingest process that is lost: its publishers are told, others go on, and it is back."""

from __future__ import annotations

import asyncio

import pytest

from relay.protocols.webrtc.ingest import IngestSession
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.processes import process as process_module
from relay.protocols.webrtc.processes.messages import Figures, Wanted
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.processes.hall import running, until
from tests.protocols.webrtc.processes.pier import Landing, Pier, pier


async def received_again(made: Pier, pid: int | None) -> None:
    """The process is back as another one, and a publisher may come back."""

    def is_back() -> bool:
        process = made.ingest._processes.get(1)
        return process is not None and process.ready and process.pid != pid

    await until(is_back)
    again = await made.publisher(1)
    await again.show(keyframe=True)


async def test_a_killed_process_ends_its_publishers_only_and_comes_back() -> None:
    async with pier() as made:
        process = await made.started()
        await made.started(2)
        lost, here, there = [await made.publisher(where) for where in (1, 0, 2)]
        for publisher in (lost, here, there):
            await publisher.show(keyframe=True)
        pid = process.pid
        running(process).kill()
        while not lost.landing.ended:
            for publisher in (here, there):
                await publisher.show()
            await asyncio.sleep(0.005)
        words = "the process that served it was lost (it ended); a new offer is answered by another"
        assert lost.landing.ended == [words]
        [first, _] = made.ingest.status()
        assert (first.number, first.publishers) == (1, 0), "it is listed also while it is gone"
        # It is told at once, by the goodbye that its process left for it.
        await reach(lost.peer, PeerState.CLOSED)
        assert lost.peer.close_reason == "closed by the peer"
        for publisher in (here, there):  # not one lost, none twice
            await publisher.show()
            assert publisher.numbers == list(range(publisher.sender.number))
        await received_again(made, pid)
        assert [(one.number, one.restarts) for one in made.ingest.status()] == [(1, 1), (2, 0)]


async def test_a_stopped_process_is_ended_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "SILENT", 0.8)
    async with pier() as made:
        process = await made.started()
        lost = await made.publisher(1)
        pid = process.pid
        running(process).suspend()
        await until(lambda: lost.landing.ended)
        assert "silent" in lost.landing.ended[0]
        await received_again(made, pid)


async def test_an_offer_whose_process_dies_is_answered_here() -> None:
    async with pier() as made:
        process = await made.started()
        running(process).suspend()
        answering = asyncio.create_task(made.ingest.answer(offers.publisher(), Landing()))
        await until(lambda: process.publishers == 1)
        running(process).kill()
        assert isinstance(await answering, IngestSession)


async def test_a_process_that_is_not_needed_tells_its_publishers() -> None:
    async with pier() as made:
        process = await made.started()
        publisher = await made.publisher(1)
        process.dismiss("making room")
        assert publisher.landing.ended == ["making room"]
        await until(lambda: publisher.peer.close_reason == "closed by the peer")
        await until(lambda: 1 not in made.ingest._keepers)


@pytest.mark.parametrize("message", [Figures([[1, {"packets": 0}]]), Figures([7]), Wanted(1)])
async def test_a_process_that_talks_nonsense_is_ended_and_replaced(
    message: Figures | Wanted,
) -> None:
    async with pier() as made:
        process = await made.started()
        publisher = await made.publisher(1)
        pid = process.pid
        process._take(message)
        assert publisher.landing.ended
        await received_again(made, pid)
