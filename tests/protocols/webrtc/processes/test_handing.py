"""What a publisher sends waits for the gateway only so long, and is whole from where it goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.h264_payload import MAX_ACCESS_UNIT
from relay.protocols.webrtc.ingest import IngestSession
from relay.protocols.webrtc.processes import feed
from relay.protocols.webrtc.processes.ingest_child import Handing
from relay.protocols.webrtc.processes.link import Link
from relay.protocols.webrtc.processes.messages import Message, Received
from tests.protocols.webrtc.processes.hall import until


class Session:
    """Attributes:
    asked: how often it was asked for a key frame.
    """

    def __init__(self) -> None:
        self.asked = 0

    def request_keyframe(self) -> None:
        self.asked += 1


def unit(number: int, *, keyframe: bool = False, codec: Codec = Codec.H264) -> AccessUnit:
    size = 100_000 if codec is Codec.H264 else 100
    return AccessUnit(codec, bytes(size), number, 0.0, keyframe)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Link, socket.socket]]:
    ours, theirs = socket.socketpair()
    lost: list[str] = []
    link = Link(ours, lambda message: None, lost.append)
    yield link, theirs
    link.close()
    theirs.close()
    assert not lost


async def test_pictures_that_nobody_reads_are_dropped_up_to_the_next_key_frame(
    ends: tuple[Link, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_AGE", 0.05)
    link, theirs = ends
    handing, session = Handing(9, link), Session()
    handing.session = cast("IngestSession", session)
    for number in range(40):
        handing.unit(unit(number, keyframe=number == 0))
        handing.unit(unit(number, codec=Codec.OPUS))
        await asyncio.sleep(0.005)
    assert handing.dropped > 10
    assert link.waiting < feed.MAX_UNREAD
    found: list[Message] = []
    reader = Link(theirs, found.append, lambda how: None)
    await until(lambda: not link.waiting)
    before, dropped = session.asked, handing.dropped
    handing.unit(unit(40))  # of a group whose middle is missing
    assert (session.asked, handing.dropped) == (before + 1, dropped + 1)
    handing.unit(unit(41, keyframe=True))
    handing.unit(unit(42))

    def came(codec: Codec) -> list[int]:
        taken = [one.unit for one in found if isinstance(one, Received) and one.publisher == 9]
        return [one.pts for one in taken if one.codec is codec]

    await until(lambda: came(Codec.H264)[-1:] == [42])
    assert came(Codec.OPUS) == list(range(40)), "of the sound nothing is lost"
    pictures = came(Codec.H264)
    held = pictures.index(41)
    assert pictures == [*range(held), 41, 42]
    assert handing.dropped == 43 - len(pictures)
    link.close()  # first: the other end's is an end to it
    reader.close()


async def test_the_largest_picture_that_is_received_is_handed_on(
    ends: tuple[Link, socket.socket],
) -> None:
    link, theirs = ends
    found: list[Message] = []
    reader = Link(theirs, found.append, lambda how: None)
    largest = AccessUnit(Codec.H264, bytes(2 * MAX_ACCESS_UNIT - 64), 0, 0.0, keyframe=True)
    Handing(9, link).unit(largest)  # twice the bound: start codes come on top
    await until(lambda: found)
    assert found == [Received(9, largest)]
    link.close()
    reader.close()
