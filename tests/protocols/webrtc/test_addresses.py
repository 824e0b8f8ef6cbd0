"""What peers are told, and what settings of it are refused."""

from __future__ import annotations

import pytest

from relay.config import WebRtc
from relay.errors import ConfigError
from relay.protocols.webrtc.addresses import (
    candidates_of,
    local_hosts,
    named,
    not_in_time,
    public_of,
    told_addresses,
)
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.tcp import open_ports


def test_candidates_are_ordered_and_ipv4_comes_first() -> None:
    made = candidates_of(["2001:db8::1", "198.51.100.1", "10.0.0.1"], 7)
    assert [c.host for c in made] == ["198.51.100.1", "10.0.0.1", "2001:db8::1"]
    assert made[0].priority == 2130706431
    assert made == sorted(made, key=lambda c: -c.priority)


def test_addresses_are_named_for_people() -> None:
    made = candidates_of(["198.51.100.1", "2001:db8::1"], 7, 8)
    assert named(made[1:3]) == "[2001:db8::1]:7, 198.51.100.1:8 (TCP)"
    assert not_in_time(made[:1], heard=False).endswith("nothing of it came to 198.51.100.1:7")
    assert not_in_time([], heard=False).endswith("nothing of it came to no address")


def test_a_wildcard_is_told_as_an_address_that_can_be_reached() -> None:
    assert local_hosts("127.0.0.1") == ["127.0.0.1"]
    hosts = local_hosts("0.0.0.0")
    assert hosts
    assert "0.0.0.0" not in hosts


def test_of_a_pair_the_public_side_is_told() -> None:
    pairs = ["127.0.0.1=203.0.113.5", "127.0.0.2 = 203.0.113.6"]
    assert told_addresses(pairs, "0.0.0.0") == ["203.0.113.5", "203.0.113.6"]
    assert [public_of(entry) for entry in [*pairs, "10.0.0.1"]] == [
        *("203.0.113.5", "203.0.113.6", "10.0.0.1")
    ]


def test_a_bound_address_may_be_told_beside_its_public_one() -> None:
    pairs = ["127.0.0.2=203.0.113.5", "127.0.0.2=127.0.0.2"]
    assert told_addresses(pairs, "127.0.0.2") == ["203.0.113.5", "127.0.0.2"]


@pytest.mark.parametrize(
    ("entries", "bound", "words"),
    [
        (["198.51.100.1", "gateway.example"], "0.0.0.0", "'gateway.example' is not an IP address"),
        (["127.0.0.1="], "0.0.0.0", "'127.0.0.1=' is no pair; write bound=public"),
        (["=203.0.113.5"], "0.0.0.0", "is no pair"),
        (["127.0.0.1=203.0.113.5=7"], "0.0.0.0", "is no pair"),
        (["127.0.0.1=gateway.example"], "0.0.0.0", "'gateway.example' is not an IP address"),
        (["eth0=203.0.113.5"], "0.0.0.0", "'eth0' is not an IP address"),
        (["0.0.0.0=203.0.113.5"], "0.0.0.0", "'0.0.0.0' in '0.0.0.0=203.0.113.5' is not"),
        (["127.0.0.1=224.0.0.1"], "0.0.0.0", "'224.0.0.1' in"),
        (["127.0.0.1=2001:db8::1"], "0.0.0.0", "IPv4 on one side, IPv6 on the other"),
        (["127.0.0.1=203.0.113.5", "203.0.113.6"], "0.0.0.0", "'203.0.113.6' stands beside"),
        (
            ["127.0.0.1=203.0.113.5", "127.0.0.2=203.0.113.5"],
            *("0.0.0.0", "203.0.113.5 is mapped twice"),
        ),
        (["203.0.113.9=203.0.113.5"], "0.0.0.0", "203.0.113.9 is no address of this machine"),
        (
            ["127.0.0.2=203.0.113.5"],
            *(
                "127.0.0.1",
                "127.0.0.2 is not bound: gateway.webrtc.host is 127.0.0.1; set it to 0.0.0.0",
            ),
        ),
        (["::1=2001:db8::1"], "0.0.0.0", "of IPv4 alone; set it to ::"),
    ],
)
async def test_what_is_wrong_with_an_entry_is_said(
    entries: list[str], bound: str, words: str
) -> None:
    settings = WebRtc(host=bound, port=0, public_addresses=entries)
    with pytest.raises(ConfigError) as caught:
        await open_ports(settings)
    assert words in str(caught.value)
    assert caught.value.code == "public_address"


async def test_pairs_are_told_for_each_transport_in_the_order_given() -> None:
    pairs = ["127.0.0.3=203.0.113.7", "127.0.0.2=203.0.113.6"]
    peers = await Peers.open(WebRtc(host="0.0.0.0", port=0, tcp_port=0, public_addresses=pairs))
    try:
        told = [(c.host, c.port, c.tcptype) for c in peers.candidates]
        assert peers.tcp is not None
        udp, tcp = peers.udp.port, peers.tcp.port
        assert [(host, port) for host, port, _ in told] == [
            *(("203.0.113.7", udp), ("203.0.113.6", udp)),
            *(("203.0.113.7", tcp), ("203.0.113.6", tcp)),
        ]
    finally:
        await peers.close()
