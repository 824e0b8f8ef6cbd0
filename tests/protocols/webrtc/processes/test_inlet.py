"""What viewers of an egress process send: handed on by native code, heard there by native code."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from typing import Any

import pytest

from relay.protocols.webrtc.path import SILENCE
from relay.protocols.webrtc.processes.inlet import Inlet
from relay.protocols.webrtc.processes.lent import LentPort
from relay.protocols.webrtc.rtcp import ReceiverReport, ReportBlock
from relay.protocols.webrtc.stun import Address
from tests.protocols.webrtc.processes.hall import Hall, Watcher, hall, running, until


def spoken_here(made: Hall, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The datagrams that come to Python in the gateway."""
    came: list[bytes] = []
    take = made.peers.udp._datagram

    def datagram(data: bytes, address: Address, now: float) -> None:
        came.append(data)
        take(data, address, now)

    monkeypatch.setattr(made.peers.udp, "_datagram", datagram)
    return came


async def watched(made: Hall) -> Watcher:
    """A viewer of the process, of whom Python hears no more."""
    watcher = await made.watcher(1)
    made.picture(keyframe=True)
    await until(lambda: watcher.pictures)
    await until(lambda: all(path.native for path in held(made).values()))
    return watcher


def held(made: Hall) -> dict[Address, Any]:
    return made.process()._far._held


async def told(made: Hall, watcher: Watcher) -> dict[str, Any]:
    (found,) = await made.process().statistics([watcher.session.id])
    return found


async def test_reports_and_checks_go_past_python(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hall(egress_processes=1) as made:
        process = await made.started()
        watcher = await watched(made)
        came = spoken_here(made, monkeypatch)
        forwarded, (path,) = process.forwarded, held(made).values()
        before = path.seen
        block = ReportBlock(watcher.ssrc, 0, 0, 7, 1800, 0, 0)
        watcher.peer.send_rtcp(ReceiverReport(1, (block,)).serialise())
        selected = watcher.peer.ice.selected
        assert selected is not None
        answered = selected.answered
        watcher.peer.ice._check(selected, time.monotonic())
        await until(lambda: selected.answered != answered)  # the process answers itself
        assert process.forwarded >= forwarded + 2
        assert came == []
        assert (await told(made, watcher))["jitter"] == pytest.approx(0.02)
        assert path.seen > before
        # A loss comes to Python there, as any other.
        lossy = block._replace(fraction_lost=64)
        watcher.peer.send_rtcp(ReceiverReport(1, (lossy,)).serialise())
        while (await told(made, watcher))["fraction_lost"] != 0.25:
            pass
        assert came == []


async def test_nobody_else_gets_an_address_that_is_heard_from_natively() -> None:
    async with hall(egress_processes=1) as made:
        await made.started()
        watcher = await watched(made)
        (path,) = held(made).values()
        watcher.peer.send_rtcp(ReceiverReport(1, ()).serialise())
        seen = path.seen
        await until(lambda: path.seen > seen)
        path._seen -= 100  # as far as Python knows
        (local,) = [await made.watcher(0)]
        theirs = next(iter(made.peers._peers)).ice.selected
        assert theirs is not None
        assert not made.peers.udp.claim(path.address, theirs, path.seen + SILENCE / 2)
        await local.leave()


async def test_who_leaves_is_not_handed_on_any_more() -> None:
    async with hall(egress_processes=1) as made:
        process = await made.started()
        watcher = await watched(made)
        watcher.peer.send_rtcp(ReceiverReport(1, ()).serialise())
        await until(lambda: process.forwarded)
        forwarded = process.forwarded
        await watcher.session.close("enough")
        await until(lambda: not held(made))
        assert process.forwarded >= forwarded


async def test_a_process_that_does_not_read_costs_datagrams_and_nothing_more() -> None:
    async with hall(egress_processes=1) as made:
        process = await made.started()
        watcher = await watched(made)
        (path,) = held(made).values()
        running(process).send_signal(signal.SIGSTOP)
        try:
            report = ReceiverReport(1, ()).serialise() * 20
            received = made.peers.udp.statistics.received
            sent = 0
            while not path.native.dropped and sent < 20_000:
                for _ in range(50):
                    watcher.peer.send_rtcp(report)
                sent += 50
                await until(lambda: made.peers.udp.statistics.received > received)  # noqa: B023
                received = made.peers.udp.statistics.received
            assert path.native.dropped
        finally:
            running(process).send_signal(signal.SIGCONT)
        number = made.picture(keyframe=True)
        await until(lambda: number in watcher.pictures)


async def test_without_the_native_part_the_link_carries_all() -> None:
    async with hall(egress_processes=1, native=False) as made:
        assert Inlet(made.peers.udp).passed == ()
        process = await made.started()
        watcher = await made.watcher(1)
        (path,) = held(made).values()
        forwarded = process.forwarded
        watcher.peer.send_rtcp(ReceiverReport(1, ()).serialise())
        await until(lambda: process.forwarded > forwarded)
        assert path.native is None


async def test_what_waits_on_the_way_is_not_yet_heard() -> None:
    """Nobody is given up before that: see ``Peer``."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    lent.bind(("127.0.0.1", 0))
    port = LentPort(lent, loop, lambda message: None)
    port.read_inlet(theirs)
    loop.remove_reader(theirs.fileno())  # it has no time for it
    assert not port.unread
    ours.send(b"a datagram")
    assert port.unread
    theirs.recv(100)
    assert not port.unread
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"another, that the gateway has not read", lent.getsockname())
        await until(lambda: port.unread)
    port.close()
    ours.close()
