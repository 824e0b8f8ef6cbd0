"""Bad input at the runner API: refused in JSON by a status that stock orchestrators read, and
the slot is still free for the next one."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from relay.config import Pipeline, Worker
from relay.errors import ParseError
from relay.rpc.runner import RunnerStart, Slots
from relay.worker import requests as requests_module
from relay.worker.node import WorkerNode
from relay.worker.supervisor import SlotState

# One worker for all: what one test sends must not spoil it for the next.
pytestmark = pytest.mark.asyncio(loop_scope="module")

START = "/live-video-to-video"
BODY: dict[str, Any] = {
    "subscribe_url": "http://127.0.0.1:1/a",
    "publish_url": "http://127.0.0.1:1/b",
    "model_id": "paint",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[WorkerNode]:
    pipelines = [Pipeline(model_id="paint", entry="tests.worker.stand_ins:Paint")]
    made = WorkerNode(Worker(port=0, slots=1, pipelines=pipelines, token="k"))
    await made.start()
    await made.wait_ready()
    yield made
    await made.stop()


async def raw(
    node: WorkerNode, method: str, path: str, *headers: bytes, body: bytes = b""
) -> tuple[int, Any]:
    """One request byte by byte; status and JSON of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    lines = [b"Host: x", b"Connection: close", *headers]
    if not any(line.startswith(b"Authorization") for line in headers):
        lines.append(b"Authorization: Bearer k")
    if not any(line.startswith((b"Content-Length", b"Transfer-E")) for line in headers):
        lines.append(b"Content-Length: %d" % len(body))
    head = f"{method} {path} HTTP/1.1\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n"
    try:
        async with asyncio.timeout(5):
            writer.write(head + body)
            got = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", got)
            text = await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()
    assert b"Content-Type: application/json" in got
    assert len(text) < 4000
    return int(got.split()[1]), json.loads(text)


def start(**fields: Any) -> bytes:
    return json.dumps(BODY | fields).encode()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


BODIES = {
    "a bomb": ([b"Content-Encoding: gzip"], gzip.compress(bytes(50_000_000)), 400),
    "no gzip": ([b"Content-Encoding: gzip"], b"no gzip", 400),
    "an unknown encoding": ([b"Content-Encoding: br"], start(), 400),
    "text that is none": ([], b'{"subscribe_url":"\xff"}', 400),
    "deep": ([], b"[" * 100_000, 400),
    "10 MB": ([b"Content-Length: 10000000"], b"{", 400),
    "chunks over the bound": ([b"Transfer-Encoding: chunked"], b"80000\r\n" + bytes(0x80000), 400),
    "poison": ([], start(params={"luma": 10**400}), 400),
    "out of range": ([], start(params={}).replace(b"{}", b'{"luma":1e999}'), 400),
    "deep parameters": ([], start(params=nested(200)), 400),
    "deeper parameters": ([], start(params=nested(900)), 400),
    "no host": ([], start(subscribe_url="http://a..b/x"), 422),
    "no address": ([], start(publish_url="http://[bad"), 422),
    "another scheme": ([], start(control_url="gopher://h/x"), 422),
    "a split header": ([], start(events_url="http://h/\r\nX: y"), 422),
    "a long address": ([], start(publish_url="http://h/" + "x" * 5000), 422),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_start(node: WorkerNode, caplog: pytest.LogCaptureFixture, name: str) -> None:
    headers, body, status = BODIES[name]
    told, answer = await raw(node, "POST", START, *headers, body=body)
    assert told == status
    assert answer["detail"]
    assert node.health().slots == Slots(1, 1)
    assert "Traceback" not in caplog.text


async def test_a_job_that_cannot_be_told_to_the_child_leaves_the_slot_free(
    node: WorkerNode,
) -> None:
    for params in (nested(300), {"a": object()}, {"a": "x" * (1 << 20)}):
        job = RunnerStart("http://127.0.0.1:1/a", "http://127.0.0.1:1/b", params=params)
        with pytest.raises(ParseError):
            await node.slots[0].start(job)
        assert node.slots[0].state is SlotState.READY


@pytest.mark.parametrize("token", [b"", b"Bearer", b"Bearer \xff\xfe", b"Bearer k " + b"x" * 5000])
async def test_a_bad_token(node: WorkerNode, token: bytes) -> None:
    for method, path in (("POST", START), ("GET", "/version"), ("GET", "/schema")):
        headers = [b"Authorization: " + token]
        assert (await raw(node, method, path, *headers, body=start()))[0] == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/schema?model_id=%ff%00", 404),
        ("/schema?model_id=" + "x" * 3000, 404),
        ("/version?model_id=%ed%a0%80", 200),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/live-video-to-video/x", 404),
    ],
)
async def test_a_bad_address(node: WorkerNode, path: str, status: int) -> None:
    assert (await raw(node, "GET", path))[0] == status


async def test_a_body_that_breaks_off_or_never_comes(
    node: WorkerNode, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "READ_WITHIN", 0.1)
    told, answer = await raw(node, "POST", START, b"Content-Length: 100", body=b"{")
    assert (told, answer["detail"]["msg"]) == (400, "the body did not come in time")
    head = b"POST /live-video-to-video HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
    for broken in (b"zz\r\n", None):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        await asyncio.sleep(0.02)  # the handler waits for the rest by now
        if broken is None:
            writer.transport.abort()
            continue
        writer.write(broken)
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400 ")
        writer.close()
    await asyncio.sleep(0.05)
    assert "Traceback" not in caplog.text


async def test_bytes_that_are_no_http_do_not_fill_the_log(
    node: WorkerNode, caplog: pytest.LogCaptureFixture
) -> None:
    for data in (b"\0\1\2\r\n\r\n", b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(data)
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    assert "Traceback" not in caplog.text
