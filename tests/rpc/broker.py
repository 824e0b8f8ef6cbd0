"""A Kafka broker in this process: librdkafka's own, which speaks the protocol on a real port.

It comes in the library of ``confluent-kafka``, and only C calls turn it down and up again.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import confluent_kafka
from confluent_kafka import Consumer, Message

PRODUCER: Final = 0
ID: Final = 1
UNKNOWN_TOPIC: Final = 3  # the protocol's UNKNOWN_TOPIC_OR_PARTITION


def _library() -> ctypes.CDLL:
    """The very library that the package has loaded."""
    folder = Path(confluent_kafka.__file__).parent
    (found,) = folder.with_name("confluent_kafka.libs").glob("librdkafka*")
    library = ctypes.CDLL(str(found))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, gives, takes in [
        ("conf_new", pointer, []),
        ("new", pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
        ("destroy", None, [pointer]),
        ("mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("mock_cluster_destroy", None, [pointer]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_topic_create", ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        ("mock_topic_set_error", None, [pointer, text, ctypes.c_int]),
        ("mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
    ]:
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = gives, takes
    return library


class Broker:
    """
    Attributes:
        server: host:port.
    """

    def __init__(self, library: ctypes.CDLL, cluster: int) -> None:
        self._library = library
        self._cluster = cluster
        self.server: str = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    def create(self, topic: str, partitions: int = 1) -> None:
        assert not self._library.rd_kafka_mock_topic_create(
            self._cluster, topic.encode(), partitions, 1
        )

    def forget(self, topic: str) -> None:
        """There is no such topic, and asking for it makes none."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), UNKNOWN_TOPIC)

    def down(self) -> None:
        assert not self._library.rd_kafka_mock_broker_set_down(self._cluster, ID)

    def up(self) -> None:
        assert not self._library.rd_kafka_mock_broker_set_up(self._cluster, ID)

    async def read(self, topic: str, count: int) -> list[tuple[bytes, bytes]]:
        """The first ``count`` records of a topic, as keys and values."""
        return await asyncio.to_thread(self._read, topic, count)

    def _read(self, topic: str, count: int) -> list[tuple[bytes, bytes]]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.server,
                "group.id": "reader",
                "auto.offset.reset": "earliest",
            }
        )
        try:
            consumer.subscribe([topic])
            found: list[tuple[bytes, bytes]] = []
            given_up = time.monotonic() + 20
            while len(found) < count and time.monotonic() < given_up:
                message: Message | None = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    key, value = message.key(), message.value()
                    assert isinstance(key, bytes)
                    assert isinstance(value, bytes)
                    found.append((key, value))
            return found
        finally:
            consumer.close()


@contextmanager
def broker() -> Iterator[Broker]:
    library = _library()
    why = ctypes.create_string_buffer(256)
    client = library.rd_kafka_new(PRODUCER, library.rd_kafka_conf_new(), why, len(why))
    assert client, why.value
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    try:
        yield Broker(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(client)
