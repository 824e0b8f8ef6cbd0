"""``make demo`` and ``relay publish``, whole."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import av
import cv2
import pytest

from relay.cli import address, clip, demo, publish
from relay.errors import ConfigError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient
from relay.worker.file import FileSource, write_file
from tests.network import Network, Program, eventually, ran


async def test_the_demo_passes_with_nothing_but_the_loopback(tmp_path: Path) -> None:
    alone = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    up = 'PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && exec "$@"'
    # A worker that changes pictures keeps up with a camera only where it has a core to itself.
    words = ("demo", "--json", "--seconds", "4", "--out", str(tmp_path), "--model", "echo")
    code, out, errors = await ran(*words, before=(*alone, "sh", "-c", up, "sh"))
    assert code == 0, (out, errors, (tmp_path / "demo.log").read_text()[-4000:])
    report = json.loads(out)
    assert report["passed"]
    assert report["frames_in"] == 120
    assert report["frames_out"] >= 60
    assert 0 < report["delay_p50_ms"] <= report["delay_p95_ms"]
    assert report["audio_packets_out"] > 50
    sheet = cv2.imread(report["picture"])
    assert sheet is not None
    assert sheet.shape[0] > 400
    assert sum(unit.is_video for unit in FileSource(Path(report["video"])).units()) >= 60
    with av.open(report["video"]) as written:
        starts = [float(s.start_time * s.time_base) for s in written.streams]
        assert len(starts) == 2
        assert max(map(abs, starts)) < 1, "picture and sound begin together, at 0"


async def test_a_demo_of_a_model_that_nobody_offers_names_those_there_are(tmp_path: Path) -> None:
    words = ("demo", "--seconds", "20", "--out", str(tmp_path), "--model", "nope")
    code, _, errors = await ran(*words)
    assert code == 1
    assert "error: no orchestrator offers “nope”: there is echo, effects" in errors


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_file(path, clip.encoded(2, width=320, height=240))
    return path


async def test_a_file_is_published(network: Network, clip_file: Path) -> None:
    seen: list[AccessUnit] = []
    viewer = await WhepClient.connect(network.whep("file"), on_unit=seen.append)
    url = network.whip("file")
    words = ("publish", str(clip_file), "--to", url, "--model", "passthrough", "--json")
    code, out, errors = await ran(*words)
    assert code == 0, errors
    assert json.loads(out)["frames"] == 60
    assert sum(unit.is_video for unit in seen) >= 20, network.up.said()[-4000:]
    assert any(not unit.is_video for unit in seen)
    await viewer.close()


async def test_a_file_goes_round_until_a_signal(network: Network, clip_file: Path) -> None:
    seen: list[AccessUnit] = []
    viewer = await WhepClient.connect(network.whep("round"), on_unit=seen.append)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "publish", str(clip_file), "--loop"),
        *("--to", network.whip("round"), "--model", "passthrough", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    await eventually(lambda: sum(unit.is_video for unit in seen) > 75, 30)
    process.terminate()
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["frames"] > 75
    await viewer.close()


async def test_an_end_by_the_gateway_is_an_error_and_its_certificate_can_be_trusted(
    tmp_path: Path, clip_file: Path
) -> None:
    settings = {"gateway__tls__self_signed": True, "gateway__data_dir": str(tmp_path)}
    async with Network.running(tmp_path, **settings) as network:
        url = network.whip("over")
        words = ("publish", str(clip_file), "--loop", "--to", url)
        code, _, errors = await ran(*words)
        assert code == 1
        assert "--cacert FILE" in errors
        assert "--insecure" in errors
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", *words, "--model", "passthrough"),
            *("--cacert", f"{tmp_path}/gateway/cert.pem"),
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        said: list[str] = []
        async with asyncio.timeout(30):
            while "live" not in said:
                said.append((await process.stderr.readline()).decode().strip())
        assert f"watch it at {url.replace('/whip/', '/watch/')}" in said
        async with (
            aiohttp.ClientSession() as http,
            http.delete(url.replace("/whip/", "/v1/streams/"), ssl=False) as answer,
        ):
            assert answer.status < 300
        _, errors_left = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 1
        assert "error: the gateway ended the stream: " in errors_left.decode()


async def test_a_gateway_that_is_lost_is_noticed_and_come_back_to(
    tmp_path: Path,
    clip_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(publish, "CONSENT", 1.0)
    free = {"gateway.port": 0, "gateway.webrtc.port": 0}
    gateway = await Program.start("gateway", tmp_path, free)
    request = publish.Request(clip_file, f"{gateway.url}/whip/lost", None, loop=True)
    publishing = asyncio.create_task(publish.publish(request, FileSource(clip_file)))
    said = ""
    while "watch it at" not in said:
        assert not publishing.done()
        await asyncio.sleep(0.05)
        said += capsys.readouterr().err
    gateway.send(signal.SIGKILL)
    port = int(gateway.url.rpartition(":")[2])
    await gateway.stop()
    gateway = await Program.start("gateway", tmp_path, {**free, "gateway.port": port})
    async with asyncio.timeout(30):
        while "connected again" not in said:
            assert not publishing.done()
            await asyncio.sleep(0.05)
            said += capsys.readouterr().err
    assert "the connection is lost: no sign of life; trying again for up to 60 s" in said
    publishing.cancel()
    await asyncio.wait({publishing})
    await gateway.stop()


def test_files_of_authorities_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("garbage")
    for name in ("garbage", "nowhere"):
        with pytest.raises(ConfigError, match=name):
            address.tls_of(insecure=False, cacert=tmp_path / name)


def test_a_demo_of_nothing_says_where_to_look() -> None:
    report = demo.Report("nope", 90, 0, 0.0, 0, None, None, None)
    report.log, report.state = "there/demo.log", "starting: nobody offers it"
    said = demo.text(report)
    assert "there/demo.log" in said
    assert "nobody offers it" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("publish", "nowhere.mp4", "--to", "http://127.0.0.1:9/whip/a"), "nowhere.mp4"),
        (("publish", "CLIP", "--to", "http://127.0.0.1:9/whip/a"), "127.0.0.1:9"),
    ],
)
async def test_what_cannot_be_published_is_said(
    words: tuple[str, ...], named: str, clip_file: Path
) -> None:
    given = [str(clip_file) if word == "CLIP" else word for word in words]
    code, _, errors = await ran(*given)
    assert code == 1
    assert named in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(("load", "said"), [(1.5, False), (5.2, True)])
def test_a_demo_that_fails_on_a_busy_machine_says_so(load: float, said: bool) -> None:
    report = demo.Report("effects", 300, 205, 20.5, 400, 90.0, 300.0, 200.0, load=load, cores=2)
    words = demo.text(report)
    assert "too little came back" in words
    assert ("5.2 processes wanted the 2 cores" in words) is said
