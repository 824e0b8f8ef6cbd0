"""Events to a Kafka topic: key is the event's id, value its envelope.

The client library is an optional extra and loaded only where a topic is configured.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from relay.errors import ConfigError, PeerError, PeerTimeout

log = logging.getLogger(__name__)

TIMEOUT: Final = 10.0
"""Seconds for one batch to be acknowledged."""
CLOSE_TIMEOUT: Final = 2.0
PATIENCE: Final = 0.8
"""Part of it after which the library gives up by itself, and then it knows why."""
UNKNOWN_TOPIC: Final = "UnknownTopicOrPartitionError"


class Producer(Protocol):
    """What is used of the client library."""

    async def start(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes) -> Awaitable[Any]: ...

    async def stop(self) -> None: ...


MakeProducer = Callable[[], Producer]


def producer(servers: Sequence[str], user: str | None, password: str | None) -> MakeProducer:
    """How to make a client of these brokers; SASL/PLAIN over TLS when there is a user.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        library = importlib.import_module("aiokafka")
    except ImportError as error:
        raise ConfigError(
            "gateway.kafka needs the extra kafka: .venv/bin/pip install -e '.[kafka]'"
        ) from error
    # It has ten lines a second to say about one topic that is not there; whoever sends says
    # each outage once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    how: dict[str, Any] = {
        "bootstrap_servers": list(servers),
        "acks": 1,
        "request_timeout_ms": int(TIMEOUT * PATIENCE * 1000),
    }
    if user is not None:
        how |= {
            "security_protocol": "SASL_SSL",
            "ssl_context": ssl.create_default_context(),
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": user,
            "sasl_plain_password": password or "",
        }

    def make() -> Producer:
        made: Producer = library.AIOKafkaProducer(**how)
        return made

    return make


class EventTopic:
    """
    Args:
        make: makes a client; it is made at the first batch, and anew after a failure.
    """

    name = "topic"

    def __init__(self, topic: str, make: MakeProducer) -> None:
        self._topic = topic
        self._make = make
        self._producer: Producer | None = None

    async def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """
        Raises:
            PeerError: the brokers were not reached, refused, have no such topic, or did not
                acknowledge in time.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                client = await self._started()
                waiting = [
                    await client.send(self._topic, value=text, key=key.encode())
                    for key, text in batch
                ]
                await asyncio.gather(*waiting)
        except TimeoutError as error:
            await self.close()
            raise PeerTimeout(f"no acknowledgement within {TIMEOUT:g} s") from error
        except Exception as error:
            await self.close()
            kind = type(error).__name__
            if kind == UNKNOWN_TOPIC:
                raise PeerError(
                    f"the brokers have no topic {self._topic!r}", code="kafka_no_topic"
                ) from error
            raise PeerError(f"{kind}: {error}", code="kafka_failed") from error

    async def _started(self) -> Producer:
        if self._producer is None:
            self._producer = self._make()
            await self._producer.start()
        return self._producer

    async def close(self) -> None:
        client, self._producer = self._producer, None
        if client is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await client.stop()
        except Exception as error:  # noqa: BLE001 - whatever the library raises: it is given up
            log.debug("the client of the topic was not closed in peace: %r", error)
