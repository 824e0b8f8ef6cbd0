"""Bodies whose framing breaks on the way."""

from __future__ import annotations

import pytest

from relay.protocols.trickle.channel import Limits
from tests.protocols.trickle.wire import serve, until

QUICK = Limits(sweep=0.05, abandoned=0.1)


@pytest.mark.parametrize("chunk", [b"zz\r\nabc\r\n", b"-5\r\nabc\r\n", b"2\r\nabcdef\r\n"])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_chunk_that_lies_ends_the_request(chunk: bytes, begun: bool) -> None:
    async with serve(limits=QUICK) as site:
        site.server.create("ch", "video/MP2T")
        reader, writer = await site.connect(), await site.connect()
        await reader.request("GET", "/t/ch/0")
        await writer.post("/t/ch/0")
        if begun:
            await writer.piece(b"begun")
            await reader.head()
            assert await reader.chunk() == b"begun"
        else:
            await until(lambda: site.server.activity("ch").readers == 1)
        await writer.send(chunk)
        answer = await writer.answer()
        assert answer.status == 400
        assert await writer.closed()
        if begun:
            while await reader.chunk():
                pass


async def test_a_request_behind_a_whole_one_breaks_nothing() -> None:
    async with serve(limits=QUICK) as site:
        site.server.create("ch", "video/MP2T")
        writer = await site.connect()
        await writer.post("/t/ch/0")
        await writer.piece(b"x")
        await writer.send(b"0\r\n\r\nGET /t/ch/next HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (await writer.answer()).status == 200
        assert (await writer.answer()).body == b"1"
