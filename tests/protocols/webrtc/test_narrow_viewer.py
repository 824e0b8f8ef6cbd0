"""A viewer among others whose path is too small for the picture."""

from __future__ import annotations

import asyncio

import pytest

from relay.protocols.webrtc import link
from relay.protocols.webrtc.congestion import FeedbackBuilder
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, ReceiverReport, ReportBlock
from relay.protocols.webrtc.sendlog import SendLog
from tests.protocols.webrtc.fake_peer import FakePeer, until
from tests.protocols.webrtc.show import Show


def count(peer: FakePeer, payload_type: int) -> int:
    return sum(packet.payload_type == payload_type for packet in peer.packets)


def report(peer: FakePeer, fraction_lost: float) -> None:
    block = ReportBlock(1000, round(fraction_lost * 256), 0, 0, 0, 0, 0)
    now = asyncio.get_running_loop().time()
    peer.on_rtcp(ReceiverReport(1, (block,)).serialise(), now)


async def pause(show: Show) -> tuple[FakePeer, FakePeer]:
    show.step(keyframe=True)
    narrow, wide = await show.join(), await show.join()
    report(narrow, 0.5)
    await asyncio.sleep(link.SUSTAINED + 0.02)
    report(narrow, 0.5)
    return narrow, wide


async def test_it_keeps_the_sound_and_the_others_keep_all(show: Show) -> None:
    narrow, wide = await pause(show)
    for _ in range(5):
        show.step()
    assert (count(narrow, 102), count(narrow, 111)) == (1, 5)
    assert (count(wide, 102), count(wide, 111)) == (6, 5)
    told = show.egress.viewers("show")
    assert [given.state for given in told] == ["paused", "live"]
    assert [given.pauses for given in told] == [1, 0]
    assert told[0].estimate is not None
    assert told[1].estimate is None
    show.step(keyframe=True)
    assert count(narrow, 102) == 1


async def test_its_requests_for_a_key_frame_burden_nobody(show: Show) -> None:
    narrow, _ = await pause(show)
    narrow.on_rtcp(PictureLoss(1, 1000).serialise(), asyncio.get_running_loop().time())
    assert show.wanted == 0


async def test_what_it_lost_of_the_stopped_picture_is_not_sent_again(show: Show) -> None:
    narrow, wide = await pause(show)
    show.step()
    for peer in (narrow, wide):
        lost = peer.packets[0]
        request = Nack(1, lost.ssrc, (lost.sequence,)).serialise()
        peer.on_rtcp(request, asyncio.get_running_loop().time())
    assert (count(narrow, 103), count(wide, 103)) == (0, 1)
    assert [given.nacked for given in show.egress.viewers("show")] == [1, 1]


async def test_its_picture_comes_back_by_itself(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "BLIND_WAIT", 0.05)
    narrow, _ = await pause(show)
    await until(lambda: show.wanted == 1)
    show.step()
    assert count(narrow, 102) == 1
    show.step(keyframe=True)
    show.step()
    assert count(narrow, 102) == 3
    assert show.egress.viewers("show")[0].state == "live"


async def test_it_may_leave_meanwhile(show: Show) -> None:
    narrow, wide = await pause(show)
    narrow.end("left")
    show.step(keyframe=True)
    assert count(wide, 102) == 2
    assert len(show.egress.viewers("show")) == 1


def test_feedback_is_left_unopened_for_a_while_when_all_is_well() -> None:
    log = SendLog(3, clock=lambda: 5.0)
    one = link.Link(log)
    builder = FeedbackBuilder(1)
    for number in range(20):
        builder.arrived(log.take(1000), 1000, 5.0 + number / 1000)
    (told,) = builder.build()
    alone = told.serialise()
    sealed = [alone + bytes(trailer) for trailer in (14, 20)]
    assert not any(one.leaves(data, 5.0) for data in sealed)
    one.feedback(alone[4:], 5.0)
    assert all(one.leaves(data, 5.0 + link.LOOK / 2) for data in sealed)
    assert not any(one.leaves(data, 5.0 + link.LOOK) for data in sealed)
    request = PictureLoss(1, 1000).serialise()
    for other in (alone + request, request + alone, request):
        assert not any(one.leaves(other + bytes(size), 5.0) for size in (14, 20))
    builder.arrived(60, 1000, 5.1)  # the ones before it are missing
    one.feedback(builder.build()[0].serialise()[4:], 5.1)
    assert not one.leaves(sealed[1], 5.11)
