"""A worker behind a stock orchestrator: the statuses, bodies and times of its runner API,
and what the network needs of a runner's channels (live-AI gotchas O16, O18, O24, O27, D3).
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from relay.media.mpegts import Demuxer
from relay.media.unit import Codec
from relay.rpc.runner import RunnerStatus
from relay.worker import supervisor
from relay.worker.control import Change, Keepalive, parse_control
from relay.worker.node import WorkerNode
from tests.rpc.captured import transcript
from tests.worker.desk import Desk, desk, until
from tests.worker.test_node import MODELS, video, worker

ALLOWED = {200, 400, 401, 422, 500}
"""Any other status of a start panics a stock orchestrator's handler (D3)."""


async def send(
    node: WorkerNode, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, str, Any]:
    """Status, content type and JSON of an answer; it comes within a gateway's patience."""
    before = time.monotonic()
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, f"http://127.0.0.1:{node.port}{path}", data=body, headers=headers
        ) as response,
    ):
        found = await response.read()
        assert time.monotonic() - before < 4.0
        return response.status, response.content_type, json.loads(found)


def as_a_stock_node(it: Desk, model_id: str = "passthrough", **params: Any) -> bytes:
    """A start as a stock orchestrator writes it: no ``params`` when there are none."""
    start = it.start(model_id, **params)
    fields = {
        "control_url": start.control_url,
        "events_url": start.events_url,
        "gateway_request_id": "0badcafe",
        "manifest_id": "mid",
        "model_id": model_id,
        "publish_url": start.publish_url,
        "stream_id": "s1",
        "subscribe_url": start.subscribe_url,
        **({"params": params} if params else {}),
    }
    return json.dumps(fields).encode()


def test_a_start_has_its_time() -> None:
    assert supervisor.START_WITHIN < 4.0


async def test_health_is_ok_with_a_job_and_idle_when_the_slot_is_free_again() -> None:
    async with worker({"passthrough": MODELS["passthrough"]}) as node, desk() as it:
        status, kind, body = await send(node, "GET", "/health")
        assert (status, kind) == (200, "application/json")
        assert body["status"] in ("LOADING", "IDLE")
        await node.wait_ready()
        assert (await send(node, "GET", "/health"))[2]["status"] == "IDLE"
        assert (await send(node, "POST", "/live-video-to-video", as_a_stock_node(it)))[0] == 200
        assert (await send(node, "GET", "/health"))[2]["status"] == "OK"
        # A stock node's managed container is free for others when it reads IDLE.
        await it.end_input()
        await until(lambda: node.health().status is RunnerStatus.IDLE)
        assert (await send(node, "GET", "/health"))[2]["status"] == "IDLE"


async def test_health_is_error_when_nothing_can_work() -> None:
    async with worker({"broken": "tests.worker.nowhere:Nothing"}) as node:
        await until(lambda: node.health().broken)
        status, _, body = await send(node, "GET", "/health")
        assert status == 200
        assert body["status"] in ("ERROR", "IDLE")
        assert body["broken_models"] == ["broken"]


async def test_version_and_hardware_have_what_is_read_of_them() -> None:
    async with worker({"passthrough": MODELS["passthrough"]}) as node:
        status, kind, body = await send(node, "GET", "/version")
        assert (status, kind) == (200, "application/json")
        assert (body["pipeline"], body["model_id"]) == ("live-video-to-video", "passthrough")
        assert body["version"]
        status, kind, body = await send(node, "GET", "/hardware/info")
        assert (status, kind) == (200, "application/json")
        assert body["pipeline"] == "live-video-to-video"
        assert isinstance(body["gpu_info"], dict)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{nope", 400),
        (b"[]", 400),
        (b"x" * (1 << 20), 400),
        (b'{"subscribe_url": "http://a/b"}', 422),
        (b'{"subscribe_url": "file:///x", "publish_url": "http://a/b"}', 422),
        (b'{"subscribe_url": "http://a/b", "publish_url": "http://a/c", "params": 7}', 422),
        (b'{"subscribe_url": "http://a/b", "publish_url": "http://a/c", "model_id": "no"}', 400),
    ],
)
async def test_d3_every_refusal_has_a_status_and_a_shape_that_a_stock_node_reads(
    body: bytes, status: int
) -> None:
    async with worker({"passthrough": MODELS["passthrough"]}) as node:
        await node.wait_ready()
        found, kind, answer = await send(node, "POST", "/live-video-to-video", body)
        assert (found, kind) == (status, "application/json")
        if status == 422:
            assert [set(item) >= {"loc", "msg", "type"} for item in answer["detail"]] == [True]
        else:
            assert isinstance(answer["detail"]["msg"], str)


