"""The node itself: its addresses, its certificate, wrong settings, and its own failure."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from relay.config import NodeTlsFiles, Orchestrator, Runner
from relay.errors import ConfigError
from relay.orchestrator.node import OrchestratorNode
from relay.orchestrator.runners import _version_key
from relay.rpc import certificate, given_certificate
from relay.rpc.certificate import Term, self_signed
from tests.network import eventually
from tests.orchestrator.doubles import MODEL, RunnerDouble, desk, sold
from tests.orchestrator.foreigners import leaf_of
from tests.rpc.test_certificate import names_of


async def test_by_default_it_serves_tls_under_its_own_address(tmp_path: Path) -> None:
    async with desk(tmp_path, [], tls=True) as one:
        assert one.url == f"https://127.0.0.1:{one.node.port}"
        assert (await one.ask()).transcoder == one.url
        assert (await one.status())["draining"] is False
        assert names_of(tmp_path / "cert.pem")[0] == "DNSName 127.0.0.1"


async def test_the_certificate_is_for_the_address_that_is_told(tmp_path: Path) -> None:
    async with desk(tmp_path, [], service_url="https://node.example:443/") as one:
        assert one.url == "https://node.example:443"
        assert names_of(tmp_path / "cert.pem") == ["DNSName node.example"]


async def test_the_operators_certificate_is_served_in_the_place_of_our_own(tmp_path: Path) -> None:
    certificate, key = self_signed("127.0.0.1", datetime.now(UTC))
    (tmp_path / "given.pem").write_bytes(certificate)
    (tmp_path / "given.key").write_bytes(key)
    files = NodeTlsFiles(cert=tmp_path / "given.pem", key=tmp_path / "given.key")
    verifying = ssl.create_default_context(cadata=certificate.decode())
    node = OrchestratorNode(Orchestrator(port=0, data_dir=tmp_path, tls=files))
    await node.start()
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{node.service_url}/healthz", ssl=verifying) as answer,
        ):
            assert answer.status < 500
    finally:
        await node.stop()
    assert not (tmp_path / "cert.pem").exists()
    node = OrchestratorNode(Orchestrator(port=0, service_url="http://127.0.0.1:0", tls=files))
    with pytest.raises(ConfigError, match=r"orchestrator\.tls needs an https:// service_url"):
        await node.start()


async def test_a_renewed_certificate_for_another_name_is_a_warning_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_certificate, "LOOK", 0.02)

    def renew(host: str) -> None:
        certificate, key = self_signed(host, datetime.now(UTC))
        (tmp_path / "given.pem").write_bytes(certificate)
        (tmp_path / "given.key").write_bytes(key)

    renew("node.example")
    files = NodeTlsFiles(cert=tmp_path / "given.pem", key=tmp_path / "given.key")
    url = "https://node.example:8935"
    node = OrchestratorNode(Orchestrator(port=0, data_dir=tmp_path, tls=files, service_url=url))
    await node.start()
    try:
        assert "orchestrator.tls.cert" not in caplog.text
        renew("old.example")
        await eventually(lambda: "is made for old.example" in caplog.text)
        with caplog.at_level(logging.INFO):
            caplog.clear()
            renew("node.example")
            await eventually(lambda: "is served from now on" in caplog.text)
        assert "orchestrator.tls.cert" not in caplog.text
    finally:
        await node.stop()


@pytest.mark.parametrize(
    ("host", "told"),
    [("node.example", True), ("*.example", False), ("NODE.example", False), ("127.0.0.1", True)],
)
async def test_a_certificate_for_another_name_than_is_told_is_a_warning_at_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, told: bool
) -> None:
    certificate, key = self_signed(host, datetime.now(UTC))
    (tmp_path / "given.pem").write_bytes(certificate)
    (tmp_path / "given.key").write_bytes(key)
    files = NodeTlsFiles(cert=tmp_path / "given.pem", key=tmp_path / "given.key")
    url = "https://other.example" if host == "node.example" else "https://node.example:8935"
    node = OrchestratorNode(Orchestrator(port=0, data_dir=tmp_path, tls=files, service_url=url))
    await node.start()
    await node.stop()
    lines = [line for line in caplog.messages if "orchestrator.tls.cert" in line]
    assert bool(lines) is told
    if told:
        assert host in lines[0]
        assert "orchestrator.service_url" in lines[0]
        assert "node_tls: ca" in lines[0]


async def test_a_damaged_certificate_is_named_at_start(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("garbage")
    (tmp_path / "key.pem").write_text("garbage")
    node = OrchestratorNode(Orchestrator(port=0, data_dir=tmp_path))
    with pytest.raises(ConfigError, match=r"cert\.pem is no certificate"):
        await node.start()


async def test_the_certificate_is_renewed_under_a_running_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    term = Term(timedelta(seconds=5), timedelta(seconds=3), timedelta(seconds=0.05))
    monkeypatch.setattr(certificate, "TERM", term)
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner), tls=True) as one,
    ):
        first, _ = await asyncio.to_thread(leaf_of, one.url, ["h2"])
        await one.start()
        await eventually(lambda: (tmp_path / "cert.pem").read_bytes().strip() != first.strip())
        now, _ = await asyncio.to_thread(leaf_of, one.url, ["h2"])
        assert now.strip() == (tmp_path / "cert.pem").read_bytes().strip() != first.strip()
        assert (await one.status())["jobs"]


async def test_an_http_address_serves_plain_text(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        assert one.url == f"http://127.0.0.1:{one.node.port}"
        assert (await one.start()).publish_url.startswith(f"{one.url}/ai/trickle/")
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "service_url is needed"),
        ({"host": "::"}, "service_url is needed"),
        ({"service_url": "ftp://x"}, "service_url"),
        ({"service_url": "https://h:99999"}, "service_url.*[Pp]ort"),
        ({"runner_trickle_url": "h:80"}, "runner_trickle_url"),
        ({"models": [Runner(model_id="m", url="nowhere")]}, "url of model m"),
        ({"models_file": Path("/nonexistent/models.json")}, "models file"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(
    settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        OrchestratorNode(Orchestrator.model_validate(settings))


async def test_a_port_in_use_is_named_and_nothing_stays(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        settings = Orchestrator(
            models=sold(runner),
            port=one.node.port,
            data_dir=tmp_path,
            service_url="http://127.0.0.1:0",
        )
        before = len(asyncio.all_tasks())
        with pytest.raises(ConfigError, match=str(one.node.port)):
            await OrchestratorNode(settings).start()
        await eventually(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_stop_leaves_no_task_and_no_descriptor(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner:
        async with desk(tmp_path, sold(runner)) as one:
            await one.start()
        tasks, files = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            async with desk(tmp_path, sold(runner, capacity=9)) as one:
                await one.start()
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= files)


async def test_a_failure_of_its_own_work_makes_it_say_that_it_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        job = await one.start()

        async def broken(url: str) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(one.node.runners, "look", broken)
        await one.until(lambda status: status["draining"])
        assert "own work has failed" in caplog.text
        async with one.session.get(f"{one.url}/readyz") as response:
            assert response.status == 503
        # Its jobs can still be ended.
        await one.delete(job.control_url)
        await one.until(lambda status: not status["jobs"])
        assert not any(await one.channels_of(job))


@pytest.mark.parametrize(
    ("versions", "lowest"),
    [
        (["0.9.1", "0.10.0"], "0.9.1"),
        (["1.0.0-rc1", "0.9.9"], "0.9.9"),
        (["v0.2", "0.1.5"], "0.1.5"),
        (["0.0.1", "odd"], "odd"),
    ],
)
def test_the_lowest_version_is_the_lowest_by_its_numbers(versions: list[str], lowest: str) -> None:
    assert min(versions, key=_version_key) == lowest


async def test_two_runners_of_a_model_are_one_offer(tmp_path: Path) -> None:
    async with (
        RunnerDouble().running() as first,
        RunnerDouble().running() as second,
        desk(tmp_path, [*sold(first, warm=False), *sold(second, capacity=2)]) as one,
    ):
        info = await one.ask(MODEL)
        assert info.capabilities is not None
        constraint = info.capabilities.models()[MODEL]
        assert (constraint.warm, constraint.capacity) == (True, 3)
