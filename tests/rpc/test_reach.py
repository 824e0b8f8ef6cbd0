"""Where a peer may send us: by where it is, whatever spelling the address has."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import PeerError
from relay.rpc.reach import ANYWHERE, Place, Reach, place_of, reach_of

PUBLIC = "203.0.114.9"
NEAR = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "240.0.0.1",
    "64:ff9b:1::7f00:1",
    "::ffff:0:127.0.0.1",
    "3fff::1",
    "5f00::1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%3",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
]


@pytest.mark.parametrize("address", NEAR)
def test_a_public_peer_may_not_send_us_near(address: str) -> None:
    reach = reach_of("auto", PUBLIC)
    assert not reach.allows(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(PeerError) as refused:
        reach.check_url(f"https://{host}:8935/ai/trickle/x")
    assert refused.value.code == "address_refused"


@pytest.mark.parametrize("address", ["8.8.8.8", PUBLIC, "2606:4700::1111", "::ffff:8.8.8.8"])
@pytest.mark.parametrize("peer", [PUBLIC, "10.0.0.2", "127.0.0.1", "fe80::9", None])
def test_anyone_may_send_us_out(peer: str | None, address: str) -> None:
    assert reach_of("auto", peer).allows(ip_address(address))


@pytest.mark.parametrize(
    ("peer", "here", "address", "allowed"),
    [
        ("10.0.0.2", "10.0.0.9", "192.168.0.4", True),
        ("10.0.0.2", "10.0.0.9", "fd00::4", True),
        ("::ffff:10.0.0.2", None, "10.0.0.3", True),
        ("10.0.0.2", "10.0.0.9", "127.0.0.1", False),
        ("10.0.0.2", "10.0.0.9", "169.254.169.254", False),
        ("10.0.0.2", "10.0.0.9", "0.0.0.0", False),
        # It is on this machine, met at one of its other addresses.
        ("10.0.0.2", "10.0.0.2", "127.0.0.1", True),
        (PUBLIC, PUBLIC, "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", "127.0.0.2", True),
        ("127.0.0.1", "127.0.0.1", "10.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", "169.254.169.254", False),
        ("127.0.0.1", "127.0.0.1", "0.0.0.0", False),
        ("169.254.7.7", "169.254.7.1", "169.254.7.7", True),
        ("169.254.7.7", "169.254.7.1", "169.254.169.254", False),
        ("169.254.7.7", "169.254.7.1", "127.0.0.1", False),
        ("fe80::7%2", "fe80::1%2", "fe80::7", True),
        # Never met, or met at what is no address: taken for a public one.
        (None, None, "10.0.0.1", False),
        ("somewhere", None, "10.0.0.1", False),
    ],
)
def test_what_is_near_may_name_what_is_no_nearer(
    peer: str | None, here: str | None, address: str, allowed: bool
) -> None:
    assert reach_of("auto", peer, here).allows(ip_address(address)) is allowed


@pytest.mark.parametrize(
    ("peer", "here", "address", "allowed"),
    [
        (PUBLIC, None, PUBLIC, True),
        (PUBLIC, None, f"::ffff:{PUBLIC}", True),
        (PUBLIC, None, "8.8.8.8", False),
        ("10.0.0.2", "10.0.0.9", "10.0.0.2", True),
        ("10.0.0.2", "10.0.0.9", "10.0.0.3", False),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2", True),
        ("127.0.0.1", "127.0.0.1", "10.0.0.1", False),
        ("10.0.0.2", "10.0.0.2", "127.0.0.1", True),
        (None, None, "8.8.8.8", False),
    ],
)
def test_same_host_is_the_peer_alone(
    peer: str | None, here: str | None, address: str, allowed: bool
) -> None:
    assert reach_of("same-host", peer, here).allows(ip_address(address)) is allowed


def test_an_operator_may_trust_everyone() -> None:
    reach = reach_of("any", PUBLIC)
    assert reach == ANYWHERE
    assert reach.allows(ip_address("127.0.0.1"))
    assert reach.allows(ip_address("169.254.169.254"))


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.1", "127.1"])
def test_other_spellings_end_as_the_address_that_they_stand_for(host: str) -> None:
    reach = reach_of("auto", PUBLIC)
    with pytest.raises(PeerError) as refused:
        reach.check_url(f"http://{host}/")
    assert refused.value.code == "address_refused"


@pytest.mark.parametrize("host", ["localhost", "node.example", "7f", "a.1", "1e3.example"])
def test_a_name_is_judged_when_it_is_resolved(host: str) -> None:
    reach_of("auto", PUBLIC).check_url(f"http://{host}/")


@pytest.mark.parametrize("host", ["2130706433", "localhost"])
def test_what_a_resolver_makes_of_it_is_refused(host: str) -> None:
    reach = reach_of("auto", PUBLIC)
    for *_, name in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM):
        assert not reach.allows(ip_address(name[0]))


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_is_where_the_ipv4_is(address: object) -> None:
    mapped = ip_address(f"::ffff:{address}")
    assert place_of(mapped) is place_of(ip_address(str(address)))


@given(st.ip_addresses(), st.sampled_from(Place), st.booleans())
def test_only_global_addresses_are_public(address: object, nearest: Place, only: bool) -> None:
    found = ip_address(str(address))
    if Reach(Place.PUBLIC).allows(found):
        assert found.is_global
        assert not (found.is_multicast)
        assert not (found.is_loopback)
        assert not (found.is_link_local)
    assert isinstance(Reach(nearest, only_own=only).allows(found), bool)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1", "169.254.169.254", "224.0.0.1"])
def test_what_the_operator_names_is_where_it_is(address: str) -> None:
    assert ANYWHERE.allows(ip_address(address))
    assert reach_of("any", PUBLIC).allows(ip_address(address))
