"""Whose media a stray packet may be, and how often that is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.webrtc.roaming import AGAIN, FRESH, Roaming
from relay.protocols.webrtc.stun import Address

THERE = ("192.0.2.9", 9)


@dataclass
class FakePeer:
    heard_ssrc: bytes = b"ssrc"
    tried: list[bytes] = field(default_factory=list)

    def roam(self, data: bytes, address: Address, now: float) -> None:
        assert address == THERE
        self.tried.append(data)


def media(ssrc: bytes = b"ssrc") -> bytes:
    return b"\x80\x60" + bytes(6) + ssrc + b"payload"


def test_media_goes_to_the_peer_of_its_ssrc() -> None:
    peers = [FakePeer(), FakePeer(b"else"), FakePeer(b"")]
    roaming = Roaming(lambda: peers)
    roaming.stray(media(b"else"), THERE, 1.0)
    roaming.stray(media(b"none"), THERE, 1.0)
    assert [len(peer.tried) for peer in peers] == [0, 1, 0]


def test_a_flood_under_the_ssrc_of_a_peer_costs_it_few_tries() -> None:
    peer = FakePeer()
    roaming = Roaming(lambda: [peer])
    for number in range(10_000):
        roaming.stray(media(), THERE, 1.0 + number / 10_000)
    assert len(peer.tried) <= 1 / AGAIN + 1 / FRESH + 1


@given(st.binary(min_size=1, max_size=40))
def test_anything_else_is_nobodys(data: bytes) -> None:
    peer = FakePeer()
    Roaming(lambda: [peer]).stray(data, THERE, 1.0)
    rtp = 127 < data[0] < 192 and len(data) >= 12 and not 191 < data[1] < 224
    assert bool(peer.tried) is (rtp and data[8:12] == b"ssrc")
