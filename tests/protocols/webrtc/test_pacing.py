"""Pictures of many packets, in parts."""

from __future__ import annotations

import time

from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.fanout import FanOut
from relay.protocols.webrtc.pacing import A_STEP, AT_ONCE, PacedFanOut
from tests.protocols.webrtc.fake_peer import FakePeers, until
from tests.protocols.webrtc.outlet import track


def payloads(count: int, mark: int) -> list[bytes]:
    return [bytes([mark, index]) for index in range(count)]


def test_a_picture_of_few_packets_leaves_at_once() -> None:
    one, outlet = track()
    paced = PacedFanOut(FanOut())
    paced.set([one])
    assert paced.frame(payloads(AT_ONCE, 1), 0) == []
    assert not paced.waiting
    assert len(outlet.packets) == AT_ONCE
    assert [packet.marker for packet in outlet.packets] == [False] * (AT_ONCE - 1) + [True]


def test_a_larger_one_leaves_in_parts_and_is_marked_once() -> None:
    one, outlet = track()
    paced = PacedFanOut(FanOut())
    paced.set([one])
    whole = payloads(AT_ONCE + A_STEP + 1, 1)
    paced.frame(whole, 3000)
    counts = [len(outlet.packets)]
    while paced.waiting:
        paced.pump()
        counts.append(len(outlet.packets))
    assert counts == [AT_ONCE, AT_ONCE + A_STEP, AT_ONCE + A_STEP + 1]
    assert [packet.payload for packet in outlet.packets] == whole
    assert sum(packet.marker for packet in outlet.packets) == 1
    assert outlet.packets[-1].marker
    assert len({packet.timestamp for packet in outlet.packets}) == 1
    again = one.retransmission(outlet.packets[AT_ONCE].sequence)
    assert again is not None
    assert again.endswith(whole[AT_ONCE])


def test_the_rest_of_one_leaves_before_the_next() -> None:
    one, outlet = track()
    paced = PacedFanOut(FanOut())
    paced.set([one])
    paced.frame(payloads(AT_ONCE + 100, 1), 0)
    paced.frame(payloads(2, 2), 3000)
    assert [packet.payload[0] for packet in outlet.packets] == [1] * (AT_ONCE + 100) + [2] * 2
    assert sum(packet.marker for packet in outlet.packets) == 2
    assert paced.pump() == []


def test_who_comes_in_the_middle_of_one_gets_nothing_of_it() -> None:
    one, first = track()
    two, second = track()
    paced = PacedFanOut(FanOut())
    paced.set([one])
    paced.frame(payloads(AT_ONCE + 5, 1), 0)
    paced.set([one, two])
    assert len(first.packets) == AT_ONCE, "the others get no burst for it"
    paced.pump()
    assert len(first.packets) == AT_ONCE + 5
    assert second.packets == []
    paced.frame(payloads(1, 2), 3000)
    assert len(second.packets) == 1
    assert len(first.packets) == AT_ONCE + 6


def test_who_leaves_in_the_middle_of_one_gets_no_more_of_it() -> None:
    one, first = track()
    two, second = track()
    three, third = track()
    paced = PacedFanOut(FanOut())
    paced.set([one, two])
    paced.frame(payloads(AT_ONCE + A_STEP + 5, 1), 0)
    paced.set([two, three])
    paced.pump()
    paced.set([two])  # and the newcomer is gone before it got anything
    paced.frame(payloads(1, 2), 3000)
    assert len(first.packets) == AT_ONCE
    assert len(second.packets) == AT_ONCE + A_STEP + 6
    assert third.packets == []


async def test_the_timer_of_all_viewers_sends_the_parts() -> None:
    peers = FakePeers(audio=False)
    egress = Egress(peers.as_peers())
    egress.open("show", on_keyframe_wanted=lambda: None)
    egress.frame("show", Codec.H264, [b"k"], 0, keyframe=True)
    await egress.answer("show", "offer")
    (peer,) = peers.made
    peer.connect()
    begin = time.monotonic()
    egress.frame("show", Codec.H264, payloads(200, 1), 3000, keyframe=True)
    assert len(peer.rtp) == 1 + AT_ONCE
    await until(lambda: len(peer.rtp) == 201)
    assert time.monotonic() - begin > 0.015
    await egress.close("show", "test over")
