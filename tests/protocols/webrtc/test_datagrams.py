"""Datagrams in batches: the same bytes, sources and order as one call each would give."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from relay.protocols.webrtc import datagrams
from relay.protocols.webrtc.datagrams import (
    BATCH,
    MAX_DATAGRAM,
    DatagramReader,
    leaving,
    names_ours,
    packed,
    tell_ours,
    unpacked,
)


@pytest.fixture(params=["together", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "one by one":
        monkeypatch.setattr(datagrams, "_library", lambda: None)
    else:
        assert datagrams._library() is not None
    return str(request.param)


@pytest.fixture(params=["127.0.0.1", "::1"])
def receiving(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((request.param, 0))
        yield sock


def test_what_is_read_is_what_was_sent_and_by_whom(way: str, receiving: socket.socket) -> None:
    reader = DatagramReader(receiving)
    with ExitStack() as stack:
        senders = [
            stack.enter_context(socket.socket(receiving.family, socket.SOCK_DGRAM))
            for _ in range(3)
        ]
        for sender in senders:
            sender.bind((receiving.getsockname()[0], 0))
        for turn in range(3):  # a batch after the other in the same memory
            sent = []
            for index, size in enumerate([0, 1, 1200, 7, MAX_DATAGRAM, 12]):
                sender = senders[(index + turn) % 3]
                data = bytes([turn + 1]) * size
                sender.sendto(data, receiving.getsockname())
                sent.append((data, sender.getsockname()))
            assert list(reader.read()) == sent
    assert list(reader.read()) == []


def test_a_wake_up_reads_no_more_than_a_batch(way: str, receiving: socket.socket) -> None:
    reader = DatagramReader(receiving)
    with socket.socket(receiving.family, socket.SOCK_DGRAM) as sender:
        for number in range(BATCH + 5):
            sender.sendto(number.to_bytes(2, "big"), receiving.getsockname())
    first = [int.from_bytes(data, "big") for data, _ in reader.read()]
    rest = [int.from_bytes(data, "big") for data, _ in reader.read()]
    assert (first, rest) == (list(range(BATCH)), list(range(BATCH, BATCH + 5)))


def test_longer_datagrams_are_cut(way: str, receiving: socket.socket) -> None:
    reader = DatagramReader(receiving)
    with socket.socket(receiving.family, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(MAX_DATAGRAM + 100), receiving.getsockname())
        sender.sendto(b"next", receiving.getsockname())
    assert [len(data) for data, _ in reader.read()] == [MAX_DATAGRAM, 4]


def test_sources_are_remembered_within_a_bound(
    receiving: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "_MAX_NAMES", 4)
    reader = DatagramReader(receiving)
    for _ in range(10):
        with socket.socket(receiving.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", receiving.getsockname())
            source = sender.getsockname()[1]
        assert [address[1] for _, address in reader.read()] == [source]
        assert len(reader._names) <= 4


def test_a_closed_socket_gives_nothing(way: str, receiving: socket.socket) -> None:
    reader = DatagramReader(receiving)
    receiving.close()
    assert list(reader.read()) == []


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        ("0.0.0.0", ["127.0.0.1", "127.0.0.2"]),
        ("::", ["::1", "::ffff:127.0.0.1", "::ffff:127.0.0.3"]),
    ],
)
def test_a_socket_of_all_addresses_tells_which_was_written_to(bound: str, asked: list[str]) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as receiving,
        socket.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        receiving.setblocking(False)
        sender.settimeout(5)
        if family == socket.AF_INET6:
            for each in (receiving, sender):
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        tell_ours(receiving)
        receiving.bind((bound, 0))
        sender.bind((bound, 0))
        reader = DatagramReader(receiving)
        for _ in range(2):  # in the same memory
            for own in asked:
                sender.sendto(own.encode(), (own, receiving.getsockname()[1]))
            read = list(reader.read())
            assert [data.decode() for data, _ in read] == asked
            for (_, address), own in zip(read, asked, strict=True):
                assert names_ours(address)
                assert address[4] == own
                assert unpacked(packed(address)) == address
                receiving.sendmsg([b"answer"], *leaving(address))
                assert sender.recvfrom(100)[1][0] == own


@pytest.mark.parametrize(
    "address",
    [
        ("192.0.2.1", 5004),
        ("192.0.2.1", 5004, 0, 0, "198.51.100.7"),
        ("2001:db8::1", 5004, 7, 0),
        ("2001:db8::1", 5004, 7, 0, "2001:db8::2"),
        ("::ffff:192.0.2.1", 5004, 0, 0, "::ffff:198.51.100.7"),
    ],
)
def test_a_name_in_bytes_is_the_same_name(address: tuple[object, ...]) -> None:
    assert unpacked(packed(address)) == address
