"""What a viewer gets that asks for all of it again and again, and who only says that he is one.

Served by the gateway, by Python and natively, and by an egress process: the bounds are the same.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from statistics import median

import pytest

from relay.protocols.webrtc import sdp, stun
from relay.protocols.webrtc.fanout import MAX_PAYLOAD
from relay.protocols.webrtc.rendition import KEYFRAME_INTERVAL
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, ReceiverReport, compound
from relay.protocols.webrtc.stun import Address
from relay.protocols.webrtc.viewer import _RESEND_BURST, _RESEND_RATE
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.nat import Nat
from tests.protocols.webrtc.processes.hall import SHOW, Hall, Watcher, hall, until
from tests.protocols.webrtc.test_amplification import all_of, client_hello
from tests.protocols.webrtc.test_viewer_moves import is_check, saying

PLACES = {"python": (0, False), "native": (0, True), "process": (1, True)}
LARGEST = MAX_PAYLOAD + 60
"""Bytes of a packet as it arrives, opened: the payload, and what stands before it."""


@asynccontextmanager
async def served(place: str) -> AsyncIterator[tuple[Hall, int]]:
    where, native = PLACES[place]
    async with hall(egress_processes=1, native=native) as made:
        if where:
            await made.started()
        yield made, where


class Storm:
    """Packets that come again, beside the watcher's own account."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.again = self.octets = 0
        taken = watcher.peer.on_rtp

        def take(data: bytes, now: float) -> None:
            assert watcher.peer.video is not None
            if data[1] & 0x7F == watcher.peer.video.rtx_payload_type:
                self.again += 1
                self.octets += len(data)
            taken(data, now)

        watcher.peer.on_rtp = take

    def break_out(self) -> None:
        """All that is kept, five times, and a key frame as often; and of a stream of nobody."""
        ssrc, send = self.watcher.ssrc, self.watcher.peer.send_rtcp
        recent = tuple(number for number in self.watcher.sequences if number >= 0)[-300:]
        for _ in range(5):
            send(compound([PictureLoss(1, ssrc)]))
            send(compound([Nack(1, ssrc, recent)]))
            send(compound([Nack(1, 77, recent[:34])]))
        send(compound([ReceiverReport(1, ())] * 60))


@pytest.mark.parametrize("place", PLACES)
async def test_a_storm_gets_a_bounded_number_of_bytes_and_of_key_frames(place: str) -> None:
    async with served(place) as (made, where):
        made.picture(keyframe=True, packets=40, size=1200)
        storming, calm = await made.watcher(where), await made.watcher(where)
        await until(lambda: len(storming.pictures) >= 40 and len(calm.pictures) >= 40)
        storm, wanted = Storm(storming), made.wanted
        first = made.number + 1
        begun = time.monotonic()
        for _ in range(80):
            storm.break_out()
            made.picture(packets=4, size=1200)
            await asyncio.sleep(0.01)
        last = made.picture()
        await until(lambda: last in storming.pictures and last in calm.pictures)
        spent = time.monotonic() - begun
        packets = _RESEND_BURST + _RESEND_RATE * spent + 1
        assert 100 < storm.again <= packets
        assert storm.octets <= packets * LARGEST
        assert made.wanted - wanted <= spent / KEYFRAME_INTERVAL + 2
        # Nobody lost one by it, the calm one least of all.
        for watcher in (storming, calm):
            seen = dict.fromkeys(number for number in watcher.pictures if number >= first)
            assert list(seen) == list(range(first, last + 1))
        assert -1 not in calm.sequences


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.setblocking(False)
        yield opened


def check(answer: str) -> bytes:
    """A good one of the viewer that was answered so."""
    transport = sdp.parse(answer).sections[0].transport
    assert transport.pwd is not None
    attributes = [
        (stun.USERNAME, f"{transport.ufrag}:{offers.UFRAG}".encode()),
        (stun.PRIORITY, b"\x6e\x00\x01\xff"),
        (stun.USE_CANDIDATE, b""),
    ]
    key = transport.pwd.encode()
    return stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, key)


@pytest.mark.parametrize("place", PLACES)
async def test_an_address_that_answers_nothing_gets_no_more_than_three_times_what_came(
    place: str, stranger: socket.socket
) -> None:
    async with served(place) as (made, where):
        made.where = where
        there = (made.peers.udp.host, made.peers.udp.port)
        for hello in (False, True):
            session = await made.egress.answer(SHOW, offers.viewer())
            said = asked = 0
            for _ in range(5):
                datagrams = [check(session.answer), *([client_hello()] if hello else [])]
                asked += len(datagrams[0])
                for datagram in datagrams:
                    said += stranger.sendto(datagram, there)
                made.picture(keyframe=True)  # none of which is for it
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.7)  # time for checks and flights to be sent again
            heard = all_of(stranger)
            answers = [data for data in heard if data[0] == 1]
            assert 0 < len(answers) <= 5
            assert sum(map(len, answers)) <= asked
            assert sum(map(len, heard)) - sum(map(len, answers)) <= 3 * said
            assert any(19 < data[0] < 64 for data in heard) is hello
            assert all(data[0] < 64 for data in heard)
            await session.close("over")


@pytest.mark.parametrize("place", PLACES)
async def test_a_viewer_whose_router_gives_it_another_address_sees_the_picture_within_a_second(
    place: str,
) -> None:
    async with served(place) as (made, where):
        there = (made.peers.udp.host, made.peers.udp.port)
        router = Nat(there)
        await router.open()

        def through(answer: str) -> str:
            inward = f"{router.inward[0]} {router.inward[1]}"
            return answer.replace(f"{there[0]} {there[1]} typ", f"{inward} typ")

        made.picture(keyframe=True)
        watcher = await made.watcher(where, through=through)
        await until(lambda: watcher.pictures)
        router.hold = is_check
        took: list[float] = []
        sources: set[Address] = set()
        async with saying(watcher.peer, ReceiverReport(1, ()).serialise, 0.1):
            await asyncio.sleep(0.3)
            for _ in range(3):
                sources.add(await router.rebind())
                rebound, seen = time.monotonic(), len(watcher.pictures)
                async with asyncio.timeout(10):
                    while len(watcher.pictures) == seen:
                        made.picture(keyframe=True)
                        await asyncio.sleep(0.01)
                took.append(time.monotonic() - rebound)
        assert median(took) < 1.0
        assert len(sources) == 3
        router.close()
