"""One viewer: how its video begins, and what it is sent again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.unit import Codec
from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.rtcp import (
    Bye,
    FullIntraRequest,
    Nack,
    PictureLoss,
    ReceiverReport,
    Remb,
    ReportBlock,
)
from relay.protocols.webrtc.viewer import (
    CATCH_UP_FIRST,
    CATCH_UP_PACKETS,
    MAX_BACKLOG,
    SQUEEZED,
    Frame,
    Viewer,
    ViewerState,
)
from tests.protocols.webrtc.outlet import FakeOutlet, parameters


def viewer(*, video: bool = True, audio: bool = True) -> tuple[Viewer, FakeOutlet]:
    outlet = FakeOutlet()
    made = Viewer(
        "v",
        OutgoingTrack(parameters(), outlet) if video else None,
        OutgoingTrack(parameters(Codec.OPUS), outlet) if audio else None,
    )
    return made, outlet


def frame(number: int, packets: int = 1, octets: int = 100) -> Frame:
    return Frame([bytes([number, index]) for index in range(packets)], octets, number * 3000)


def test_without_a_group_it_waits_for_a_key_frame_and_sound_waits_with_it() -> None:
    one, outlet = viewer()
    one.connected([], has_video=True, now=1.0)
    assert (one.state, one.audio_open) == (ViewerState.WAITING, False)
    assert one.frame(frame(1), keyframe=False) is False
    assert one.frame(frame(2), keyframe=True) is True
    assert (one.state, one.audio_open, outlet.sent) == (ViewerState.LIVE, True, [])


def test_sound_flows_where_there_was_never_a_picture() -> None:
    one, _ = viewer()
    one.connected([], has_video=False, now=1.0)
    assert (one.state, one.audio_open) == (ViewerState.WAITING, True)


def test_a_viewer_without_video_hears_at_once() -> None:
    one, _ = viewer(video=False)
    one.connected([frame(0)], has_video=True, now=1.0)
    assert (one.state, one.audio_open) == (ViewerState.LIVE, True)


def test_it_begins_with_the_group_at_once_squeezed_before_the_live_edge() -> None:
    one, outlet = viewer()
    one.connected([frame(number) for number in range(10)], has_video=True, now=1.0)
    assert (one.state, one.audio_open) == (ViewerState.LIVE, True)
    packets = outlet.packets
    assert [packet.payload[0] for packet in packets] == list(range(10))
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(packets)]
    assert steps == [SQUEEZED] * 9
    assert one.video is not None
    one.video.send_alone([b"live"], 10 * 3000, marker=True)
    live = outlet.packets[-1]
    assert (live.timestamp - packets[-1].timestamp) & 0xFFFFFFFF == 3000
    assert (live.sequence - packets[-1].sequence) & 0xFFFF == 1


def test_a_large_group_is_sent_in_steps_and_live_frames_queue_behind_it() -> None:
    one, outlet = viewer()
    one.connected([frame(n, packets=20) for n in range(20)], has_video=True, now=1.0)
    assert one.state is ViewerState.CATCHING_UP
    assert CATCH_UP_FIRST <= len(outlet.sent) < CATCH_UP_FIRST + 20
    before = len(outlet.sent)
    assert one.pump() is False
    assert CATCH_UP_PACKETS <= len(outlet.sent) - before < CATCH_UP_PACKETS + 20
    assert one.frame(frame(20), keyframe=False) is False
    while not one.pump():
        pass
    numbers = [packet.payload[0] for packet in outlet.packets if packet.payload[1] == 0]
    assert numbers == list(range(21))
    ticks = [(p.timestamp - outlet.packets[0].timestamp) & 0xFFFFFFFF for p in outlet.packets]
    assert ticks == sorted(ticks)


def test_a_key_frame_ends_the_catching_up() -> None:
    one, outlet = viewer()
    one.connected([frame(n, packets=50) for n in range(20)], has_video=True, now=1.0)
    sent = len(outlet.sent)
    assert one.frame(frame(20), keyframe=True) is True
    assert one.state is ViewerState.LIVE
    assert one.pump() is True
    assert len(outlet.sent) == sent


def test_a_viewer_that_cannot_catch_up_waits_for_a_key_frame() -> None:
    one, _ = viewer()
    one.connected([frame(n, packets=50) for n in range(20)], has_video=True, now=1.0)
    one.frame(frame(20, octets=MAX_BACKLOG), keyframe=False)
    assert one.state is ViewerState.WAITING
    assert one.pump() is False
    assert one.frame(frame(21), keyframe=True) is True


def test_after_its_end_nothing_is_sent() -> None:
    one, outlet = viewer()
    one.connected([frame(n, packets=50) for n in range(20)], has_video=True, now=1.0)
    sent = len(outlet.sent)
    one.gone("closed", 2.0)
    assert one.pump() is False
    assert one.frame(frame(9), keyframe=True) is False
    assert (len(outlet.sent), one.audio_open) == (sent, False)


def live() -> tuple[Viewer, FakeOutlet]:
    one, outlet = viewer()
    one.connected([frame(0, packets=10)], has_video=True, now=1.0)
    assert one.state is ViewerState.LIVE
    return one, outlet


def test_what_is_asked_for_is_sent_again() -> None:
    one, outlet = live()
    wanted = outlet.packets[3].sequence
    again, keyframe = one.feedback([Nack(1, 1000, (wanted,))], 2.0)
    assert (len(again), keyframe) == (1, False)
    assert (one.counters.nacked, one.counters.too_old) == (1, 0)


def test_what_is_not_kept_or_of_no_stream_is_not_sent_again() -> None:
    one, outlet = live()
    stranger = (outlet.packets[0].sequence - 9) & 0xFFFF
    again, _ = one.feedback([Nack(1, 1000, (stranger,)), Nack(1, 5, (stranger,))], 2.0)
    assert again == []
    assert (one.counters.nacked, one.counters.too_old) == (1, 1)


def test_a_storm_of_requests_is_answered_within_bounds() -> None:
    one, outlet = live()
    everything = Nack(1, 1000, tuple(packet.sequence for packet in outlet.packets))
    answered = 0
    for step in range(1000):  # ten thousand requests a second
        answered += len(one.feedback([everything], 2.0 + step / 1000)[0])
    assert 1000 <= answered <= 1000 + 256 + 1
    assert one.counters.over_budget == 10_000 - answered


@pytest.mark.parametrize(
    ("packet", "asked"),
    [
        (PictureLoss(1, 1000), True),
        (PictureLoss(1, 7), False),
        (FullIntraRequest(1, ((7, 1), (1000, 1))), True),
        (FullIntraRequest(1, ((7, 1),)), False),
        (Remb(1, 1000, (1000,)), False),
        (Bye((1,)), False),
    ],
)
def test_who_asks_for_a_key_frame(packet: PictureLoss, asked: bool) -> None:
    one, _ = live()
    assert one.feedback([packet], 2.0) == ([], asked)
    assert one.counters.keyframes_asked == asked


def test_reports_give_loss_jitter_and_round_trip() -> None:
    one, _ = live()
    ntp = 0x1234_5678_9ABC_DEF0
    one.reports.append((ntp >> 16 & 0xFFFFFFFF, 10.0))
    block = ReportBlock(1000, 64, 5, 0, 900, ntp >> 16 & 0xFFFFFFFF, 65536 // 2)
    other = ReportBlock(4242, 255, 5, 0, 900, 0, 0)
    one.feedback([ReceiverReport(1, (block, other))], 10.6)
    assert one.counters.fraction_lost == 0.25
    assert one.counters.jitter == pytest.approx(0.01)
    assert one.counters.round_trip == pytest.approx(0.1)


def test_reports_about_sound_count_only_where_there_is_no_picture() -> None:
    sound = ReportBlock(2000, 128, 0, 0, 480, 0, 0)
    one, _ = live()
    one.reports.append((1 << 24, 9.0))
    one.feedback([ReceiverReport(1, (sound,))], 10.0)
    assert (one.counters.fraction_lost, one.counters.round_trip) == (0.0, None)
    deaf, _ = viewer(video=False)
    deaf.connected([], has_video=True, now=1.0)
    deaf.feedback([ReceiverReport(1, (sound,))], 10.0)
    assert (deaf.counters.fraction_lost, deaf.counters.jitter) == (0.5, 0.01)


def test_a_round_trip_below_zero_is_not_believed() -> None:
    one, _ = live()
    one.reports.append((1 << 24, 10.0))
    block = ReportBlock(1000, 0, 0, 0, 0, 1 << 24, 2 * 65536)
    one.feedback([ReceiverReport(1, (block,))], 10.6)
    assert one.counters.round_trip is None


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 40)), max_size=60))
def test_whatever_comes_a_viewer_sees_a_key_frame_first_and_time_going_on(
    steps: list[tuple[bool, bool, int]],
) -> None:
    one, outlet = viewer(audio=False)
    keys = {0}
    one.connected([frame(n, packets=30) for n in range(6)], has_video=True, now=1.0)
    for number, (keyframe, pump, packets) in enumerate(steps, start=6):
        made = frame(number, packets=packets)
        if keyframe:
            keys.add(number)
        live_now = one.state is ViewerState.LIVE or one.frame(made, keyframe=keyframe)
        if live_now:
            assert one.video is not None
            one.video.send_alone(made.payloads, made.timestamp, marker=True)
        if pump:
            one.pump()
    sent = outlet.packets
    ticks = [(p.timestamp - sent[0].timestamp) & 0xFFFFFFFF for p in sent]
    assert ticks == sorted(ticks)
    numbers = [packet.payload[0] for packet in sent if packet.payload[1] == 0]
    assert numbers[0] in keys
    for before, after in itertools.pairwise(numbers):
        assert after == before + 1 or after in keys
