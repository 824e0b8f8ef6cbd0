"""Smoke tests reach their target, stay within their bounds, and end with the gateway."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from relay.errors import BadInput, NotOffered, RateLimited
from relay.gateway import smoke
from relay.gateway.smoke import SmokeTests, check_target
from relay.gateway.status import StreamState
from tests.gateway.desk import NAME, gateway
from tests.network import eventually


@pytest.fixture
def program(tmp_path: Path) -> str:
    """Stands in for ffmpeg: writes down what it was asked, and goes on until it is ended."""
    file = tmp_path / "ffmpeg"
    file.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
        "sys.stderr.write('x' * 100000)\n"
        "time.sleep(60)\n"
    )
    file.chmod(0o755)
    return str(file)


@asynccontextmanager
async def smoke_by(program: str) -> AsyncIterator[SmokeTests]:
    made = SmokeTests(program)
    try:
        yield made
    finally:
        await made.close()


def children() -> int:
    return len(psutil.Process().children())


@pytest.mark.parametrize("url", ["rtmp://h/app/x", "rtmps://h:1/x", "http://h/whip/x", "https://h"])
def test_targets_that_may_be(url: str) -> None:
    assert check_target(url) == url.partition(":")[0]


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "-f", "/etc/passwd", "file:///etc/passwd", "udp://h:1", "pipe:1"),
        *("rtmp://", "rtmp:///x", "rtmp://h/a b", "rtmp://h/a\nb", "http://["),
        *("tee:rtmp://h", "concat:rtmp://h", "rtmp://h/" + "x" * 2048),
    ],
)
def test_targets_that_may_not_be(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_target(url)
    assert caught.value.code == "bad_stream_url"


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("nan"), float("inf")])
async def test_times_that_may_not_be(program: str, seconds: float) -> None:
    async with smoke_by(program) as made:
        with pytest.raises(BadInput):
            made.start("rtmp://127.0.0.1/x", seconds)
        assert made.running == 0


async def test_without_ffmpeg_it_is_not_offered() -> None:
    with pytest.raises(NotOffered) as caught:
        SmokeTests("no-such-program").start("rtmp://127.0.0.1/x", 1)
    assert (caught.value.status, caught.value.code) == (501, "no_ffmpeg")


async def test_two_run_at_once_and_end_with_the_gateway(program: str, tmp_path: Path) -> None:
    before = children()
    async with smoke_by(program) as made:
        for number in range(2):
            made.start(f"rtmp://127.0.0.1/app/{number}", 300)
        with pytest.raises(RateLimited) as caught:
            made.start("rtmp://127.0.0.1/app/3", 300)
        assert caught.value.code == "smoke_tests_busy"
        asked = tmp_path / "asked"
        await eventually(lambda: asked.exists() and asked.read_text().count("\n") == 2)
        line = sorted(asked.read_text().splitlines())[0]
        assert line.endswith("-f flv rtmp://127.0.0.1/app/0")
        assert " -t 300 " in line
        assert children() == before + 2
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert children() == before


async def test_one_that_does_not_end_is_ended(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "GRACE", 0.1)
    before = children()
    async with smoke_by(program) as made:
        made.start("rtmp://127.0.0.1/x", 0.2)
        await eventually(lambda: made.running == 0)
        await eventually(lambda: children() == before)


async def test_a_target_that_refuses_frees_its_place() -> None:
    async with smoke_by("ffmpeg") as made:
        made.start("http://127.0.0.1:9/whip/x", 60)
        await eventually(lambda: made.running == 0)


async def test_an_rtmp_server_is_spoken_to() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.readexactly(1537))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, smoke_by("ffmpeg") as made:
        made.start(f"rtmp://127.0.0.1:{port}/live/x", 3)
        async with asyncio.timeout(10):
            assert (await heard)[0] == 3  # C0: the protocol's version
        await eventually(lambda: made.running == 0, 10)


async def test_a_whip_address_gets_the_picture() -> None:
    async with gateway(publish_key="k") as desk:
        desk.node.smoke_test(desk.whip, 5, base=desk.server.url)
        await eventually(lambda: desk.node.streams())
        seen = await desk.reaches(StreamState.STARTING)
        assert seen.name == NAME

        def whole() -> bool:
            given = desk.stream.input
            return given is not None and given.has_audio and given.height == 1080

        await eventually(whole)
        assert desk.node._smoke.running == 1
