from __future__ import annotations

import asyncio
import socket

import pytest

from relay.errors import ParseError, PeerError
from relay.worker.messages import MAX_LINE, Beat, LogLine, Stop
from relay.worker.pipe import Pipe


async def test_messages_arrive_and_the_end_is_told() -> None:
    left, right = socket.socketpair()
    one, other = await Pipe.open(left), await Pipe.open(right)
    one.send(Beat(1.0))
    one.send(Stop("now"))
    assert await other.receive() == Beat(1.0)
    assert await other.receive() == Stop("now")
    await one.close()
    assert await other.receive() is None
    await other.close()


async def test_a_message_that_was_cut_off_counts_as_the_end() -> None:
    left, right = socket.socketpair()
    pipe = await Pipe.open(right)
    left.send(b'{"kind":"be')
    left.close()
    assert await pipe.receive() is None
    await pipe.close()


async def test_what_is_no_message_or_has_no_end_is_refused() -> None:
    for data in (b"hello\n", b"x" * (MAX_LINE + 2)):
        left, right = socket.socketpair()
        pipe = await Pipe.open(right)
        writing = asyncio.get_running_loop().run_in_executor(None, left.sendall, data)
        with pytest.raises(ParseError):
            await pipe.receive()
        await pipe.close()
        left.close()
        await asyncio.wait({writing})
        writing.exception()


async def test_the_other_end_may_stop_reading_without_harm_to_memory() -> None:
    left, right = socket.socketpair()
    pipe = await Pipe.open(left)
    for _ in range(20_000):
        pipe.send(LogLine(20, "a", "x" * 1000))  # chatter is left out

    def insist() -> None:
        for _ in range(20_000):
            pipe.send(Stop("x" * 1000))

    with pytest.raises(PeerError):
        insist()
    right.close()
    await pipe.close()
