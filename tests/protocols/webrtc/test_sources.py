"""How much is read of strangers, by host."""

from __future__ import annotations

from relay.protocols.webrtc.sources import CHECKS_A_SECOND, MAX_HOSTS, Sources, network_of


def test_a_host_has_so_many_a_second_and_others_theirs() -> None:
    sources = Sources()
    admitted = sum(sources.admit("192.0.2.1", 5.0) for _ in range(3 * CHECKS_A_SECOND))
    assert admitted == CHECKS_A_SECOND
    assert not sources.admit("::ffff:192.0.2.1", 5.9)
    assert sources.admit("192.0.2.2", 5.9)
    assert sources.admit("192.0.2.1", 6.0)


def test_the_addresses_of_one_network_of_ipv6_count_together() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1")


def test_made_up_hosts_take_a_bounded_place() -> None:
    sources = Sources()
    for number in range(3 * MAX_HOSTS):
        assert sources.admit(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
        assert len(sources) <= MAX_HOSTS
