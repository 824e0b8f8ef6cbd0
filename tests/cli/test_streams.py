"""``relay streams``: what a gateway carries, in words and as JSON."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console

from relay.cli import streams
from relay.cli.app import main
from relay.cli.health import ask
from relay.errors import NotFound, PeerError, PeerRefused, PeerTimeout
from tests.gateway.desk import gateway
from tests.live import publishing, watching
from tests.network import ROOT, Network, eventually, ran
from tests.protocols.trickle.test_tls import certificate, serving
from tests.protocols.trickle.wire import serve

NAME = "cam"


async def test_a_live_stream_is_shown_with_its_viewers(network: Network) -> None:
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


def _viewer(number: int) -> dict[str, Any]:
    figures = dict.fromkeys(("packets", "resent", "keyframes_asked", "pauses"), 0)
    shares = {"fraction_lost": 0.0, "jitter_ms": 0.5, "round_trip_ms": None, "estimate": None}
    shares["queue_ms"] = None
    who = {"id": f"v{number}", "state": "live", "connected_for": 3.0, "process": number % 3}
    return {**who, **figures, **shares}


def _stream(viewers: int) -> dict[str, Any]:
    stream: dict[str, Any] = {"name": NAME, "state": "waiting", "reason_code": "no_publisher"}
    stream |= {"reason": "nobody publishes it", "viewers": viewers, "swaps": 0, "model": ""}
    return stream | {"input": None, "output": None, "serving": None, "moves": None, "warnings": []}


async def test_every_column_is_explained_by_the_help_which_a_terminal_names() -> None:
    _, explained, _ = await ran("streams", "--help")
    # Lines are broken anywhere.
    explained = " ".join(explained.split())
    for table in (streams._streams([]), streams._viewers([])):
        for column in table.columns:
            assert re.search(rf"\b{column.header}\b", explained), column.header
    async with gateway() as desk:
        ours, its = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "streams", "--gateway", desk.server.url),
            cwd=ROOT,
            stdout=its,
        )
        os.close(its)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        said = os.read(ours, 4096).decode()
        os.close(ours)
    assert "relay streams --help tells what each column means" in said


def test_viewers_that_have_left_meanwhile_are_no_more_to_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get(request: streams.Request, path: str) -> Any:
        return {"viewers": [], "next": None} if "viewers" in path else _stream(2)

    monkeypatch.setattr(streams, "_get", get)
    streams.run(streams.Request("http://a", NAME))
    assert "--all" not in capsys.readouterr().out


def test_a_live_stream_whose_publisher_is_silent_is_told_from_others() -> None:
    wide = Console(width=200, file=io.StringIO())
    silent = {"code": "input_silent", "reason": "nothing has come from the publisher for 4 seconds"}
    live = _stream(0) | {"state": "live", "reason_code": "", "reason": ""}
    wide.print(streams._page({"streams": [live, live | {"warnings": [silent]}]}))
    *_, well, ill = wide.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "live" in well
    assert "no input" not in well
    assert "live, no input" in ill


def test_why_a_stream_was_moved_is_shown_when_it_is_live_again() -> None:
    wide = Console(width=200, file=io.StringIO())
    move: dict[str, Any] = {
        "at": "2026-11-27T14:03:22.5Z",
        "code": "no_output",
        "reason": "no picture came",
    }
    move |= {"from_orchestrator": "https://a:8935", "to_orchestrator": "https://b:8935"}
    move |= {"seconds_without_picture": 1.04}
    back = move | {"seconds_without_picture": None, "from_orchestrator": "https://b:8935"}
    gone = back | {"to_orchestrator": None}
    live = _stream(0) | {"state": "live", "reason_code": "", "reason": "", "swaps": 3}
    before = {"at": "2026-11-27T14:03:22.5Z", "reason": "no sign of life"}
    told = live | {"moves": [move, back, gone], "previous_publisher": before}
    wide.print(streams._page({"stream": told, "viewers": []}))
    first, second, third, last = wide.file.getvalue().splitlines()[-4:]  # type: ignore[attr-defined]
    assert last.startswith("  the publisher before left at 20")
    assert last.endswith(": no sign of life")
    assert first.startswith("  moved from https://a:8935 to https://b:8935 at 20")
    assert first.endswith(": no picture came (no_output), no new picture for 1.0 s")
    assert second.endswith("(no_output)")
    assert "moved to another job at https://b:8935 at" in second
    assert "moved away from https://b:8935 at" in third


def test_an_id_is_whole_where_the_terminal_is_narrow() -> None:
    large = {"packets": 123_456, "resent": 12_345, "round_trip_ms": 1234.5, "estimate": 12.3e6}
    large["queue_ms"] = 1234.5
    viewers = [_viewer(number) | large | {"id": f"n4FGx_-{number}"} for number in range(5)]
    narrow = Console(width=80, file=io.StringIO())
    narrow.print(streams._page({"stream": _stream(5), "viewers": viewers}))
    said = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert all(given["id"] in said for given in viewers)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_on_a_narrow_terminal_columns_are_left_out_and_named_and_none_is_cut(width: int) -> None:
    narrow = Console(width=width, file=io.StringIO())
    viewer = _viewer(0) | {"estimate": 2_500_000, "queue_ms": 34.56, "round_trip_ms": 12.3}
    narrow.print(streams._page({"stream": _stream(1), "viewers": [viewer]}))
    lines = narrow.file.getvalue().splitlines()  # type: ignore[attr-defined]
    at = next(at for at, line in enumerate(lines) if line.lstrip().startswith("viewer"))
    head, row, left_out = lines[at : at + 3]
    assert "…" not in head
    assert viewer["id"] in row
    assert "round trip" in head
    assert "12.3 ms" in row
    assert left_out.strip().startswith("for want of room not shown: process")


def test_what_a_viewers_path_carries_and_how_long_packets_queue_there_is_shown() -> None:
    wide = Console(width=200, file=io.StringIO())
    viewers = [_viewer(0), _viewer(1) | {"estimate": 2_500_000, "queue_ms": 34.56}]
    wide.print(streams._page({"stream": _stream(2), "viewers": viewers}))
    head, untold, told = wide.file.getvalue().splitlines()[-3:]  # type: ignore[attr-defined]
    assert "path" in head
    assert "queue" in head
    assert "2.5 Mbit/s" in told
    assert "34.6 ms" in told
    assert "Mbit/s" not in untold


@pytest.mark.parametrize("whole", [False, True])
def test_a_crowd_is_shown_in_part_or_whole(
    whole: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Page by page, each viewer with the process that serves it."""
    crowd = [_viewer(number) for number in range(2345)]
    stream = _stream(len(crowd))

    def get(request: streams.Request, path: str) -> Any:
        if "viewers" not in path:
            return stream
        query = parse_qs(urlsplit(path).query)
        limit = int(query["limit"][0])
        assert limit <= 1000
        ids = [given["id"] for given in crowd]
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        page = crowd[start : start + limit]
        more = start + limit < len(crowd)
        return {"viewers": page, "next": page[-1]["id"] if more else None}

    monkeypatch.setattr(streams, "_get", get)
    streams.run(streams.Request("http://a", NAME, whole=whole))
    said = capsys.readouterr().out.splitlines()
    assert any("no publisher" in line for line in said)
    assert any("nobody publishes it" in line for line in said)
    rows = [line.split() for line in said if line.strip().startswith("v")][1:]
    assert [row[0] for row in rows] == [given["id"] for given in crowd[: None if whole else 30]]
    assert [row[-1] for row in rows[:4]] == ["0", "1", "2", "0"]
    assert any("and 2315 more (--all shows them)" in line for line in said) is not whole


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


