"""What clients of a stock gateway send, byte for byte, and the keys that they read."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from relay.api.network import status_document
from relay.gateway.status import Delay, Input, Output, Serving
from tests.api.fake import FakeNode
from tests.api.test_gateway import Live, live, make_live

__all__ = ["live", "make_live"]

CAPTURES: Final = Path(__file__).resolve().parents[1] / "captures/gateway-http"


async def send(live: Live, name: str) -> tuple[int, dict[str, list[str]], str]:
    """Send captured bytes as they are; returns status, headers and body."""
    port = int(live.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((CAPTURES / f"{name}.request.bin").read_bytes())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers: dict[str, list[str]] = {}
    for line in head.split("\r\n")[1:-2]:
        key, _, value = line.partition(": ")
        headers.setdefault(key.lower(), []).append(value)
    body = await reader.readexactly(int(headers.get("content-length", ["0"])[0]))
    writer.close()
    return int(head.split()[1]), headers, body.decode()


async def test_a_stock_publisher_is_answered(live: Live) -> None:
    status, headers, sdp = await send(live, "whip")
    assert status == 201
    stock = (CAPTURES / "whip.response.bin").read_bytes().partition(b"\r\n\r\n")[0].decode()
    for name in re.findall(r"^([\w-]+):", stock, re.MULTILINE):
        assert name.lower() in headers or name == "Link"  # no ICE servers are set here
    assert sdp.count("m=video") == 1
    assert "a=recvonly" in sdp
    (given,) = live.node.streams()
    assert (given.name, given.stream_id, given.model) == ("a0", "a0", "ident")
    whep = headers["livepeer-playback-url"][0]
    assert re.fullmatch(rf"{live.url}/live/video-to-video/a0-[0-9a-f]{{8}}-out/whep", whep)


async def test_a_stock_viewer_and_an_update_follow(live: Live) -> None:
    await send(live, "whip")
    status, _, sdp = await send(live, "whep")
    assert status == 201
    assert "a=sendonly" in sdp
    told = await live.call("GET", "/live/video-to-video/a0/status")
    assert told.status == 200
    assert json.loads(told.text)["gateway_status"]["whep_url"].endswith("-out/whep")


async def test_an_update_of_a_stream_that_is_not_live_is_404(live: Live) -> None:
    assert (await send(live, "update"))[0] == 404


def shape(value: Any) -> Any:
    """The keys of a document, with the kinds of its leaves."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.parametrize("moment", ["before-first-event", "live", "ended"])
def test_status_has_the_stock_keys(moment: str) -> None:
    stock = json.loads((CAPTURES / f"status-{moment}.json").read_text())
    ours = {"gateway_status", "orchestrator_info", "stream_id", "request_id"}
    began = moment != "before-first-event"
    given = FakeNode().add(
        "a0",
        stream_id="a0",
        request_id="11467777",
        reason="whip disconnected" if moment == "ended" else "",
        runner={key: value for key, value in stock.items() if key not in ours},
        input=Input(True, 30.0, 1, 1280, 720, False, 351, 0, 0.1, 23.3, 1) if began else None,
        output=Output(30.0, 1, 1280, 720, Delay(66.0, 70.0, 66.0)),
        serving=Serving("https://127.0.0.1:8935", "ident", 0.0, "", 1.0, 0, 1),
    )
    told = shape(status_document(given, "http://localhost:8889", 1.0))
    expected = shape(stock)
    expected.pop("pipeline_id", None)  # ours has no such thing
    told.pop("pipeline_id", None)
    if began:
        # The newest timestamps in seconds: only the network's own dashboards read them.
        for key in ("last_input_ts", "last_output_ts"):
            expected["gateway_status"]["ingest_metrics"]["stats"]["track_stats"][0].pop(key)
    assert told == expected
