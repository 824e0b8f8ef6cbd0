"""SRTP with keys of our own: both ends, packets that it refuses, and its hooks."""

from __future__ import annotations

import pylibsrtp._binding
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ConfigError
from relay.protocols.webrtc.srtp import PROFILES, Srtp, SrtpError, check_hooks

PACKET = b"\x80\x60" + bytes(30)
REPORT = b"\x80\xc9\x00\x01ssrc"


def both(name: bytes = b"SRTP_AEAD_AES_128_GCM") -> tuple[Srtp, Srtp]:
    """A client's and a server's, of the same keys."""
    profile = PROFILES[name]
    material = bytes(range(2 * (profile.key + profile.salt)))
    client, server = (Srtp.of(profile, material, client=end) for end in (True, False))
    return client, server


@pytest.mark.parametrize("name", PROFILES)
def test_each_end_reads_what_the_other_says_and_not_what_it_said_itself(name: bytes) -> None:
    for sender, receiver in (both(name), both(name)[::-1]):
        assert receiver.unprotect(sender.protect(PACKET)) == PACKET
        assert receiver.unprotect_rtcp(sender.protect_rtcp(REPORT)) == REPORT
        with pytest.raises(SrtpError):
            sender.unprotect(sender.protect(PACKET))


@pytest.mark.parametrize("name", PROFILES)
def test_the_index_of_rtcp_stands_where_the_profile_says(name: bytes) -> None:
    sender, _ = both(name)
    for index in (1, 2):
        trailer = sender.protect_rtcp(REPORT)[-PROFILES[name].rtcp_trailer :]
        assert int.from_bytes(trailer[:4], "big") == 1 << 31 | index


def test_aes_128_gcm_is_the_most_wanted() -> None:
    assert next(iter(PROFILES)) == b"SRTP_AEAD_AES_128_GCM"


def test_packets_that_srtp_refuses() -> None:
    sender, receiver = both()
    packet = b"\x80\x60" + bytes(1200)
    protected = sender.protect(packet)
    assert receiver.unprotect(protected) == packet
    for bad in (protected, b"", b"\x80", protected[:-1], bytes(3000), b"\xff" * 100):
        with pytest.raises(SrtpError):
            receiver.unprotect(bad)
        with pytest.raises(SrtpError):
            receiver.unprotect_rtcp(bad)
    for bad in (b"", b"\x80\x60", bytes(3000)):
        with pytest.raises(SrtpError):
            sender.protect(bad)
    report = b"\x80\xc9\x00\x01ssrc"
    assert receiver.unprotect_rtcp(sender.protect_rtcp(report)) == report


@given(st.binary(max_size=2100))
def test_any_bytes_are_refused_by_srtp(data: bytes) -> None:
    with pytest.raises(SrtpError):
        KEYS.unprotect(data)
    with pytest.raises(SrtpError):
        KEYS.unprotect_rtcp(data)


KEYS = both()[1]


def test_the_installed_pylibsrtp_fits() -> None:
    check_hooks()


def test_another_pylibsrtp_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pylibsrtp._binding, "lib", object())
    with pytest.raises(ConfigError, match="lacks srtp_protect, ") as caught:
        check_hooks()
    assert caught.value.code == "pylibsrtp_version"
