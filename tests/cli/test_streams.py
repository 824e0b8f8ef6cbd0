"""``relay streams``: what a gateway carries, in words and as JSON."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from relay.cli import streams
from relay.cli.app import main
from relay.cli.health import ask
from relay.errors import PeerTimeout
from tests.live import publishing, watching
from tests.network import ROOT, Network, ran
from tests.protocols.trickle.test_tls import certificate, serving
from tests.protocols.trickle.wire import serve

NAME = "cam"


async def test_a_live_stream_is_shown_with_its_viewers(tmp_path: Path) -> None:
    async with Network.running(tmp_path) as network:
        at = ("--gateway", network.url)
        assert "no stream is live" in (await ran("streams", *at))[1]
        async with (
            publishing(network.whip(NAME), model="passthrough"),
            watching(network.whep(NAME)) as viewer,
        ):
            await viewer.sees(60)
            code, out, errors = await ran("streams", *at)
            assert code == 0, errors
            assert NAME in out
            assert "passthrough" in out
            code, out, errors = await ran("streams", NAME, "--json", *at)
            assert code == 0, errors
            told = json.loads(out)
            (one,) = told["viewers"]
            assert one["state"] == "live"
            assert one["packets"] > 60
            assert told["stream"]["output"]["fps"] > 0
            code, out, _ = await ran("streams", NAME, *at)
            assert one["id"] in out
            assert "served by" in out
            code, _, errors = await ran("streams", "nobody", *at)
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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("streams", "--gateway", "127.0.0.1:9935"), "write http://127.0.0.1:9935"),
        (("streams", "http://127.0.0.1:9935"), "--gateway http://127.0.0.1:9935"),
        (("streams", "127.0.0.1:9935"), "--gateway http://127.0.0.1:9935"),
        (("streams", "--gateway", "ftp://127.0.0.1"), "no http:// or https:// address"),
        (("streams", "--gateway", "http://"), "no http:// or https:// address"),
        (("health", "127.0.0.1:9935/readyz"), "write http://127.0.0.1:9935/readyz"),
        (("health", "file:///etc/passwd"), "no http:// or https:// address"),
    ],
)
def test_a_wrong_address_is_a_wrong_use_and_the_right_one_is_named(
    words: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["relay", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("secure", [False, True])
async def test_the_other_scheme_is_named_where_it_is_the_one(tmp_path: Path, secure: bool) -> None:
    """Asked by the scheme that the server does not speak."""
    context = serving(certificate(tmp_path)) if secure else None
    async with serve(ssl=context) as site:
        port = urlsplit(site.base).port
        wrong, right = (f"{scheme}://127.0.0.1:{port}" for scheme in _schemes(secure))
        with pytest.raises(PeerTimeout, match=rf"does not answer.*\(try {right}"):
            await asyncio.to_thread(streams.run, streams.Request(wrong, insecure=True))
        with pytest.raises(PeerTimeout, match=rf"does not answer.*\(try {right}"):
            await asyncio.to_thread(ask, wrong)


def _schemes(secure: bool) -> tuple[str, str]:
    return ("http", "https") if secure else ("https", "http")


def test_a_gateway_that_is_not_there_is_named() -> None:
    with pytest.raises(PeerTimeout, match=r"127\.0\.0\.1:9/v1/streams does not answer") as told:
        streams.run(streams.Request("http://127.0.0.1:9"))
    assert "--gateway" in str(told.value)
    assert "urlopen" not in str(told.value)