async def test_watching_goes_on_when_the_gateway_is_started_again(network: Network) -> None:
    async with publishing(network.whip("again")):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "streams", "again", "--watch", "--json"),
            *("--gateway", network.url),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            before = json.loads(await process.stdout.readline())["stream"]["request_id"]
            gateway = network.process("gateway")
            assert gateway is not None
            gateway.kill()
            assert process.stderr is not None
            assert await process.stderr.readline()  # no gateway, or none that knows the stream
            await eventually(lambda: network.process("gateway") not in (None, gateway))
            async with publishing_soon(network.whip("again")):
                now = before
                while now == before:
                    now = json.loads(await process.stdout.readline())["stream"]["request_id"]
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0


@asynccontextmanager
async def publishing_soon(url: str) -> AsyncIterator[None]:
    """As soon as the gateway takes it."""
    async with AsyncExitStack() as stack:
        for _ in range(300):
            try:
                await stack.enter_async_context(publishing(url))
                break
            except PeerError:
                await asyncio.sleep(0.1)
        yield


def test_a_refusal_ends_the_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [PeerRefused("503: going away"), NotFound("no stream"), PeerRefused("401: no key")]

    def get(request: streams.Request, path: str) -> Any:
        if looks:
            raise answers.pop(0)
        looks.append(path)
        return {"streams": []}

    looks: list[str] = []
    monkeypatch.setattr(streams, "_get", get)
    monkeypatch.setattr(streams, "INTERVAL", 0.0)
    with pytest.raises(PeerRefused, match="401"):
        streams.run(streams.Request("http://a", watch=True))
    assert answers == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("streams", "--gateway", "127.0.0.1:9935"), "write http://127.0.0.1:9935"),
        (("streams", "http://127.0.0.1:9935"), "--gateway http://127.0.0.1:9935"),
        (("streams", "127.0.0.1:9935"), "--gateway http://127.0.0.1:9935"),
        (("streams", "--gateway", "ftp://127.0.0.1"), "no http:// or https:// address"),
        (("streams", "--gateway", "http://"), "no http:// or https:// address"),
        (("streams", "--all"), "--all shows all viewers of one stream: relay streams NAME --all"),
        (("health", "127.0.0.1:9935/readyz"), "write http://127.0.0.1:9935/readyz"),
        (("health", "file:///etc/passwd"), "no http:// or https:// address"),
    ],
)
def test_wrong_words_are_a_wrong_use_and_the_right_ones_are_named(
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


async def test_the_other_scheme_is_not_named_once_this_one_was_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """But where the answer is none in HTTP."""
    body = b'{"streams": []}'
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    refusal = b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    answers = [head + body, b"", None, head + body[:3], alert, refusal]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        given = answers.pop(0)
        if given is None:
            hang_up = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hang_up)
        writer.write(given or b"")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        request = streams.Request(f"http://127.0.0.1:{port}", watch=True)
        with pytest.raises(PeerRefused, match="401"):
            await asyncio.wait_for(asyncio.to_thread(streams.run, request), 60)
    assert answers == []
    closed, reset, broken_off, foreign = capsys.readouterr().err.splitlines()
    assert closed.endswith("does not answer: Remote end closed connection without response")
    assert reset.endswith("does not answer: connection reset by peer")
    assert "https" not in broken_off
    assert foreign.endswith(f"(try https://127.0.0.1:{port})")


