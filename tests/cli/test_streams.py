"""``relay streams``: what a gateway carries, in words and as JSON."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from relay.cli import streams
from relay.errors import BadInput, PeerTimeout
from tests.live import publishing, watching
from tests.network import ROOT, Network

NAME = "cam"


async def said(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "streams", *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_a_live_stream_is_shown_with_its_viewers(tmp_path: Path) -> None:
    async with Network.running(tmp_path) as network:
        at = ("--gateway", network.url)
        assert "no stream is live" in (await said(*at))[1]
        async with (
            publishing(network.whip(NAME), model="passthrough"),
            watching(network.whep(NAME)) as viewer,
        ):
            await viewer.sees(60)
            code, out, errors = await said(*at)
            assert code == 0, errors
            assert NAME in out
            assert "passthrough" in out
            code, out, errors = await said(NAME, "--json", *at)
            assert code == 0, errors
            told = json.loads(out)
            (one,) = told["viewers"]
            assert one["state"] == "live"
            assert one["packets"] > 60
            assert told["stream"]["output"]["fps"] > 0
            code, out, _ = await said(NAME, *at)
            assert one["id"] in out
            assert "served by" in out
            code, _, errors = await said("nobody", *at)
            assert (code, "no stream “nobody”" in errors) == (1, True)
            await _watch(*at)


async def _watch(*at: str) -> None:
    """It looks again and again, and Ctrl-C ends it without a word."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "streams", NAME, "--watch", "--json", *at),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        packets = [
            json.loads(await process.stdout.readline())["stream"]["input"]["packets"]
            for _ in range(3)
        ]
    assert packets == sorted(set(packets))
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, errors) == (0, b"")


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="no http:// or https:// address"):
        streams.run(streams.Request("127.0.0.1:9935"))


def test_a_gateway_that_is_not_there_is_named() -> None:
    with pytest.raises(PeerTimeout, match=r"127\.0\.0\.1:9/v1/streams does not answer"):
        streams.run(streams.Request("http://127.0.0.1:9"))
