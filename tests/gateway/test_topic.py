"""A gateway's events in a real broker, and a gateway whose broker goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from relay import metrics
from relay.gateway import courier
from relay.gateway.status import StreamState
from relay.rpc import event_topic
from tests.gateway.desk import Desk, gateway
from tests.gateway.seller import Seller
from tests.network import eventually
from tests.rpc.broker import Broker, broker

TOPIC = "network_events"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "MAX_WAIT", 0.05)
    monkeypatch.setattr(courier, "PAUSE", 0.02)


def counted(result: str) -> float:
    value = metrics.registry.get_sample_value(
        "relay_events_total", {"sink": "topic", "result": result}
    )
    return value or 0.0


def kafka(there: Broker) -> dict[str, Any]:
    return {"servers": [there.server], "topic": TOPIC}


async def shown(desk: Desk, more: int) -> None:
    """Until so many pictures have reached a new viewer."""
    async with desk.watching() as viewer:
        await eventually(lambda: len(viewer.video) >= more, 10)
    assert desk.stream.state is StreamState.LIVE


async def say_until(seller: Seller, done: Callable[[], bool]) -> None:
    """The runner reports until something has come of it."""
    for _ in range(200):
        if done():
            return
        await seller.jobs[0].says_status()
        await asyncio.sleep(0.1)
    pytest.fail("nothing came of it")


async def test_a_stream_is_told_to_a_topic_in_order() -> None:
    with broker() as there:
        there.create(TOPIC)
        before = counted("sent")
        async with (
            Seller().running() as seller,
            gateway(seller, kafka=kafka(there), public_url="https://gw.example") as desk,
            desk.filming(streamId="str_1"),
        ):
            await desk.live_at(seller)
        read = await there.read(TOPIC, int(counted("sent") - before))
    told = [json.loads(value) for _, value in read]
    assert [key.decode() for key, _ in read] == [event["id"] for event in told]
    assert {event["gateway"] for event in told} == {"https://gw.example"}
    stamps = [int(event["timestamp"]) for event in told]
    assert stamps == sorted(stamps)
    kinds = [event["data"]["type"] for event in told if event["type"] == "stream_trace"]
    assert kinds[0] == "gateway_receive_stream_request"
    assert kinds[-1] == "gateway_ingest_stream_closed"


async def test_a_broker_that_goes_away_is_counted_and_holds_up_no_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_topic, "TIMEOUT", 1.0)
    with broker() as there:
        there.create(TOPIC)
        async with (
            Seller().running() as seller,
            gateway(seller, kafka=kafka(there)) as desk,
            desk.filming(streamId="str_1"),
        ):
            await desk.live_at(seller)
            sent, failed = counted("sent"), counted("failed")
            await say_until(seller, lambda: counted("sent") > sent)
            there.down()
            asking = asyncio.create_task(say_until(seller, lambda: counted("failed") > failed))
            await shown(desk, 60)
            await asking
            there.up()
            sent = counted("sent")
            await say_until(seller, lambda: counted("sent") > sent)
            assert desk.stream.state is StreamState.LIVE
            assert len(seller.jobs) == 1