@pytest.mark.parametrize("place", ["/watch/cam", "/v1/streams", "/"])
async def test_a_base_address_with_a_path_is_told_with_the_one_that_is_meant(place: str) -> None:
    async with gateway() as desk:
        base = desk.server.url
        for name in (None, NAME):
            request = streams.Request(f"{base}{place}", name)
            if place == "/" and name is None:
                await asyncio.to_thread(streams.run, request)
                continue
            with pytest.raises(NotFound) as told:
                await asyncio.to_thread(streams.run, request)
            assert str(told.value).endswith(f"(the base address is {base})") is (place != "/")


def test_a_gateway_that_is_not_there_is_named() -> None:
    with pytest.raises(
        PeerTimeout, match=r":9/v1/streams does not answer: connection refused"
    ) as told:
        streams.run(streams.Request("http://127.0.0.1:9"))
    assert "--gateway" in str(told.value)
    assert "urlopen" not in str(told.value)


@pytest.mark.parametrize("as_json", [False, True])
def test_each_look_of_many_has_its_time_where_they_stand_under_one_another(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    request = streams.Request("http://a", NAME, watch=True, as_json=as_json)
    show = streams._Printer(request).show
    began = datetime.now().astimezone().replace(microsecond=0)
    for _ in range(2):
        show({"stream": _stream(0), "viewers": []})
    said = capsys.readouterr().out.splitlines()
    if as_json:
        times = [datetime.fromisoformat(json.loads(line)["at"]) for line in said]
    else:
        stamps = [line for line in said if line.startswith("20")]
        times = [datetime.fromisoformat(line).astimezone() for line in stamps]
    assert len(times) == 2
    assert all(began <= at <= datetime.now().astimezone() for at in times)
