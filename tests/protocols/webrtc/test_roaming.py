"""Whose a stray packet may be, and how often that is asked."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.webrtc.roaming import AGAIN, FRESH, MAX_TRIES, NEAR, TRIES, Roaming
from relay.protocols.webrtc.stun import Address

THERE = ("192.0.2.9", 9)
BROWSERS = (1).to_bytes(4, "big")


@dataclass
class FakePeer:
    heard_ssrc: bytes = b"ssrc"
    heard_rtcp: bytes = b""
    rtcp_trailer: int = 4
    owns: bool = True
    tried: list[bytes] = field(default_factory=list)

    def roam(self, data: bytes, address: Address, now: float) -> bool:
        self.tried.append(data)
        return self.owns


def media(ssrc: bytes = b"ssrc") -> bytes:
    return b"\x80\x60" + bytes(6) + ssrc + b"payload"


def report(index: int, ssrc: bytes = BROWSERS, behind: bytes = b"") -> bytes:
    """As SRTCP shows it: all is hidden but the sender and the index."""
    return b"\x81\xc9\x00\x07" + ssrc + bytes(40) + (1 << 31 | index).to_bytes(4, "big") + behind


def viewer(index: int, *, owns: bool = True) -> FakePeer:
    return FakePeer(b"", report(index), owns=owns)


def test_media_goes_to_the_peer_of_its_ssrc() -> None:
    peers = [FakePeer(), FakePeer(b"else"), FakePeer(b"")]
    roaming = Roaming(lambda: peers)
    roaming.stray(media(b"else"), THERE, 1.0)
    roaming.stray(media(b"none"), THERE, 1.0)
    assert [len(peer.tried) for peer in peers] == [0, 1, 0]


def test_a_report_goes_to_the_viewer_that_reports_under_its_ssrc() -> None:
    peers = [FakePeer(b"", report(7, b"mine")), FakePeer(b"", report(7, b"else")), FakePeer()]
    Roaming(lambda: peers).stray(report(8, b"mine"), THERE, 1.0)
    assert [len(peer.tried) for peer in peers] == [1, 0, 0]


def test_of_many_that_report_under_one_ssrc_the_index_tells() -> None:
    peers = [viewer(at, owns=at == 470) for at in range(0, 20_000, 10)]
    Roaming(lambda: peers).stray(report(472), THERE, 1.0)
    assert [peer.heard_rtcp for peer in peers if peer.tried] == [report(470)]


def test_those_that_came_at_the_same_moment_are_tried_in_turn() -> None:
    peers = [viewer(100 - at % 3, owns=at == 38) for at in range(40)]
    Roaming(lambda: peers).stray(report(101), THERE, 1.0)
    assert len(peers[38].tried) == 1
    assert sum(len(peer.tried) for peer in peers) <= 40


def test_where_the_tag_stands_behind_the_index_it_is_found_too() -> None:
    tag = bytes(range(10))
    peers = [FakePeer(b"", report(at, BROWSERS, tag), 14) for at in (5, 1000)]
    Roaming(lambda: peers).stray(report(1001, BROWSERS, tag[::-1]), THERE, 1.0)
    assert [len(peer.tried) for peer in peers] == [0, 1]


def test_an_index_of_the_past_or_far_ahead_is_nobodys() -> None:
    peers = [viewer(500), viewer(500)]
    roaming = Roaming(lambda: peers)
    for port, index in enumerate((500, 499, 0, 501 + NEAR, 0x7FFFFFFF)):
        roaming.stray(report(index), ("192.0.2.9", port), 1.0)
    assert not peers[0].tried
    roaming.stray(report(500 + NEAR), THERE, 1.0)
    assert peers[0].tried


def test_a_flood_under_the_ssrc_of_a_peer_costs_it_few_tries() -> None:
    peer = FakePeer()
    roaming = Roaming(lambda: [peer])
    for number in range(10_000):
        roaming.stray(media(), THERE, 1.0 + number / 10_000)
    assert len(peer.tried) <= 1 / AGAIN + 1 / FRESH + 1


def test_a_flood_from_everywhere_costs_no_more_than_was_set_aside_for_it() -> None:
    peers = [viewer(100, owns=False) for _ in range(1000)]
    roaming = Roaming(lambda: peers)
    for number in range(20_000):
        roaming.stray(report(101), ("192.0.2.9", number), 1.0 + number / 20_000)
    assert sum(len(peer.tried) for peer in peers) <= (1 / FRESH + 1) * (TRIES + MAX_TRIES)
    assert len(roaming._seen) <= TRIES


@given(st.binary(min_size=1, max_size=40), st.integers(1, 3))
def test_anything_else_is_nobodys(data: bytes, count: int) -> None:
    peers = [FakePeer(b"ssrc", report(1, b"else"), owns=False) for _ in range(count)]
    Roaming(lambda: peers).stray(data, THERE, 1.0)
    known = data[4:8] == b"else" if data[1:2] and 191 < data[1] < 224 else data[8:12] == b"ssrc"
    if any(peer.tried for peer in peers):
        assert 127 < data[0] < 192
        assert len(data) >= 12
        assert known


def test_a_peer_that_has_ended_is_not_kept_for_the_next_stray() -> None:
    peers = [viewer(100), FakePeer()]
    roaming = Roaming(lambda: peers)
    roaming.stray(media(b"none"), THERE, 1.0)
    gone = [weakref.ref(peer) for peer in peers]
    peers.clear()
    assert [ended() for ended in gone] == [None, None]
    roaming.stray(media(), THERE, 1.0 + AGAIN)
    roaming.stray(report(101), THERE, 1.0 + AGAIN)
