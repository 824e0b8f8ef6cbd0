"""The runner API and its warm children, for real."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from relay.config import Pipeline, Worker
from relay.errors import ConfigError, PeerRefused, Unavailable
from relay.rpc.certificate import node_certificate, server_context
from relay.rpc.runner import RunnerStart, RunnerStatus
from relay.rpc.runner_client import RunnerClient
from relay.worker.node import WorkerNode
from relay.worker.requests import MAX_BODY
from relay.worker.supervisor import SlotState
from tests.network import ran
from tests.worker import clip
from tests.worker.desk import Desk, desk, until

MODELS = {
    "passthrough": "pipelines.passthrough:Passthrough",
    "paint": "tests.worker.stand_ins:Paint",
    "moody": "tests.worker.stand_ins:Moody",
}


@asynccontextmanager
async def worker(
    models: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[WorkerNode]:
    pipelines = [Pipeline(model_id=name, entry=entry) for name, entry in (models or MODELS).items()]
    node = WorkerNode(Worker(**{"port": 0, "slots": 1, "pipelines": pipelines, **settings}))
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
        assert [slot.state for slot in node.slots] == [SlotState.CLOSED] * len(node.slots)


@asynccontextmanager
async def client(node: WorkerNode) -> AsyncIterator[RunnerClient]:
    async with aiohttp.ClientSession() as session:
        yield RunnerClient(
            session, f"http://127.0.0.1:{node.port}", token=node.settings.token, ssl=False
        )


async def ask(
    node: WorkerNode, path: str, *, body: bytes | None = None, token: str | None = None
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            "GET" if body is None else "POST",
            f"http://127.0.0.1:{node.port}{path}",
            data=body,
            headers=headers,
        ) as response,
    ):
        assert response.content_type == "application/json"
        return response.status, await response.json()


def video(start: int = 0, frames: int = 5) -> list[Any]:
    return clip.video(frames=frames, start=start * clip.STEP, keyframe_interval=0.1)


async def restarted(node: WorkerNode, pid: int | None) -> None:
    await until(lambda: node.slots[0].pid != pid and node.slots[0].state is SlotState.READY)


async def test_a_worker_loads_runs_a_job_and_is_free_again() -> None:
    async with worker() as node, client(node) as runner:
        assert (await runner.health(timeout=2)).status is RunnerStatus.LOADING
        with pytest.raises(PeerRefused, match="insufficient capacity"):
            await runner.start(RunnerStart("http://h/a", "http://h/b"), timeout=2)
        await node.wait_ready()
        health = await runner.health(timeout=2)
        assert health.status is RunnerStatus.IDLE
        assert health.slots is not None
        assert (health.slots.total, health.slots.free) == (1, 1)
        async with desk() as it:
            await runner.start(it.start("paint", luma=99), timeout=5)
            health = await runner.health(timeout=2)
            assert health.status is RunnerStatus.OK
            assert health.slots is not None
            assert health.slots.free == 0
            with pytest.raises(PeerRefused) as raised:
                await runner.start(it.start("paint"), timeout=5)
            assert raised.value.code == "runner_capacity"
            await it.step(video())
            await it.end_input()
            await until(lambda: node.health().status is RunnerStatus.IDLE)
            assert not it.server.exists("mid-out")


async def test_a_slot_is_used_again_with_the_defaults() -> None:
    async with worker() as node, client(node) as runner:
        await node.wait_ready()
        pid = node.slots[0].pid
        for params in ({"luma": 99}, {}):
            async with desk() as it:
                await runner.start(it.start("paint", **params), timeout=5)
                await it.step(video())
                await until(lambda it=it: it.statuses)  # type: ignore[misc]
                last = it.statuses[-1].inference_status.last_params
                assert last == {"luma": 50, "other": 0} | params
                await it.end_input()
                await until(lambda: node.slots[0].state is SlotState.READY)
        assert node.slots[0].pid == pid


async def test_the_api_tells_versions_hardware_and_schemas() -> None:
    async with worker() as node, client(node) as runner:
        status, answer = await ask(node, "/schema?model_id=paint")
        assert status == 503
        await node.wait_ready()
        schema = await runner.schema("paint", timeout=2)
        assert schema is not None
        assert schema.version == "paint-1"
        assert schema.schema["properties"]["luma"]["maximum"] == 235
        assert await runner.schema("other", timeout=2) is None
        assert await runner.version(timeout=2) != ""
        hardware = await runner.hardware(timeout=2)
        assert hardware is not None
        assert hardware.model_id == "passthrough"
        status, answer = await ask(node, "/nothing")
        assert (status, answer) == (404, {"detail": {"msg": "Not Found"}})
        status, answer = await ask(node, "/live-video-to-video")
        assert status == 400
        assert answer["detail"]["msg"]


GOOD = b'{"subscribe_url":"http://127.0.0.1:1/a","publish_url":"http://127.0.0.1:1/b"'


async def test_trickle_is_spoken_over_tls_and_verified_only_when_told_to(
    tmp_path: Path,
) -> None:
    for node_tls in ("pin", "off", "ca"):
        async with worker(node_tls=node_tls) as node, client(node) as runner:
            await node.wait_ready()
            async with desk(server_context(*node_certificate(tmp_path, "127.0.0.1"))) as it:
                await runner.start(it.start("passthrough"), timeout=5)
                if node_tls == "ca":
                    it.put(video()[0])
                    await until(lambda: node.slots[0].state is SlotState.READY)
                    assert it.units == []
                else:
                    await it.step(video())


async def test_channels_elsewhere_than_its_orchestrator_may_send_it_are_refused() -> None:
    async with worker(reach="same-host") as node, client(node) as runner:
        await node.wait_ready()
        job = RunnerStart("http://10.0.0.1:9/in", "http://10.0.0.1:9/out")
        with pytest.raises(PeerRefused, match="may not send us"):
            await runner.start(job, timeout=5)
        async with desk() as it:
            await runner.start(it.start("passthrough"), timeout=5)
            await it.step(video())


BAD_STARTS = [
    (b"", 400),
    (b"{", 400),
    (b"[]", 400),
    (b"{}", 422),
    (b'{"subscribe_url":"file:///etc/passwd","publish_url":"http://h/b"}', 422),
    (GOOD + b',"params":[]}', 422),
    (GOOD + b',"model_id":"unknown"}', 400),
    (GOOD + b',"model_id":"paint","params":{"luma":1000}}', 400),
    (GOOD + b',"model_id":"paint","params":{"luma":66}}', 400),
    (b" " * (MAX_BODY + 1), 400),
]


async def test_a_bad_start_is_refused_in_words_and_takes_no_slot() -> None:
    async with worker(token="secret") as node:
        await node.wait_ready()
        for body, status in BAD_STARTS:
            got, answer = await ask(node, "/live-video-to-video", body=body, token="secret")
            assert got == status, body
            detail = answer["detail"]
            assert detail[0]["msg"] if status == 422 else detail["msg"]
            assert node.health().status is RunnerStatus.IDLE, body


async def test_without_the_token_only_health_answers() -> None:
    async with worker(token="secret") as node:
        for path in ("/version", "/hardware/info", "/schema"):
            for token in (None, "wrong", "secret2"):
                status, answer = await ask(node, path, token=token)
                assert (status, "msg" in answer["detail"]) == (401, True)
        assert (await ask(node, "/live-video-to-video", body=b"{}"))[0] == 401
        assert (await ask(node, "/version", token="secret"))[0] == 200
        assert (await ask(node, "/health"))[0] == 200


async def test_probes_tell_alive_from_ready() -> None:
    async with worker(token="secret") as node, client(node) as runner:
        assert (await ask(node, "/healthz"))[0] == 200
        assert (await ask(node, "/readyz"))[0] == 503
        await node.wait_ready()
        assert await ask(node, "/readyz") == (200, {"status": "ready"})
        async with desk() as it:
            await runner.start(it.start("passthrough"), timeout=5)
            assert (await ask(node, "/readyz"))[0] == 200
        await node.drain(time.monotonic())
        assert await ask(node, "/readyz") == (503, {"status": "draining"})
        assert (await ask(node, "/healthz"))[0] == 200


async def test_the_log_names_no_channel(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "relay")
    async with worker() as node, client(node) as runner, desk() as it:
        await node.wait_ready()
        secret = "565f" * 8
        await runner.start(replace(it.start("moody"), manifest_id=secret), timeout=5)
        await it.step(video())
        await it.control({"mood": "raise"})
        await it.feed(video(start=10))
        await until(lambda: it.errors)
        await it.end_input()
        await until(lambda: node.slots[0].state is SlotState.READY)
    assert "slot 0: job 1 of moody has started" in caplog.messages
    assert secret not in caplog.text


async def kill_child(it: Desk, node: WorkerNode) -> None:
    assert node.slots[0].pid is not None
    os.kill(node.slots[0].pid, signal.SIGKILL)


async def stop_child(it: Desk, node: WorkerNode) -> None:
    assert node.slots[0].pid is not None
    os.kill(node.slots[0].pid, signal.SIGSTOP)


async def hang_pipeline(it: Desk, node: WorkerNode) -> None:
    await it.control({"mood": "hang"})
    await it.feed(video(start=10))


async def die_in_pipeline(it: Desk, node: WorkerNode) -> None:
    await it.control({"mood": "die"})
    await it.feed(video(start=10))


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (kill_child, "killed by signal 9"),
        (stop_child, "silent for"),
        (hang_pipeline, "hung for"),
        (die_in_pipeline, "exit status 7"),
    ],
)
async def test_a_lost_child_fails_its_job_with_a_reason_and_is_replaced(
    fault: Any, word: str
) -> None:
    async with worker(watchdog=1.5) as node, client(node) as runner:
        await node.wait_ready()
        pid = node.slots[0].pid
        async with desk() as it:
            await runner.start(it.start("moody"), timeout=5)
            await it.step(video())
            await fault(it, node)
            await until(lambda: it.errors, bound=30)
            assert word in it.errors[-1]
            await until(lambda: not it.server.exists("mid-out"))
            await until(lambda: not it.server.exists("mid-events"))
            await restarted(node, pid)
        async with desk() as it:
            await runner.start(it.start("moody"), timeout=5)
            await it.step(video())


async def test_a_crash_in_one_slot_leaves_the_other_alone() -> None:
    async with worker(slots=2) as node, client(node) as runner:
        await until(lambda: all(slot.state is SlotState.READY for slot in node.slots))
        async with desk() as first, desk() as second:
            await runner.start(first.start("moody"), timeout=5)
            await runner.start(second.start("passthrough"), timeout=5)
            await first.step(video())
            await second.step(video())
            await first.control({"mood": "die"})
            await first.feed(video(start=10))
            await until(lambda: first.errors)
            await second.step(video(start=10))
            assert second.errors == []


async def test_a_pipeline_that_does_not_load_is_named_and_the_others_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = {
        "broken": "tests.worker.stand_ins:BrokenLoad",
        "nowhere": "tests.worker.nothing_here:Nothing",
        "odd": "tests.worker.stand_ins:NotAPipeline",
        "paint": "tests.worker.stand_ins:Paint",
    }
    async with worker(models) as node:
        await node.wait_ready()
        for model, word in (
            ("broken", "no model at None"),
            ("nowhere", "No module named"),
            ("odd", "has no"),
        ):
            assert word in node.problem()
            body = GOOD + b',"model_id":"' + model.encode() + b'"}'
            status, answer = await ask(node, "/live-video-to-video", body=body)
            assert status == 400
            told = f"model {model!r} could not be loaded: "
            assert answer["detail"]["msg"].startswith(told)
            assert word in answer["detail"]["msg"]
            assert await ask(node, f"/schema?model_id={model}") == (500, answer)
        assert (await ask(node, "/schema?model_id=paint"))[0] == 200
        status, health = await ask(node, "/health")
        assert (health["status"], health["broken_models"]) == ("IDLE", ["broken", "nowhere", "odd"])
        assert "nowhere: import: ModuleNotFoundError: No module named" in health["reason"]
        lines = [record for record in caplog.records if "cannot be served" in record.getMessage()]
        assert [line.name for line in lines] == ["relay.worker.slot"] * 3


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("tests.worker.stand_ins:BrokenLoad", "no model at"),
        ("tests.worker.stand_ins:DiesLoading", "exit status 5"),
    ],
)
async def test_a_worker_that_cannot_work_says_why(entry: str, word: str) -> None:
    async with worker({"only": entry}) as node:
        with pytest.raises(Unavailable, match=word):
            await asyncio.wait_for(node.wait_ready(), 30)
        assert node.health().status is RunnerStatus.ERROR
        status, answer = await ask(node, "/readyz")
        assert (status, word in answer["reason"]) == (503, True)
        assert word in (await ask(node, "/health"))[1]["reason"]


async def test_without_the_token_nobody_reads_why_a_worker_does_not_work() -> None:
    async with worker({"only": "tests.worker.stand_ins:BrokenLoad"}, token="secret") as node:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(node.wait_ready(), 30)
        for path in ("/health", "/readyz"):
            assert "reason" not in (await ask(node, path))[1]
            assert "no model at" in (await ask(node, path, token="secret"))[1]["reason"]


async def test_a_worker_with_a_pipeline_that_cannot_be_imported_is_not_ready_and_ends() -> None:
    models = {"nowhere": "tests.worker.nothing_here:Nothing", "echo": "pipelines.echo:Echo"}
    pipelines = [{"model_id": name, "entry": entry} for name, entry in models.items()]
    code, out, errors = await ran(
        *("worker", "--port", "0", "--set", "worker.slots=1"),
        *("--set", f"worker.pipelines={json.dumps(pipelines)}"),
    )
    assert (code, out) == (1, "")
    assert "nowhere: import: ModuleNotFoundError" in errors.splitlines()[-1]
    assert "worker.pipelines" in errors.splitlines()[-1]


async def test_a_machine_that_starts_no_process_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = []

    async def refuse(*args: object, **kwargs: object) -> None:
        attempts.append(args)
        raise OSError("out of processes")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", refuse)
        async with worker() as node:
            with pytest.raises(Unavailable, match="out of processes"):
                await asyncio.wait_for(node.wait_ready(), 30)
            assert len(attempts) == 3


async def test_a_drain_lets_the_job_end_and_takes_no_other() -> None:
    async with worker(slots=2) as node, client(node) as runner:
        await until(lambda: all(slot.state is SlotState.READY for slot in node.slots))
        async with desk() as it:
            await runner.start(it.start("passthrough"), timeout=5)
            await it.step(video())
            draining = asyncio.create_task(node.drain(time.monotonic() + 20))
            await until(lambda: node.draining)
            with pytest.raises(PeerRefused, match="insufficient capacity"):
                await runner.start(it.start("passthrough"), timeout=5)
            health = await runner.health(timeout=2)
            assert health.slots is not None
            assert health.slots.free == 0
            await it.step(video(start=10))
            await it.end_input()
            await asyncio.wait_for(draining, 20)


async def test_stopping_ends_jobs_deletes_their_channels_and_leaves_no_process() -> None:
    async with desk() as it:
        async with worker() as node, client(node) as runner:
            await node.wait_ready()
            pid = node.slots[0].pid
            assert pid is not None
            await runner.start(it.start("passthrough"), timeout=5)
            await it.step(video())
            await node.drain(time.monotonic())
        assert not psutil.pid_exists(pid)
        assert not it.server.exists("mid-out")


async def test_children_die_with_a_parent_that_is_killed() -> None:
    code = (
        "import asyncio\n"
        "from relay.config import Pipeline, Worker\n"
        "from relay.worker.node import WorkerNode\n"
        "async def main():\n"
        "    pipeline = Pipeline(model_id='a', entry='pipelines.echo:Echo')\n"
        "    node = WorkerNode(Worker(port=0, slots=2, pipelines=[pipeline]))\n"
        "    await node.start()\n"
        "    await node.wait_ready()\n"
        "    print(*[slot.pid for slot in node.slots], flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pids = [int(word) for word in (await process.stdout.readline()).split()]
    assert len(pids) == 2
    process.kill()
    await process.wait()
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


CAPTURES = Path(__file__).parents[1] / "captures"


async def raw(port: int, request: bytes) -> tuple[int, Any]:
    """Send a recorded request as it is; status and JSON of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    return int(head.split()[1]), json.loads(body)


