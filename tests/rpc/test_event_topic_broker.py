"""The topic against a broker: the client library as users have it, and a real port."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from relay.errors import PeerError
from relay.rpc import event_topic
from relay.rpc.event_topic import EventTopic, producer
from tests.rpc.broker import Broker, broker

TOPIC = "network_events"


@pytest.fixture
def there() -> Iterator[Broker]:
    with broker() as made:
        made.create(TOPIC)
        yield made


def topic(there: Broker, name: str = TOPIC) -> EventTopic:
    return EventTopic(name, producer([there.server], None, None))


def batch(first: int, count: int, size: int = 0) -> list[tuple[str, bytes]]:
    return [
        (f"id-{number}", b'{"id":"id-%d","data":"%s"}' % (number, b"x" * size))
        for number in range(first, first + count)
    ]


def records(sent: list[tuple[str, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), text) for key, text in sent]


async def test_a_reader_gets_every_envelope_whole_and_in_order(there: Broker) -> None:
    to = topic(there)
    sent = batch(0, 100) + batch(100, 3, size=60_000)
    try:
        await to.send(sent[:60])
        await to.send(sent[60:])
    finally:
        await to.close()
    assert await there.read(TOPIC, len(sent)) == records(sent)


async def test_a_broker_that_comes_back_is_written_to_again(
    there: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_topic, "TIMEOUT", 1.0)
    to = topic(there)
    first, lost, last = batch(0, 2), batch(2, 2), batch(4, 2)
    try:
        await to.send(first)
        there.down()
        for _ in range(2):  # by the client that was connected, and by a new one
            began = time.monotonic()
            with pytest.raises(PeerError):
                await to.send(lost)
            assert time.monotonic() - began < 1.0 + event_topic.CLOSE_TIMEOUT + 1.0
        there.up()

        async def sent() -> bool:
            try:
                await to.send(last)
            except PeerError:
                return False
            return True

        for _ in range(10):
            if await sent():
                break
        else:
            pytest.fail("the broker is back, and nothing reaches it")
    finally:
        await to.close()
    read = await there.read(TOPIC, 4)
    assert read[:2] == records(first)
    assert set(records(last)) <= set(read)


async def test_a_topic_that_does_not_exist_is_an_error_in_time(
    there: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_topic, "TIMEOUT", 2.0)
    there.create("nowhere")
    there.forget("nowhere")
    to = topic(there, "nowhere")
    began = time.monotonic()
    with pytest.raises(PeerError, match="no topic 'nowhere'") as caught:
        await to.send(batch(0, 1))
    assert caught.value.code == "kafka_no_topic"
    assert not caplog.messages  # the library's own lines, many a second
    assert time.monotonic() - began < 2.0 + event_topic.CLOSE_TIMEOUT + 1.0
    await to.close()


async def test_a_broker_that_never_was_is_an_error_in_time(
    there: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_topic, "TIMEOUT", 1.0)
    there.down()
    to = topic(there)
    with pytest.raises(PeerError):
        await to.send(batch(0, 1))
    await to.close()
