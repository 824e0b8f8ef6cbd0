"""What a listener of the network's events hears of a stream, from its first word to its last."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
import pytest

from relay.gateway import courier, teller
from relay.gateway.status import StreamState
from tests.gateway.desk import NAME, gateway
from tests.gateway.hook import Hook, hook, never, says
from tests.gateway.seller import MODEL, Seller
from tests.network import eventually

ADDRESS = "0x" + "5a" * 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "MAX_WAIT", 0.05)


def events(to: Hook, *types: str) -> list[dict[str, Any]]:
    found = [event for got in to.got for event in got.json]
    return [event for event in found if event["type"] in types]


def kinds(to: Hook, *types: str) -> list[str]:
    return [event["data"]["type"] for event in events(to, *types)]


async def update(url: str, body: bytes) -> int:
    async with aiohttp.ClientSession() as http, http.post(url, data=body) as answer:
        return answer.status


async def test_a_stream_is_told_from_its_request_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teller, "MEASURES", 0.2)
    async with (
        hook(says({})) as to,
        Seller().running() as seller,
        gateway(seller, events_webhook=to.url) as desk,
    ):
        async with desk.filming(streamId="str_1"):
            await desk.live_at(seller)
            job = seller.jobs[0]
            await job.says_status()
            said = {"type": "runner_receive_stream_request", "stream_id": "a lie"}
            await job.say(orjson.dumps({"event": said, "queue_event_type": "stream_trace"}))
            where = f"{desk.server.url}/live/video-to-video/{NAME}/update"
            assert await update(where, b'{"a": 1}') == 200
            await eventually(
                lambda: (
                    "gateway_receive_few_processed_segments" in kinds(to, "stream_trace")
                    and "runner_receive_stream_request" in kinds(to, "stream_trace")
                    and events(to, "stream_ingest_metrics")
                    and events(to, "ai_stream_status")
                ),
                6,
            )
            request_id = desk.stream.request_id
        await eventually(lambda: "gateway_ingest_stream_closed" in kinds(to, "stream_trace"))

    ours = [kind for kind in kinds(to, "stream_trace") if not kind.startswith("runner")]
    assert ours == [
        "gateway_receive_stream_request",
        "gateway_send_first_ingest_segment",
        "gateway_receive_first_processed_segment",
        "gateway_receive_few_processed_segments",
        "gateway_ingest_stream_closed",
    ]
    him = {"address": "0x" + "0" * 40, "url": seller.url}
    for event in events(to, "stream_trace", "ai_stream_events", "ai_stream_status"):
        data = event["data"]
        assert (data["stream_id"], data["request_id"]) == ("str_1", request_id)
        if data["type"] in ours and data["type"] not in (ours[0], ours[-1]):
            assert data["orchestrator_info"] == him
    (status,) = events(to, "ai_stream_status")
    assert status["data"]["state"] == "ONLINE"
    assert status["data"]["orchestrator_info"] == him
    changed, left = events(to, "ai_stream_events")
    assert (changed["data"]["type"], changed["data"]["params"]) == ("params_update", {"a": 1})
    assert (left["data"]["type"], left["data"]["pipeline"]) == ("error", MODEL)
    assert left["data"]["message"].startswith("whip disconnected")
    stats = events(to, "stream_ingest_metrics")[0]["data"]["stats"]
    assert stats["track_stats"][0]["packets_received"] > 0
    assert events(to, "discovery_results")[-1]["data"][0]["url"] == seller.url


async def test_a_swap_is_told_once_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.gateway.seller.NO_ADDRESS", bytes.fromhex(ADDRESS[2:]))
    async with (
        hook(says({})) as to,
        Seller().running() as first,
        Seller().running() as second,
        gateway(first, second, events_webhook=to.url) as desk,
        desk.filming(),
    ):
        await desk.live_at(first)
        await first.jobs[0].close("out")
        await desk.live_at(second)
        await eventually(lambda: "orchestrator_swap" in kinds(to, "stream_trace"))
        (swap,) = [
            event
            for event in events(to, "stream_trace")
            if event["data"]["type"] == "orchestrator_swap"
        ]
        assert swap["data"]["orchestrator_info"] == {"address": ADDRESS, "url": first.url}
        assert "output channel" in swap["data"]["message"]
        (error,) = events(to, "ai_stream_events")
        assert error["data"]["message"] == swap["data"]["message"]


async def test_nobody_to_serve_is_told_once_however_often_it_is_tried() -> None:
    async with (
        hook(says({})) as to,
        gateway(events_webhook=to.url) as desk,
        desk.filming(),
    ):
        await desk.reaches(StreamState.STARTING, "no_orchestrator")
        told = "gateway_no_orchestrators_available"
        await eventually(lambda: told in kinds(to, "stream_trace"))
        tries = desk.path._live
        assert tries is not None
        await eventually(lambda: tries._failures >= 4)
        assert kinds(to, "stream_trace").count(told) == 1


async def test_a_listener_that_never_answers_does_not_touch_the_media() -> None:
    async with (
        hook(never) as to,
        Seller().running() as seller,
        gateway(seller, events_webhook=to.url) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(seller)
        await eventually(lambda: to.got)
        await viewer.sees(30)


async def test_who_serves_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.gateway.seller.NO_ADDRESS", bytes.fromhex(ADDRESS[2:]))
    async with (
        hook(says({})) as to,
        Seller().running() as seller,
        gateway(seller, events_webhook=to.url) as desk,
        desk.filming(streamId="str_1"),
    ):
        await desk.live_at(seller)
        him = {"address": ADDRESS, "url": seller.url}
        await seller.jobs[0].says_status()
        await eventually(lambda: events(to, "ai_stream_status"))
        assert events(to, "ai_stream_status")[0]["data"]["orchestrator_info"] == him
        async with aiohttp.ClientSession() as http:
            where = f"{desk.server.url}/live/video-to-video/str_1/status"
            async with http.get(where) as answer:
                assert (await answer.json())["orchestrator_info"] == him
        (network,) = events(to, "network_capabilities")
        (one,) = network["data"]
        assert (one["local_address"], one["orch_uri"]) == (ADDRESS, seller.url)
        assert MODEL in one["capabilities"]["constraints"]["PerCapability"]["35"]["models"]