async def test_a_stock_orchestrator_is_answered_as_its_own_runner_answers() -> None:
    async with worker({"ident": MODELS["passthrough"]}) as node:
        await node.wait_ready()
        requests = {
            name: (CAPTURES / "runner-api" / f"{name}.request.bin").read_bytes()
            for name in ("health", "version", "hardware-info", "start")
        }
        status, answer = await raw(node.port, requests["health"])
        assert (status, answer["status"]) == (200, "IDLE")
        status, answer = await raw(node.port, requests["version"])
        assert status == 200
        assert answer["model_id"] == "ident"
        assert answer["version"]
        status, answer = await raw(node.port, requests["hardware-info"])
        assert (status, answer["pipeline"]) == (200, "live-video-to-video")
        assert answer["gpu_info"] == node._gpus
        unknown = requests["start"].replace(b'"ident"', b'"other"')
        status, answer = await raw(node.port, unknown)
        assert status == 400
        assert "other" in answer["detail"]["msg"]
        status, answer = await raw(node.port, requests["start"])
        assert (status, answer["manifest_id"]) == (200, "686f04fd")


async def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = WorkerNode(Worker(port=taken.getsockname()[1]))
        with pytest.raises(ConfigError, match="cannot listen"):
            await node.start()


def test_settings_that_make_no_worker_are_refused() -> None:
    with pytest.raises(ConfigError):
        WorkerNode(Worker(pipelines=[]))
    twice = [Pipeline(model_id="a", entry="b:C")] * 2
    with pytest.raises(ConfigError, match="named twice"):
        WorkerNode(Worker(pipelines=twice))
