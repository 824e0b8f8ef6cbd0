"""A process that is lost: seen at once, started again, and felt by its own viewers only."""

from __future__ import annotations

import asyncio
import sys

import psutil
import pytest

from relay.errors import NotFound
from relay.protocols.webrtc.egress import EgressSession
from relay.protocols.webrtc.processes import placement
from relay.protocols.webrtc.processes import process as process_module
from relay.protocols.webrtc.processes.session import FarViewer
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.processes.hall import SHOW, Hall, hall, running, until


async def served_again(made: Hall, pid: int | None) -> None:
    """The process is back as another one, and its viewer may come back."""

    def is_back() -> bool:
        process = made.egress._processes.get(1)
        return process is not None and process.ready and process.pid != pid

    await until(is_back)
    again = await made.watcher(1)
    number = made.picture(keyframe=True)
    await until(lambda: number in again.pictures)


async def test_a_killed_process_ends_its_viewers_only_and_comes_back() -> None:
    async with hall() as made:
        process = await made.started()
        other = await made.started(2)
        made.picture(keyframe=True)
        lost, here, there = [await made.watcher(where) for where in (1, 0, 2)]
        assert isinstance(lost.session, FarViewer)
        pid = process.pid
        running(process).kill()
        began = made.number
        while not lost.session.is_closed:
            made.picture()
            await asyncio.sleep(0.005)
        assert lost.session.close_reason == (
            "the process that served it was lost (it ended); a new offer is answered by another"
        )
        with pytest.raises(NotFound) as caught:
            await lost.session.patch(b"", "*")
        assert caught.value.code == "session_ended"
        await lost.session.close("a second end does nothing")
        for _ in range(20):
            made.picture()
            await asyncio.sleep(0.005)
        expected = list(range(began + 1, made.number + 1))
        await until(lambda: here.pictures[-1] == there.pictures[-1] == made.number)
        for viewer in (here, there):  # not one lost, none twice
            assert viewer.pictures[-len(expected) :] == expected
        assert made.egress.count(SHOW) == 2
        assert other.ready
        await served_again(made, pid)
        [_, back, _] = made.egress.status()
        assert (back.number, back.restarts, back.viewers) == (1, 1, 1)


async def test_a_stopped_process_is_ended_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "SILENT", 0.8)
    async with hall() as made:
        process = await made.started()
        made.picture(keyframe=True)
        lost = await made.watcher(1)
        pid = process.pid
        running(process).suspend()
        await until(lambda: lost.session.is_closed)
        assert "silent" in lost.session.close_reason
        assert "a new offer" in lost.session.close_reason
        await served_again(made, pid)


async def test_an_offer_whose_process_dies_is_answered_here() -> None:
    async with hall() as made:
        process = await made.started()
        running(process).suspend()
        answering = asyncio.create_task(made.egress.answer(SHOW, offers.viewer()))
        await until(lambda: process.viewers == 1)
        running(process).kill()
        assert isinstance(await answering, EgressSession)


async def test_a_process_that_is_not_needed_tells_its_viewers_and_is_not_started_again() -> None:
    async with hall() as made:
        process = await made.started()
        viewer = await made.watcher(1)
        process.dismiss("making room")
        assert viewer.session.close_reason == "making room"
        await until(lambda: viewer.peer.close_reason == "closed by the peer")
        await until(lambda: not made.egress._keepers)
        assert [told.number for told in made.egress.status()] == [0]


async def test_a_process_that_was_stopped_for_a_while_goes_on_with_a_key_frame() -> None:
    async with hall() as made:
        process = await made.started()
        made.picture(keyframe=True)
        viewer, here = await made.watcher(1), await made.watcher(0)
        await until(lambda: viewer.pictures)
        before = made.picture()
        await until(lambda: before in viewer.pictures)
        running(process).suspend()
        for _ in range(30):  # 0.9 s, and more than the link holds: most never enter it
            made.picture(packets=20)
            made.sound()
            await asyncio.sleep(0.03)
        running(process).resume()
        await until(lambda: viewer.sounds == 30)  # of the sound nothing is lost
        wanted = made.wanted
        await until(lambda: made.picture() and made.wanted > wanted)
        number = made.picture(keyframe=True)
        await until(lambda: number in viewer.pictures)
        last = made.picture()
        await until(lambda: last in viewer.pictures)
        shown = set(viewer.pictures)
        gap = [n for n in range(before + 1, number) if n not in shown]
        assert gap  # and it is one gap, up to the key frame
        assert gap == list(range(gap[0], number))
        assert process.dropped == len(gap)
        await until(lambda: len(set(here.pictures)) == made.number)  # nobody else lost one


async def test_a_process_does_not_outlive_a_gateway_that_is_killed() -> None:
    gateway = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.protocols.webrtc.processes.hall"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert gateway.stdout is not None
    child = psutil.Process(int(await gateway.stdout.readline()))
    assert child.ppid() == gateway.pid
    gateway.kill()
    await gateway.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_a_process_is_started_by_load_and_let_go_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "BUSY", -1.0)
    monkeypatch.setattr(placement, "FEW", 0)
    async with hall(egress_processes=1, egress_idle=0.0) as made:
        made.egress._choose = placement.choose
        first = await made.egress.answer(SHOW, offers.viewer())
        assert isinstance(first, EgressSession)  # nobody waits for a process to start
        await until(lambda: 1 in made.egress._processes and made.process().ready)
        made.egress._share = 0.5
        second = await made.egress.answer(SHOW, offers.viewer())
        assert isinstance(second, FarViewer)
        monkeypatch.setattr(placement, "QUIET", 9.0)
        await asyncio.sleep(0.6)
        assert made.process().ready  # it is watched
        monkeypatch.setattr(placement, "BUSY", 9.0)
        await second.close("enough")
        await until(lambda: not made.egress._keepers)
        await first.close("enough")


async def test_what_cannot_be_understood_ends_a_process() -> None:
    async with hall() as made:
        process = await made.started()
        pid = process.pid
        process._link.write(b"\0\0\0\1\xff", 0.0)
        await served_again(made, pid)
        assert made.egress.status()[1].restarts == 1


async def test_one_that_cannot_be_started_is_tried_again_and_missed_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executable = sys.executable
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with hall() as made:
        made.egress.start(1)
        await until(lambda: made.egress._restarts.get(1, 0) >= 1)
        made.where = 1
        assert isinstance(await made.egress.answer(SHOW, offers.viewer()), EgressSession)
        monkeypatch.setattr(sys, "executable", executable)
        await until(lambda: 1 in made.egress._processes and made.process().ready)
