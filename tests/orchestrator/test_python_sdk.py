"""The network's Python gateway SDK: what it sent, sent again to ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from relay.media.mpegts import Demuxer
from relay.rpc.grpc import MessageReader
from relay.rpc.live_job import LiveJobAnswer
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.payment_result import PaymentResult
from relay.rpc.seg_data import SegData
from tests.network import eventually
from tests.orchestrator.doubles import Desk, RunnerDouble, desk, sold
from tests.rpc.captured import captured

SDK_MODEL = "effects"
DATA, END_STREAM = 0, 1


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        RunnerDouble().running() as runner,
        desk(
            tmp_path, [entry.model_copy(update={"model_id": SDK_MODEL}) for entry in sold(runner)]
        ) as one,
    ):
        yield one


async def send(one: Desk, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.node.port)
    writer.write(data)
    return reader, writer


async def answer(one: Desk, data: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to one request that asks for the connection's end."""
    reader, writer = await send(one, data)
    async with asyncio.timeout(5):
        whole = await reader.read(-1)
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def with_our_token(one: Desk, name: str) -> bytes:
    request = captured(f"python-sdk/{name}")
    (theirs,) = re.findall(rb"Livepeer-Segment: (\S+)\r\n", request)
    token = (await one.ask(SDK_MODEL)).auth_token
    return request.replace(theirs, SegData(auth_token=token).to_header().encode())


async def start(one: Desk) -> LiveJobAnswer:
    status, body = await answer(one, await with_our_token(one, "job.request.bin"))
    assert status == 200
    return LiveJobAnswer.parse(body, transcoder=one.url)


@asynccontextmanager
async def replay(one: Desk, name: str, mid: str) -> AsyncIterator[None]:
    """Send a recorded connection to the channels of the job ``mid``; it stays open."""
    data = re.sub(rb"(/ai/trickle/)[0-9a-f]{32}", rb"\g<1>" + mid.encode(), captured(name))
    _, writer = await send(one, data)
    try:
        yield
    finally:
        writer.close()


def up_to_the_message(stream: bytes) -> bytes:
    """The client's preface and its frames up to the one that ends its call."""
    at = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    while True:
        length, kind, flags = (
            int.from_bytes(stream[at : at + 3], "big"),
            stream[at + 3],
            stream[at + 4],
        )
        at += 9 + length
        if kind == DATA and flags & END_STREAM:
            return stream[:at]


async def test_its_get_orchestrator_is_answered(one: Desk) -> None:
    reader, writer = await send(
        one, up_to_the_message(captured("python-sdk/get-orchestrator.c2s.bin"))
    )
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    head = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "o")]
    client.send_headers(1, head, end_stream=True)
    data, trailers = b"", dict[str, str]()
    async with asyncio.timeout(5):
        while not trailers:
            for event in client.receive_data(await reader.read(65536)):
                if isinstance(event, h2.events.DataReceived):
                    data += event.data or b""
                elif isinstance(event, h2.events.TrailersReceived):
                    trailers = {str(name): str(value) for name, value in event.headers}
    writer.close()
    assert trailers["grpc-status"] == "0"
    (message,) = MessageReader(1 << 20).feed(data)
    info = OrchestratorInfo.parse(message)
    assert info.transcoder == one.url
    assert info.capabilities is not None
    assert SDK_MODEL in info.capabilities.models()


async def read(one: Desk, url: str) -> bytes:
    async with one.session.get(url) as response:
        assert response.status == 200
        return await response.read()


async def test_its_job_starts_and_its_media_arrives(one: Desk) -> None:
    job = await start(one)
    reading = asyncio.create_task(read(one, f"{job.publish_url}/0"))
    await asyncio.sleep(0.1)
    async with replay(one, "python-sdk/publish.c2s.bin", job.manifest_id), asyncio.timeout(5):
        segment = await reading
    demuxer = Demuxer()
    units = demuxer.feed(segment, 0.0) + demuxer.flush(0.0)
    assert [unit.pts for unit in units] == sorted({unit.pts for unit in units})
    assert len(units) >= 55
    assert units[0].keyframe
    assert demuxer.dropped_packets == demuxer.dropped_units == demuxer.discontinuities == 0


async def test_its_control_message_arrives_and_its_leaving_ends_the_job(one: Desk) -> None:
    job = await start(one)
    message = asyncio.create_task(read(one, f"{job.control_url}/0"))
    await asyncio.sleep(0.1)
    async with replay(one, "python-sdk/control.c2s.bin", job.manifest_id), asyncio.timeout(5):
        assert await message == b'{"effect": "negative"}'
        await eventually(lambda: gone(one, job), 5)


async def gone(one: Desk, job: LiveJobAnswer) -> bool:
    return not any(await one.channels_of(job))


async def test_its_payment_without_money_is_taken_off_chain(one: Desk) -> None:
    status, body = await answer(one, await with_our_token(one, "payment.request.bin"))
    assert status == 200
    assert PaymentResult.parse(body).info is not None
