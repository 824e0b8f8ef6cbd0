"""Bad input at the orchestrator's one port: refused, and its places are still for sale."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.orchestrator import rest
from relay.rpc.seg_data import SegData
from tests.network import eventually
from tests.orchestrator.doubles import ALL, Desk, RunnerDouble, desk, sold

START = "/live-video-to-video"
BODY = b'{"model_id":"ident","params":{},"gateway_request_id":"a","stream_id":"s"}'


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Desk]:
    """An orchestrator with two places, of which a job of another has one."""
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner, capacity=2)) as one:
        job = await one.start()
        yield one
        assert await one.channels_of(job) == ALL
        await eventually(lambda: len(one.node.jobs.running) == 1, 5, every=0.02)
        await one.start()


async def raw(one: Desk, path: str, *headers: bytes, body: bytes = b"") -> tuple[int, str]:
    """A POST byte by byte; status and text of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.node.port)
    lines = [b"Host: x", b"Connection: close", *headers]
    if not any(line.lower().startswith((b"content-l", b"transfer-e")) for line in lines):
        lines.append(b"Content-Length: %d" % len(body))
    head = f"POST {path} HTTP/1.1\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n"
    try:
        async with asyncio.timeout(8):
            writer.write(head + body)
            got = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", got)
            text = await (reader.readexactly(int(length[1])) if length else reader.read())
    finally:
        writer.close()
    return int(got.split()[1]), text.decode("utf-8", "replace")


async def token(one: Desk) -> bytes:
    return b"Livepeer-Segment: " + SegData(auth_token=await one.token()).to_header().encode()


def job(**fields: object) -> bytes:
    return json.dumps({**json.loads(BODY), **fields}).encode()


BODIES = {
    "a bomb": ([b"Content-Encoding: gzip"], gzip.compress(bytes(50_000_000)), 400),
    "no gzip": ([b"Content-Encoding: gzip"], b"no gzip", 400),
    "text that is none": ([], b'{"model_id":"\xff"}', 400),
    "half a surrogate": ([], b'{"model_id":"\\ud800"}', 400),
    "deep": ([], b"[" * 100_000, 400),
    "deep parameters": ([], b'{"model_id":"ident","params":' + b'{"a":' * 1000 + b"1" * 1, 400),
    "a number out of range": ([], job(params={}).replace(b"{}", b'{"a":1e999}'), 400),
    "a model of another kind": ([], job(model_id=["ident"]), 400),
    "a model of zeros": ([], job(model_id="\0" * 1000), 400),
    "a model that nobody has": ([], job(model_id="\0"), 503),
    "10 MB": ([b"Content-Length: 10000000"], b"{", 413),
    "chunks over the bound": (
        [b"Transfer-Encoding: chunked"],
        b"200000\r\n" + b"x" * 0x200000 + b"\r\n",
        413,
    ),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body(one: Desk, caplog: pytest.LogCaptureFixture, name: str) -> None:
    headers, body, status = BODIES[name]
    told, text = await raw(one, START, await token(one), *headers, body=body)
    assert told == status
    assert 0 < len(text) < 1000
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Livepeer-Segment: \xff\xfe", 403),
        (b"Livepeer-Segment: " + b"QUFB" * 5000, 403),
        (b"Livepeer-Segment: ====", 403),
        (b"Livepeer-Payment: \xff\xfe", 402),
        (b"Livepeer-Payment: " + b"////" * 5000, 402),
        (b"Livepeer-Payment: " + b"A" * 40_000, 400),
    ],
)
async def test_a_bad_header(
    one: Desk, caplog: pytest.LogCaptureFixture, header: bytes, status: int
) -> None:
    for path in (START, "/payment"):
        headers = [header] if b"Segment" in header else [header, await token(one)]
        assert (await raw(one, path, *headers, body=BODY))[0] == status
    assert "Traceback" not in caplog.text


async def test_ids_of_any_text_go_to_the_runner_as_they_are(tmp_path: Path) -> None:
    text = "\0\r\nX: y “🎥”" * 100
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        body = job(stream_id=text, gateway_request_id=text)
        told, answer = await raw(one, START, await token(one), body=body)
        assert told == 200
        assert text not in answer
        (start,) = runner.starts
        assert (start.stream_id, start.gateway_request_id) == (text, text)


async def test_a_body_that_breaks_off_or_breaks_its_framing_is_400(
    one: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "READ_WITHIN", 0.1)
    chunked = b"Transfer-Encoding: chunked"
    assert (await raw(one, START, chunked, body=b"zz\r\n"))[0] == 400
    for broken in (b"x\r\n", b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", one.node.port)
        writer.write(b"POST " + START.encode() + b" HTTP/1.1\r\nHost: x\r\n" + chunked)
        writer.write(b"\r\n\r\n1\r\n{\r\n")
        await asyncio.sleep(0.02)  # the handler waits for the rest by now
        writer.write(broken)
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400 ")
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", one.node.port)
    writer.write(b"POST " + START.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    await asyncio.sleep(0.02)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert "Traceback" not in caplog.text


async def test_channels_of_others_cannot_be_guessed(one: Desk) -> None:
    (running,) = one.node.jobs.running
    name = running.channels.events.removesuffix("-events")
    for guess in (name[:8], name[:-1], name + "x", name.upper() + "X", "..", name + "%00"):
        for method in ("GET", "POST", "DELETE"):
            url = f"{one.url}/ai/trickle/{guess}-events/0"
            async with one.session.request(method, url, data=b"x" * (method == "POST")) as answer:
                assert answer.status in (400, 404)
    async with one.session.delete(f"{one.url}/ai/trickle/{name}x") as answer:
        assert answer.status == 400
