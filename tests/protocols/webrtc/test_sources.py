"""How much is read of strangers: by name, never by what they make up."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.sources import (
    CHECKS_A_SECOND,
    CHECKS_OF_A_NAME,
    SPELL,
    Sources,
    Strangers,
)
from relay.protocols.webrtc.stun import Address
from relay.protocols.webrtc.udp_statistics import UdpStatistics

MINE, YOURS = b"mine", b"yours"
HERE: Address = ("192.0.2.1", 5)


def strangers(limit: int = 10) -> Strangers:
    return Strangers({MINE, YOURS}, {b"transaction!"}, {HERE}, Sources(limit), UdpStatistics())


def check(name: bytes, *before: tuple[int, bytes]) -> bytes:
    attributes = [*before, (stun.USERNAME, name + b":x")]
    return stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, b"key")


def host(number: int) -> Address:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5


def test_an_address_has_so_many_a_second_and_others_theirs() -> None:
    sources = Sources(20)
    assert sum(sources.take(HERE, 5.0) for _ in range(60)) == 20
    assert not sources.take(HERE, 5.9)
    assert sources.take(host(1), 5.9)
    assert sources.take(HERE, 6.0)


def test_a_flood_in_one_name_is_read_in_part_from_however_many_hosts_it_comes() -> None:
    made, flood = strangers(), check(MINE)
    free = CHECKS_OF_A_NAME
    for second in range(2 * int(SPELL)):
        now, begins = float(second), second % SPELL == 0
        admitted = sum(made.admit(flood, host(number), now) for number in range(10_000))
        assert admitted == CHECKS_A_SECOND + begins * free
        # Who has another name comes in all the same.
        newcomer = [made.admit(check(YOURS), host(77), now + 0.9) for _ in range(9)]
        assert newcomer == [begins] * free + [False] * (9 - free)
        assert len(made) == 2


def test_a_crowd_behind_one_router_comes_in_at_once() -> None:
    names = {f"name{number}".encode() for number in range(CHECKS_A_SECOND)}
    made = Strangers(names, (), (), Sources(0), UdpStatistics())
    assert all(made.admit(check(name), HERE, 5.0) for name in names for _ in range(4))


def test_made_up_names_are_not_read_and_take_no_place() -> None:
    made = strangers()
    for number in range(10_000):
        assert not made.admit(check(str(number).encode()), host(number), 5.0)
    assert len(made) == 0
    assert made.admit(check(MINE), host(1), 5.0)


def test_of_answers_those_to_checks_of_ours_are_read_and_some_for_other_processes() -> None:
    made = strangers(limit=10)
    ours = stun.build(stun.BINDING_SUCCESS, b"transaction!", [], b"key")
    theirs = stun.build(stun.BINDING_ERROR, b"nobody knows", [], b"key")
    assert all(made.admit(ours, host(number), 5.0) for number in range(10_000))
    assert sum(made.admit(theirs, HERE, 5.0) for _ in range(100)) == 10
    assert not any(made.admit(theirs, host(number), 5.0) for number in range(100))


ATTRIBUTES = st.tuples(st.sampled_from([0x6, 0x24, 0x25, 0x802A, 0xC057]), st.binary(max_size=30))


@given(before=st.lists(ATTRIBUTES, max_size=15), name=st.binary(max_size=40))
def test_the_name_of_a_check_is_the_one_that_is_read_of_it_later(
    before: list[tuple[int, bytes]], name: bytes
) -> None:
    data = check(name, *before)
    assert stun.username(data) == stun.parse(data).attributes[stun.USERNAME]


@given(data=st.binary(max_size=300), cut=st.integers(0, 90))
def test_any_bytes_have_a_name_or_none(data: bytes, cut: int) -> None:
    for each in (data, check(MINE)[:cut], check(MINE)[:cut] + data):
        name = stun.username(each)
        assert name in each
        try:
            read = stun.parse(each)
        except ParseError:
            continue
        if stun.USERNAME in read.attributes:
            assert name == read.attributes[stun.USERNAME]
