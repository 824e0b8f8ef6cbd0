"""The records that a topic gets, up to the door of the client library.

No broker runs here: the library's producer is stood in for, by its own signatures.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from relay.errors import ConfigError, PeerError, PeerTimeout
from relay.rpc import event_topic
from relay.rpc.event_topic import EventTopic, producer


class StandIn:
    """The library's producer, as far as it is used."""

    def __init__(self, **how: Any) -> None:
        self.how = how
        self.records: list[tuple[str, bytes, bytes]] = []
        self.running = False
        self.fails: Exception | None = None
        self.hangs = False
        self.stops: Exception | None = None

    async def start(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.running = True

    async def send(self, topic: str, value: bytes, key: bytes) -> asyncio.Future[None]:
        acknowledged = asyncio.get_running_loop().create_future()
        self.records.append((topic, key, value))
        if not self.hangs:
            acknowledged.set_result(None)
        return acknowledged

    async def stop(self) -> None:
        if self.stops is not None:
            raise self.stops
        self.running = False


async def test_a_record_is_keyed_by_its_id_and_holds_the_envelope() -> None:
    made = StandIn()
    topic = EventTopic("network_events", lambda: made)
    await topic.send([("id-1", b'{"id":"id-1"}'), ("id-2", b"{}")])
    assert made.records == [
        ("network_events", b"id-1", b'{"id":"id-1"}'),
        ("network_events", b"id-2", b"{}"),
    ]
    assert made.running
    await topic.close()
    assert not made.running


async def test_a_client_that_does_not_close_is_let_go_with_a_line_for_who_looks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = StandIn()
    made.stops = RuntimeError("stuck")
    topic = EventTopic("t", lambda: made)
    await topic.send([("a", b"{}")])
    with caplog.at_level(logging.DEBUG, logger=event_topic.__name__):
        await topic.close()
    (line,) = caplog.records
    assert (line.levelno, "stuck" in line.getMessage()) == (logging.DEBUG, True)


async def test_brokers_that_are_not_there_are_tried_anew_the_next_time() -> None:
    made: list[StandIn] = []

    def make() -> StandIn:
        made.append(StandIn())
        made[-1].fails = RuntimeError("no brokers") if len(made) == 1 else None
        return made[-1]

    topic = EventTopic("t", make)
    with pytest.raises(PeerError, match="no brokers") as caught:
        await topic.send([("a", b"{}")])
    assert caught.value.code == "kafka_failed"
    await topic.send([("a", b"{}")])
    assert made[1].records == [("t", b"a", b"{}")]


async def test_no_acknowledgement_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_topic, "TIMEOUT", 0.1)
    made = StandIn()
    made.hangs = True
    topic = EventTopic("t", lambda: made)
    with pytest.raises(PeerTimeout):
        await topic.send([("a", b"{}")])
    assert not made.running


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", SimpleNamespace(AIOKafkaProducer=StandIn))


@pytest.mark.usefixtures("library")
def test_a_user_turns_on_tls() -> None:
    plain = producer(["a:9092", "b:9092"], None, None)()
    assert isinstance(plain, StandIn)
    assert plain.how["bootstrap_servers"] == ["a:9092", "b:9092"]
    assert "security_protocol" not in plain.how
    known = producer(["a:9092"], "user", "word")()
    assert isinstance(known, StandIn)
    assert known.how["security_protocol"] == "SASL_SSL"
    assert known.how["sasl_mechanism"] == "PLAIN"
    assert (known.how["sasl_plain_username"], known.how["sasl_plain_password"]) == ("user", "word")
    assert isinstance(known.how["ssl_context"], ssl.SSLContext)


def test_without_the_library_it_is_a_setting_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    with pytest.raises(ConfigError, match=r"'\.\[kafka\]'"):
        producer(["a:9092"], None, None)
