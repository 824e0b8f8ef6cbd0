"""Events on their way out: bounded, tried again, and never in the way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import aiohttp
import pytest
from aiohttp import web

from relay import metrics
from relay.config import Gateway
from relay.errors import ConfigError
from relay.gateway import courier
from relay.gateway.courier import Mail, mail_of
from relay.gateway.journal import Entry
from relay.rpc import event_webhook
from tests.gateway.desk import gateway
from tests.gateway.hook import Hook, breaks_off, endless, hook, never, says
from tests.network import eventually


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "MAX_WAIT", 0.1)
    monkeypatch.setattr(courier, "PAUSE", 0.02)
    monkeypatch.setattr(courier, "FAREWELL", 0.5)
    monkeypatch.setattr(event_webhook, "TIMEOUT", 0.3)


@asynccontextmanager
async def mail(to: Hook, **settings: Any) -> AsyncIterator[Mail]:
    async with aiohttp.ClientSession() as http:
        made = mail_of(Gateway(events_webhook=to.url, **settings), http, None)
        made.start()
        try:
            yield made
        finally:
            await made.close()


def entry(number: int = 0, size: int = 0) -> Entry:
    return Entry("stream_trace", {"number": number, "filling": "x" * size})


def numbers(to: Hook) -> list[int]:
    return [event["data"]["number"] for got in to.got for event in got.json]


def counted(result: str, sink: str = "webhook") -> float:
    value = metrics.registry.get_sample_value(
        "relay_events_total", {"sink": sink, "result": result}
    )
    return value or 0.0


async def test_events_go_together_in_their_envelopes() -> None:
    async with hook(says({})) as to, mail(to, public_url="https://gw.example") as made:
        for number in range(3):
            made.tell(entry(number))
        await eventually(lambda: len(numbers(to)) == 3)
        (got,) = to.got
        assert got.headers["Content-Type"] == "application/json"
        assert "Relay-Signature" not in got.headers
        first = got.json[0]
        assert set(first) == {"id", "type", "timestamp", "gateway", "data"}
        assert uuid.UUID(first["id"]) != uuid.UUID(got.json[1]["id"])
        assert (first["type"], first["gateway"]) == ("stream_trace", "https://gw.example")
        assert abs(int(first["timestamp"]) / 1000 - time.time()) < 10


async def test_a_full_batch_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "MAX_WAIT", 60.0)
    async with hook(says({})) as to, mail(to) as made:
        for number in range(150):
            made.tell(entry(number))
        await eventually(lambda: len(numbers(to)) == 100)
        assert [len(got.json) for got in to.got] == [100]
    assert numbers(to) == list(range(150))  # the rest goes at the end


async def test_a_secret_signs_body_and_time() -> None:
    async with hook(says({})) as to, mail(to, events_secret="s3cret") as made:
        made.tell(entry())
        await eventually(lambda: to.got)
        (got,) = to.got
        found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", got.headers["Relay-Signature"])
        assert found
        assert abs(int(found[1]) - time.time()) < 10
        text = found[1].encode() + b"." + got.body
        assert found[2] == hmac.new(b"s3cret", text, hashlib.sha256).hexdigest()


async def test_it_is_tried_three_times() -> None:
    async def third_time(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if len(to.got) < 3 else 204)

    async with hook(third_time) as to, mail(to) as made:
        before = counted("sent")
        made.tell(entry(7))
        await eventually(lambda: counted("sent") == before + 1)
        assert numbers(to) == [7, 7, 7]
        assert len({got.json[0]["id"] for got in to.got}) == 1


@pytest.mark.parametrize(
    "reply",
    [
        says({}, status=500),
        says({}, status=302, headers={"Location": "/x"}),
        breaks_off,
        endless,
        never,
    ],
    ids=["500", "302", "reset", "endless", "never"],
)
async def test_a_bad_listener_loses_its_events_and_nothing_else(
    reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with hook(reply) as to, mail(to) as made:
        before = counted("failed")
        for number in range(2):
            made.tell(entry(number))
            await eventually(lambda: counted("failed") >= before + number + 1)  # noqa: B023
        assert len(to.got) >= 6
        said = [text for text in caplog.messages if "events do not reach" in text]
        assert len(said) == 1  # an outage is one line
        to.reply = says({})
        made.tell(entry(9))
        await eventually(lambda: "events reach the webhook again" in caplog.messages)


async def test_the_queue_is_bounded_and_counts_what_it_drops() -> None:
    async with hook(never) as to, mail(to) as made:
        made.tell(entry())
        await eventually(lambda: to.got)
        before = counted("dropped")
        began = time.monotonic()
        for number in range(courier.MAX_QUEUED + 50):
            made.tell(entry(number))
        assert time.monotonic() - began < 2
        assert counted("dropped") == before + 50


async def test_large_events_fill_the_queue_sooner() -> None:
    async with hook(never) as to, mail(to) as made:
        made.tell(entry())
        await eventually(lambda: to.got)
        before = counted("dropped")
        for number in range(200):
            made.tell(entry(number, size=60_000))
        kept = 200 - (counted("dropped") - before)
        assert kept * 60_000 <= courier.MAX_QUEUED_BYTES


async def test_an_event_that_is_too_large_or_no_json_is_refused() -> None:
    async with hook(says({})) as to, mail(to) as made:
        before = counted("refused", "any")
        made.tell(entry(1, size=courier.MAX_EVENT))
        made.tell(Entry("stream_trace", {"number": 1 << 70}))
        made.tell(entry(3))
        await eventually(lambda: numbers(to) == [3])
        assert counted("refused", "any") == before + 2


async def test_the_end_is_not_held_up_by_a_listener_that_hangs() -> None:
    async with hook(never) as to:
        async with mail(to) as made:
            for number in range(500):
                made.tell(entry(number))
            await eventually(lambda: to.got)
            began = time.monotonic()
        assert time.monotonic() - began < 2


async def test_what_is_left_goes_out_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "MAX_WAIT", 60.0)
    async with hook(says({})) as to:
        async with mail(to) as made:
            made.tell(entry(1))
            await asyncio.sleep(0)
        assert numbers(to) == [1]


async def test_without_a_listener_nothing_is_kept() -> None:
    async with aiohttp.ClientSession() as http:
        made = mail_of(Gateway(), http, None)
        made.start()
        made.tell(entry())
        await made.close()
        assert not made._couriers


class Record:
    """The library's producer, as far as it is used."""

    sent: ClassVar[list[tuple[str, bytes, bytes]]] = []

    def __init__(self, **_: Any) -> None: ...

    async def start(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes) -> asyncio.Future[None]:
        self.sent.append((topic, key, value))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def stop(self) -> None: ...


KAFKA = {"servers": ["127.0.0.1:9092"], "topic": "network_events"}


async def test_a_gateway_with_a_topic_writes_records_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", SimpleNamespace(AIOKafkaProducer=Record))
    monkeypatch.setattr(Record, "sent", [])
    async with gateway(kafka=KAFKA) as desk, desk.filming(streamId="str_1"):
        await eventually(lambda: any(b"stream_request" in item[2] for item in Record.sent))
    for topic, key, value in Record.sent:
        told = json.loads(value)
        assert (topic, key) == ("network_events", told["id"].encode())
    last = json.loads(Record.sent[-1][2])
    assert last["data"]["type"] == "gateway_ingest_stream_closed"


async def test_a_topic_without_the_library_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[kafka\]'"):
        async with gateway(kafka=KAFKA):
            pass