async def test_d3_a_busy_worker_a_wrong_token_and_odd_methods_never_leave_the_set() -> None:
    async with worker({"passthrough": MODELS["passthrough"]}, token="s3") as node, desk() as it:
        await node.wait_ready()
        good = {"Authorization": "Bearer s3"}
        path, body = "/live-video-to-video", as_a_stock_node(it)
        assert (await send(node, "POST", path, body))[0] == 401
        assert (await send(node, "POST", path, body, Authorization="Bearer no"))[0] == 401
        assert (await send(node, "POST", path, body, **good))[0] == 200
        status, _, answer = await send(node, "POST", path, body, **good)
        assert (status, answer["detail"]["msg"]) == (500, "insufficient capacity")
        for method in ("GET", "PUT", "DELETE"):
            assert (await send(node, method, path, None, **good))[0] in ALLOWED
        odd = {**good, "Content-Encoding": "gzip"}
        assert (await send(node, "POST", path, body, **odd))[0] in ALLOWED


# the channels


async def test_o16_status_comes_at_once_and_no_event_is_empty() -> None:
    async with worker({"passthrough": MODELS["passthrough"]}) as node, desk() as it:
        await node.wait_ready()
        assert (await send(node, "POST", "/live-video-to-video", as_a_stock_node(it)))[0] == 200
        # A stock gateway reads from the next segment on, so the first is told again.
        await until(lambda: len(it.statuses) >= 2)
        await it.end_input()
        await until(lambda: node.health().status is RunnerStatus.IDLE)
        assert all(event.body for event in it.events)


async def test_o24_o27_output_is_h264_from_tables_on_and_any_first_time_is_taken() -> None:
    far = 20_000  # frames; about eleven minutes into a stream
    async with worker(MODELS, keyframe_interval=0.5) as node, desk() as it:
        await node.wait_ready()
        assert (await send(node, "POST", "/live-video-to-video", as_a_stock_node(it)))[0] == 200
        await it.step(video(far, frames=30))
        await it.end_input()
        await until(lambda: node.health().status is RunnerStatus.IDLE)
        assert it.segments
        assert [unit.pts for unit in it.video] == sorted({unit.pts for unit in it.video})
        assert {unit.codec for unit in it.video} == {Codec.H264}
        for segment in it.segments:
            if not segment:
                continue
            # PAT, PMT, and a key frame that can be decoded from here alone.
            pids = [int.from_bytes(segment[at + 1 : at + 3], "big") & 0x1FFF for at in (0, 188)]
            assert pids[0] == 0
            assert pids[1] >= 0x10
            alone = Demuxer()
            units = alone.feed(segment, 0.0) + alone.flush(0.0)
            assert units[0].keyframe


@pytest.mark.parametrize(("name", "kind"), [("message", Change), ("keepalive", Keepalive)])
def test_control_messages_of_a_stock_gateway_are_understood(name: str, kind: type) -> None:
    head, _, chunked = transcript(f"live-job/control-{name}.txt")[0].data.partition(b"\r\n\r\n")
    assert b"Content-Type: video/MP2T" in head
    size, _, rest = chunked.partition(b"\r\n")
    assert isinstance(parse_control(rest[: int(size, 16)]), kind)


async def test_jobs_one_after_the_other_each_free_the_slot() -> None:
    async with worker({"passthrough": MODELS["passthrough"]}) as node:
        await node.wait_ready()
        for _ in range(3):
            async with desk() as it:
                answer = await send(node, "POST", "/live-video-to-video", as_a_stock_node(it))
                assert answer[0] == 200
                # A stock orchestrator ends a job by closing all four channels.
                for name in ("mid", "mid-out", "mid-control", "mid-events"):
                    await it.server.close(name)
                await until(lambda: node.health().status is RunnerStatus.IDLE)
                await asyncio.sleep(0)
