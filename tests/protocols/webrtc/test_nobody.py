"""What is for nobody stays in native hands; what Python knows, or may want, comes to it."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocols.webrtc import stun
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.registered import Registered
from relay.protocols.webrtc.stun import Address
from relay.protocols.webrtc.udp import UdpPort
from tests.protocols.webrtc.test_peer_moves import until
from tests.protocols.webrtc.test_udp import settle

HERE: Address = ("127.0.0.1", 40_000)
STRAYS = 4000
"""Packets of media of strangers that may come up a second, and at once: as strangers.c has it."""


def check(name: bytes, *, before: int = 0) -> bytes:
    """A check in that name, behind so many other attributes."""
    attributes = [(0x8022, b"agent")] * before + [(stun.USERNAME, name)]
    return stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, b"password")


def answer(transaction: bytes) -> bytes:
    return stun.build(stun.BINDING_SUCCESS, transaction, [], b"password")


@dataclass
class Door:
    """The native part over a socket that nothing comes to, and what Python knows."""

    native: NativeReceiver
    names: Registered[bytes, str]
    transactions: Registered[bytes, str]
    addresses: Registered[Address, str]
    expected: Registered[Address, str]
    now: float = 100.0

    def comes_up(self, data: bytes, address: Address = HERE) -> bool:
        came: list[bytes] = []
        self.native.put(data, address, lambda told, *_: came.append(told), self.now)
        assert came in ([], [data])
        return bool(came)


def open_door(sock: socket.socket) -> Door:
    native = NativeReceiver.over(sock.fileno())
    assert native is not None
    door = Door(native, Registered(), Registered(), Registered(), Registered())
    door.names[b"before"] = "it was there before"
    native.guard(door.names, door.transactions, (door.addresses, door.expected))
    return door


@pytest.fixture
def door() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield open_door(sock)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x01",
        check(b"who:me"),
        check(b""),
        check(b"who:me")[:-40],
        answer(b"transaction!"),
        b"\x00\x11" + bytes(18),
        b"\x16\xfe\xfd" + bytes(60),
        bytes([127]) * 20,
        bytes([192]) * 20,
        b"\xff" * 1500,
        b"\x80" * 11,
    ],
    ids=lambda data: data[:4].hex() + f"-{len(data)}",
)
def test_what_is_for_nobody_does_not_come_up(door: Door, data: bytes) -> None:
    assert not door.comes_up(data)


def test_a_check_in_a_name_that_is_known_comes_up(door: Door) -> None:
    assert door.comes_up(check(b"before:them"))
    assert not door.comes_up(check(b"name:them"))
    door.names[b"name"] = "a session"
    assert door.comes_up(check(b"name:them"))
    assert door.comes_up(check(b"name"))
    assert door.comes_up(check(b"name:them", before=15))
    assert not door.comes_up(check(b"name:them", before=16)), "it is not looked for for ever"
    assert not door.comes_up(check(b"nam:e"))
    door.names[b"name"] = "another one, in its place"
    assert door.names.pop(b"name", None) == "another one, in its place"
    assert door.names.pop(b"name", None) is None
    assert not door.comes_up(check(b"name:them"))
    assert door.comes_up(check(b"before:them"))


def test_an_answer_to_a_check_of_ours_comes_up(door: Door) -> None:
    door.transactions[b"transaction!"] = "a session"
    assert door.comes_up(answer(b"transaction!"))
    assert not door.comes_up(answer(b"Transaction!"))
    assert not door.comes_up(check(b"transaction!")), "as a name it is nobody's"
    del door.transactions[b"transaction!"]
    assert not door.comes_up(answer(b"transaction!"))


@pytest.mark.parametrize("which", ["addresses", "expected"])
@pytest.mark.parametrize(
    "address", [HERE, ("::1", 40_000, 0, 0), ("::ffff:127.0.0.1", 40_000, 0, 0)]
)
def test_all_from_an_address_that_is_known_comes_up(
    door: Door, which: str, address: Address
) -> None:
    known: Registered[Address, str] = getattr(door, which)
    said = (b"\x16\xfe\xfd" + bytes(60), answer(b"transaction!"), b"\xff")
    known[address] = "a path"
    assert all(door.comes_up(data, address) for data in said)
    other = (address[0], address[1] + 1, *address[2:])
    assert not any(door.comes_up(data, other) for data in said)
    del known[address]
    assert not any(door.comes_up(data, address) for data in said)


def test_an_address_that_two_know_of_is_known_until_both_let_go(door: Door) -> None:
    door.addresses[HERE] = door.expected[HERE] = "both"
    del door.addresses[HERE]
    assert door.comes_up(b"\x16")
    del door.expected[HERE]
    assert not door.comes_up(b"\x16")


def test_the_far_end_of_a_connection_is_no_address_of_the_socket(door: Door) -> None:
    door.addresses["127.0.0.1", 40_000, "tcp"] = "a path"
    assert not door.comes_up(b"\x16")
    del door.addresses["127.0.0.1", 40_000, "tcp"]


def test_media_of_strangers_comes_up_so_much_a_second(door: Door) -> None:
    """It may be of a peer that has moved."""

    def flood() -> int:
        return sum(door.comes_up(bytes([0x80, 96]) + os.urandom(40)) for _ in range(2 * STRAYS))

    assert flood() == STRAYS
    door.now += 0.25
    assert flood() == STRAYS // 4
    door.addresses[HERE] = "a path"
    assert flood() == 2 * STRAYS


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=8)), max_size=60))
def test_whatever_comes_and_goes_what_is_there_comes_up(steps: list[tuple[bool, bytes]]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        door = open_door(sock)
        for comes, key in steps:
            name = key.replace(b":", b"_")
            if comes:
                door.names[name] = ""
            else:
                door.names.pop(name, None)
            for known in door.names:
                assert door.comes_up(check(known + b":x"))
        for name in list(door.names):
            del door.names[name]
            assert not door.comes_up(check(name + b":x"))


# -- on the real socket


@pytest.fixture
async def seen() -> AsyncIterator[tuple[UdpPort, list[bytes]]]:
    """A port, and what of the datagrams that come to it Python is given."""
    port, came = await UdpPort.open("127.0.0.1", 0), list[bytes]()
    real = port._datagram

    def datagram(data: bytes, address: Address, now: float) -> None:
        came.append(data)
        real(data, address, now)

    port._datagram = datagram  # type: ignore[method-assign]
    port.read_natively()
    assert port.native is not None
    yield port, came
    port.close()


async def test_of_a_flood_for_nobody_python_sees_nothing_and_it_is_counted(
    seen: tuple[UdpPort, list[bytes]],
) -> None:
    port, came = seen
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for turn in range(20):
            for _ in range(100):
                stranger.sendto(check(os.urandom(4).hex().encode()), (port.host, port.port))
                stranger.sendto(b"\x16" + os.urandom(200), (port.host, port.port))
            await settle(port, 200 * (turn + 1))
        assert came == []
        assert port.statistics.strangers == 4000
        stray = bytes([0x80, 96]) + os.urandom(40)
        stranger.sendto(stray, (port.host, port.port))
        await settle(port, 4001)
    await until(lambda: came)
    assert came == [stray]
    assert port.statistics.strangers == 4001
