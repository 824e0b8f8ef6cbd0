"""Recorded exchanges with the network's own trickle server, replayed against ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.protocols.trickle.channel import Limits
from tests.protocols.trickle.wire import Answer, Connection, Site, serve

RECORDED = Path(__file__).parents[2] / "captures" / "trickle" / "server"

MATTER = (
    "allow",
    "connection",
    "content-length",
    "content-type",
    "lp-trickle-closed",
    "lp-trickle-latest",
    "lp-trickle-seq",
    "transfer-encoding",
    "x-content-type-options",
)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve(autocreate=True, limits=Limits(keepalive=0.05)) as site:
        yield site


class Replay:
    """One recorded connection."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection
        self.asked = (RECORDED / f"{name}.c2s.bin").read_bytes()
        self.answered = (RECORDED / f"{name}.s2c.bin").read_bytes()

    @property
    def method(self) -> str:
        return self.asked.split(b" ", 1)[0].decode()

    async def ask(self) -> None:
        await self.connection.send(self.asked)

    async def ask_head(self) -> None:
        head, blank, _ = self.asked.partition(b"\r\n\r\n")
        await self.connection.send(head + blank)

    async def ask_body(self) -> None:
        await self.connection.send(self.asked.partition(b"\r\n\r\n")[2])

    async def recorded(self) -> Answer:
        reader = asyncio.StreamReader()
        reader.feed_data(self.answered)
        reader.feed_eof()
        return await Connection(reader, self.connection.writer).answer(method=self.method)

    async def compare(self) -> Answer:
        """Ours and theirs: status line, the headers that matter, and the body."""
        ours = await self.connection.answer(method=self.method)
        theirs = await self.recorded()
        assert ours.status_line == theirs.status_line, self.name
        assert matter(ours) == matter(theirs), self.name
        assert ours.body == theirs.body, self.name
        if theirs.headers.get("connection") == "close":
            assert await self.connection.closed()
        return ours


def matter(answer: Answer) -> dict[str, str]:
    headers = {name: answer.headers[name] for name in MATTER if name in answer.headers}
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    return headers


async def begin(site: Site, name: str) -> Replay:
    return Replay(name, await site.connect())


async def replay(site: Site, *names: str) -> None:
    for name in names:
        recorded = await begin(site, name)
        await recorded.ask()
        await recorded.compare()


async def fill(site: Site, last: int) -> None:
    """Write the segments up to ``last`` that the recording run wrote without keeping them."""
    latest = int((await site.ask("GET", "/t/ch1/next")).body)
    for sequence in range(latest, last + 1):
        answer = await site.ask("POST", f"/t/ch1/{sequence}", body=b"x")
        assert answer.status == 200


async def test_channels_are_made_once(site: Site) -> None:
    await replay(site, "create", "create-again", "next-empty-channel")


async def test_waiting_readers_get_each_piece_as_it_comes(site: Site) -> None:
    await replay(site, "create")
    readers = [await begin(site, n) for n in ("get-minus1-waits-then-live", "get-minus2-on-empty")]
    for reader in readers:
        await reader.ask()
    writer = await begin(site, "post-preconnect-then-body")
    await writer.ask_head()
    assert await readers[0].connection.silent(0.15)
    assert await readers[1].connection.silent(0.15)
    await writer.ask_body()
    for reader in readers:
        await reader.compare()
    ours = await writer.compare()
    assert ours.interim >= 2
    await replay(
        site, "next-after-one", "get-minus2-complete", "get-seq0-complete", "get-470-ahead"
    )


async def test_unknown_channels_and_numbers(site: Site) -> None:
    await replay(
        site,
        "create",
        "get-404-channel",
        "next-404-channel",
        "get-400-notint",
        "post-400-notint",
        "delete-seq-nonexistent",
        "delete-channel-unknown",
        "post-unknown-channel-autocreate",
    )


async def test_deleting_in_an_unknown_channel(site: Site) -> None:
    await replay(site, "delete-seq-404-channel")


async def test_empty_segments_are_real(site: Site) -> None:
    await replay(site, "create")
    await fill(site, 0)
    writer = await begin(site, "post-empty-body")
    await writer.ask()
    await writer.compare()
    await replay(site, "get-empty-segment", "post-minus1")


async def test_a_half_written_segment_ends_at_the_reset(site: Site) -> None:
    await replay(site, "create")
    await fill(site, 2)
    aborted = await begin(site, "post-aborted")
    await aborted.ask()
    await asyncio.sleep(0.02)
    aborted.connection.abort()
    reader = await begin(site, "get-half-written-until-reset")
    await reader.ask()
    head = await reader.connection.head()
    assert matter(head) == matter(await reader.recorded())
    assert await reader.connection.chunk() == b"half a segment"
    assert await reader.connection.silent()
    await replay(site, "post-with-reset")
    assert await reader.connection.chunk() == b""


async def test_deleting_a_segment_ends_its_reader_and_its_writer(site: Site) -> None:
    await replay(site, "create")
    await fill(site, 4)
    reader = await begin(site, "get-waiting-closed-by-delete-seq")
    writer = await begin(site, "post-preconnect-closed-by-delete-seq")
    await reader.ask()
    await writer.ask()
    assert await reader.connection.silent()
    await replay(site, "delete-seq")
    await reader.compare()
    await writer.compare()


async def test_a_second_post_to_a_finished_segment_is_dropped(site: Site) -> None:
    await replay(site, "create")
    await fill(site, 5)
    await replay(site, "post-same-seq-0", "post-same-seq-1", "get-same-seq", "post-content-length")


async def test_expect_100_continue_is_answered_at_once(site: Site) -> None:
    recorded = await begin(site, "post-expect-100")
    await recorded.ask()
    raw = await asyncio.wait_for(recorded.connection.reader.readuntil(b"\r\n\r\n"), 5)
    assert raw == recorded.answered


async def test_too_old_and_head_and_options(site: Site) -> None:
    await replay(site, "create")
    await fill(site, 15)
    await replay(site, "get-470-too-old", "get-head-method", "options-method")


async def test_deleting_a_channel_tells_reader_and_writer(site: Site) -> None:
    await replay(site, "create")
    await fill(site, 15)
    reader = await begin(site, "get-waiting-closed-by-delete-channel")
    writer = await begin(site, "post-preconnect-closed-by-delete-channel")
    await reader.ask()
    await writer.ask()
    assert await reader.connection.silent()
    await replay(site, "delete-channel")
    await writer.compare()
    await reader.compare()
    await replay(site, "get-after-delete-404", "post-after-delete")
