"""A stock orchestrator's recorded answers over HTTP/1.1, beside ours to the same bytes; and
the job that a stock gateway sends over HTTP/1.1.

Where the two differ, it is on purpose, and stands in ``ON_PURPOSE``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.rpc.payment_result import PaymentResult
from relay.rpc.seg_data import SegData
from tests.orchestrator.doubles import Desk, RunnerDouble, desk, sold
from tests.rpc.captured import transcript

ANSWERS = transcript("live-job/stock-orchestrator.answers.http11.txt")
EXCHANGES = [(ANSWERS[n].messages()[0], ANSWERS[n + 1].data) for n in range(0, len(ANSWERS), 2)]

GOOD_SEGMENT = b"QjIKIJTtMouaPEjJWWWlatNBur9K5B2S8C5tCNqibZ7zR3KWEghhYjQzMjY4YxjrnJHYBg=="
"""The segment header of the recording that held a token of that node."""

ON_PURPOSE = {
    # A wrong method is told instead of a 200 with nothing.
    "GET /live-video-to-video": 405,
    "PUT /live-video-to-video": 405,
    # There is no batch AI here, so there are no such routes.
    "GET /text-to-image": 404,
    "POST /text-to-image": 404,
    # Nobody here has the model, so another orchestrator is to be asked.
    "POST /live-video-to-video nosuch": 503,
    # The stock node drops the connection.
    "POST /live-video-to-video no model": 400,
}


def name_of(request: bytes) -> str:
    line = b" ".join(request.split(b" ")[:2]).decode()
    body = request.partition(b"\r\n\r\n")[2]
    if b'"nosuch"' in body:
        return f"{line} nosuch"
    return f"{line} no model" if body.startswith(b'{"params"') else line


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Desk]:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        yield one


async def exchange(one: Desk, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.node.port)
    writer.write(request)
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        status, headers = parse(head)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    writer.close()
    return status, headers, body


def parse(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, value in pairs}


async def with_our_token(one: Desk, request: bytes, theirs: bytes = GOOD_SEGMENT) -> bytes:
    ours = SegData(auth_token=await one.token()).to_header().encode()
    return request.replace(theirs, ours)


@pytest.mark.parametrize(
    ("request_", "theirs"), EXCHANGES, ids=[f"{n}" for n in range(len(EXCHANGES))]
)
async def test_ours_is_the_stock_orchestrators_answer(
    one: Desk, request_: bytes, theirs: bytes
) -> None:
    status, headers, body = await exchange(one, await with_our_token(one, request_))
    name = name_of(request_)
    if name in ON_PURPOSE:
        assert status == ON_PURPOSE[name]
        return
    head, _, their_body = theirs.partition(b"\r\n\r\n")
    their_status, their_headers = parse(head)
    assert status == their_status
    if their_status == 200 and "json" in their_headers["content-type"]:
        assert headers["content-type"] == their_headers["content-type"]
        assert shape(body) == shape(their_body)
    elif their_status == 200:
        assert headers["content-type"] == their_headers["content-type"]
        assert PaymentResult.parse(body).info is not None
    else:
        assert headers["content-type"] == their_headers["content-type"]
        if name != "POST /nosuch":
            assert headers["x-content-type-options"] == "nosniff"
            # What a gateway looks for is the words before a colon, or all of them.
            words = their_body.split(b":")[0].strip()
            assert their_status == 400 or body.startswith(words)


def shape(body: bytes) -> dict[str, str]:
    """An answer to a job, without the host and the id of it."""
    fields: dict[str, str] = json.loads(body)
    mid = fields["manifest_id"]
    return {
        name: re.sub(r"^https?://[^/]*", "", value).replace(mid, "MID")
        for name, value in fields.items()
    }


@pytest.mark.parametrize("transport", ["http11", "http11-plain"])
async def test_a_stock_gateways_job_over_http11_starts(one: Desk, transport: str) -> None:
    request = transcript(f"live-job/stock-gateway.job.{transport}.txt")[0].messages()[0]
    (theirs,) = re.findall(rb"Livepeer-Segment: (\S+)\r\n", request)
    status, headers, body = await exchange(one, await with_our_token(one, request, theirs))
    assert status == 200
    assert "json" in headers["content-type"]
    assert len(shape(body)) == 5


async def test_a_stock_gateways_own_token_is_refused_in_a_stock_nodes_words(one: Desk) -> None:
    request = transcript("live-job/stock-gateway.job.http11-plain.txt")[0].messages()[0]
    status, _, body = await exchange(one, request)
    assert (status, body) == (403, b"invalid auth token\n")
