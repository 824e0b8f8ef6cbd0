"""The video receive side, packet by packet."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.webrtc import receive
from relay.protocols.webrtc.receive import GIVE_UP, MAX_HELD, SEEK_AGAIN, Picture, VideoReceiver
from relay.protocols.webrtc.reception import UNITS
from relay.protocols.webrtc.repair import HOLES_A_SECOND, HOLES_AT_ONCE
from relay.protocols.webrtc.rtp import RtpPacket
from tests.protocols.webrtc.source import (
    FRAME,
    PAYLOAD_TYPE,
    RTX_PAYLOAD_TYPE,
    RTX_SSRC,
    SPS,
    SSRC,
    START,
    Sender,
    number_of,
)


def receiver(**options: object) -> VideoReceiver:
    known: dict[str, object] = {"rtx_payload_type": RTX_PAYLOAD_TYPE, **options}
    return VideoReceiver(PAYLOAD_TYPE, **known)  # type: ignore[arg-type]


def feed(video: VideoReceiver, packets: Iterable[RtpPacket], now: float = 0.0) -> list[Picture]:
    return [picture for packet in packets for picture in video.feed(packet, now)]


def started(**options: object) -> tuple[VideoReceiver, Sender]:
    """A receiver that has had its first key frame."""
    video, sender = receiver(**options), Sender()
    assert len(feed(video, sender.next(keyframe=True))) == 1
    return video, sender


def numbers(pictures: Iterable[Picture]) -> list[int]:
    return [number_of(picture.annexb) for picture in pictures]


def gives_up(video: VideoReceiver, at: float) -> list[Picture]:
    """Look at the clock whenever it is time, until a hole's time is over."""
    pictures: list[Picture] = []
    for _ in range(50):
        now = min(video.wake_at, at)
        pictures += video.poll(now).pictures
        if now == at:
            return pictures
    raise AssertionError(f"never more than {video.wake_at}")


def test_a_picture_leaves_on_its_marker_bit() -> None:
    video, sender = receiver(), Sender(timestamp=0xFFFFFFFF)
    packets = sender.next(keyframe=True)
    assert feed(video, packets[:-1], 1.0) == []
    (picture,) = video.feed(packets[-1], 1.5)
    assert picture.annexb == sender.sent_units[0]
    assert (picture.timestamp, picture.arrival, picture.keyframe) == (0xFFFFFFFF, 1.5, True)
    assert picture.sps is not None
    assert (picture.sps.width, picture.sps.height) == (1280, 720)


def test_without_a_marker_a_picture_leaves_when_the_next_begins() -> None:
    video, sender = receiver(), Sender(marker=False)
    assert feed(video, sender.next(keyframe=True)) == []
    assert numbers(feed(video, sender.next())) == [0]
    assert numbers(feed(video, sender.next())) == [1]


def test_without_a_marker_an_unfinished_picture_does_not_leave() -> None:
    video, sender = started()
    sender.marker = False
    packets = sender.packets(sender.unit())
    sender.sequence = packets[-1].sequence  # its last packet was never sent
    assert feed(video, packets[:-1]) == []
    assert feed(video, sender.next()) == []
    assert (video.broken, video.waiting_for_keyframe) == (1, True)


def test_a_picture_out_of_one_packet_behind_one_without_marker_leaves_with_it() -> None:
    video, sender = receiver(), Sender(marker=False)
    feed(video, sender.next(keyframe=True))
    sender.marker = True
    assert numbers(feed(video, sender.next(size=10))) == [0, 1]


def test_sequence_numbers_and_timestamps_run_over() -> None:
    video = receiver()
    sender = Sender(sequence=65530, timestamp=2**32 - 3 * FRAME)
    got = feed(video, sender.next(keyframe=True, size=20_000))
    for _ in range(6):
        got += feed(video, sender.next())
    assert numbers(got) == list(range(7))
    assert got[3].timestamp == 0


def test_a_hole_across_the_wrap_is_asked_for_as_packets_name_it() -> None:
    video, sender = receiver(), Sender(sequence=65533)
    feed(video, sender.next(keyframe=True, size=100))
    packets = sender.next(size=5000)
    feed(video, [packets[0], packets[-1]])
    assert video.poll(0.0).nack == (65535, 0, 1)
    assert numbers(feed(video, packets[1:-1])) == [1]


def test_nothing_leaves_before_the_first_key_frame_which_is_asked_for() -> None:
    video, sender = receiver(), Sender()
    assert feed(video, sender.next()) == []
    assert video.wake_at <= 0.0
    assert video.poll(0.0).keyframe
    assert feed(video, sender.next(), 0.1) == []
    assert not video.poll(0.1).keyframe
    assert video.wake_at == pytest.approx(receive.ASK_AGAIN)
    assert video.poll(video.wake_at).keyframe
    assert numbers(feed(video, sender.next(keyframe=True), 0.6)) == [2]
    assert video.undecodable == 2
    assert video.poll(99.0) == ([], (), False)


def test_a_key_frame_that_begins_in_its_middle_is_none() -> None:
    video, sender = receiver(), Sender()
    second = START + b"\x65\x44\x84" + b"k" * 50
    unit = sender.unit(keyframe=True, size=10)
    assert feed(video, sender.packets(second)) == []
    assert numbers(feed(video, sender.packets(unit))) == [0]


@pytest.mark.parametrize("sequence", [100, 0, 3])
def test_a_lost_front_of_the_first_key_frame_is_asked_for(sequence: int) -> None:
    video, sender = receiver(), Sender(sequence=sequence)
    front, *rest = sender.next(keyframe=True)
    assert feed(video, rest) == []
    asked = video.poll(0.0)
    assert asked.nack == tuple((sequence + 1 - back) & 0xFFFF for back in range(16, 0, -1))
    assert not asked.keyframe
    assert numbers(video.feed(sender.retransmission(front.sequence), 0.05)) == [0]
    assert numbers(feed(video, sender.next(), 0.05)) == [1]
    assert video.poll(9.0) == ([], (), False)  # what was never sent is not missed


def test_a_late_front_of_the_first_key_frame_is_taken() -> None:
    video, sender = receiver(nack=False), Sender()
    front, *rest = sender.next(keyframe=True)
    late = [*rest, *sender.next()]
    assert feed(video, late[:3], 0.0) == []
    assert feed(video, [front], 0.02) == []
    assert numbers(feed(video, late[3:], 0.03)) == [0, 1]
    assert video.lost == 0


def test_a_front_that_never_comes_costs_no_more_than_a_key_frame() -> None:
    video, sender = receiver(), Sender()
    assert feed(video, sender.next(keyframe=True)[1:]) == []
    assert not video.poll(0.05).keyframe
    assert video.poll(receive.FIRST_KEYFRAME_WAIT).keyframe
    assert numbers(feed(video, sender.next(keyframe=True), 0.15)) == [1]
    assert video.poll(0.15).nack == ()


def test_a_key_frame_without_parameter_sets_gets_the_remembered_ones() -> None:
    video, sender = started()
    (picture,) = feed(video, sender.packets(sender.unit(keyframe=True, sets=False)))
    assert picture.annexb.startswith(START + SPS)
    assert number_of(picture.annexb) == 1
    assert picture.sps is not None


def test_a_key_frame_whose_parameter_sets_nobody_knows_is_no_beginning() -> None:
    video, sender = receiver(), Sender()
    assert feed(video, sender.packets(sender.unit(keyframe=True, sets=False))) == []
    assert video.poll(receive.FIRST_KEYFRAME_WAIT).keyframe  # they may come late


def test_parameter_sets_under_a_marker_of_their_own_are_no_picture() -> None:
    video, sender = receiver(), Sender()
    front, slice_ = sender.unit(keyframe=True).split(START + b"\x65")
    assert feed(video, sender.packets(front)) == []
    sender.timestamp -= FRAME
    (picture,) = feed(video, sender.packets(START + b"\x65" + slice_))
    assert picture.annexb == sender.sent_units[0]


def test_a_resolution_change_shows_in_the_parameter_set() -> None:
    video, sender = started()
    small = bytes.fromhex("6742c00dda0507e840000003004000000f23c50aa8")
    unit = sender.unit(keyframe=True).replace(SPS, small)
    (picture,) = feed(video, sender.packets(unit))
    assert picture.sps is not None
    assert (picture.sps.width, picture.sps.height) == (320, 240)


def test_probes_of_padding_only_are_counted_and_do_not_end_a_picture() -> None:
    video, sender = started()
    packets = sender.next()
    for packet in packets[1:]:
        packet.sequence += 1
    probe = RtpPacket(PAYLOAD_TYPE, False, packets[0].sequence + 1, 5000, SSRC, b"")
    before = video.packets
    assert numbers(feed(video, [packets[0], probe, *packets[1:]])) == [1]
    assert video.packets == before + len(packets) + 1
    block = video.report(0.0)
    assert block is not None
    assert block.lost == 0


def test_reordered_packets_are_put_in_order() -> None:
    video, sender = started()
    packets = sender.next() + sender.next()
    assert numbers(feed(video, reversed(packets))) == [1, 2]


def test_two_hundred_packets_out_of_order_are_put_in_order() -> None:
    video, sender = started()
    frames = [sender.next(size=20_000) for _ in range(12)]
    packets = [packet for frame in frames for packet in frame]
    assert len(packets) > 200
    assert numbers(feed(video, packets[200:] + packets[:200])) == list(range(1, 13))


def test_duplicates_and_old_packets_are_dropped() -> None:
    video, sender = started()
    packets = sender.next()
    assert numbers(feed(video, [packet for one in packets for packet in (one, one)])) == [1]
    assert feed(video, packets) == []
    assert video.late == 2 * len(packets)


def test_a_missing_packet_is_asked_for_at_once_and_again_by_timer() -> None:
    video, sender = started()
    packets = sender.next()
    feed(video, packets[:1] + packets[2:], 1.0)
    assert video.wake_at <= 1.0
    assert video.poll(1.0).nack == (packets[1].sequence,)
    assert video.wake_at == pytest.approx(1.03)
    assert video.poll(1.02).nack == ()
    assert video.poll(1.03).nack == (packets[1].sequence,)
    assert numbers(video.feed(sender.retransmission(packets[1].sequence), 1.04)) == [1]
    assert video.recovered == 1
    assert video.poll(1.07).nack == ()
    assert video.wake_at == inf


def test_it_asks_faster_once_the_round_trip_is_known() -> None:
    video, sender = started()
    packets = sender.next()
    feed(video, packets[:1] + packets[2:], 1.0)
    video.poll(1.0)
    video.feed(sender.retransmission(packets[1].sequence), 1.004)
    packets = sender.next()
    feed(video, packets[:1] + packets[2:], 2.0)
    video.poll(2.0)
    assert video.wake_at == pytest.approx(2.02)


def test_no_request_is_made_where_nobody_answers_it() -> None:
    video, sender = started(nack=False)
    packets = sender.next()
    feed(video, packets[:1] + packets[2:], 1.0)
    assert video.poll(1.0) == ([], (), False)
    assert video.wake_at == pytest.approx(1.0 + receive.GIVE_UP_WITHOUT_NACK)
    assert video.poll(video.wake_at).keyframe


def test_requests_are_bounded_however_much_is_missing() -> None:
    video, sender = started()
    asked = 0
    now = 1.0
    for _ in range(400):  # every second packet of four seconds is missing
        feed(video, sender.next(size=4000)[::2], now)
        result = video.poll(now)
        asked += len(result.nack)
        now += 0.01
    assert asked <= 500 + 4 * 1000
    assert asked > 500


def test_a_hole_is_given_up_and_a_key_frame_asked_for() -> None:
    video, sender = started()
    packets = sender.next()
    feed(video, packets[:1] + packets[2:], 1.0)
    assert feed(video, sender.next(), 1.03) == []
    for _ in range(20):
        if video.wake_at > 1.0 + receive.ASK_FOR_KEYFRAME - 0.001:
            break
        assert not video.poll(video.wake_at).keyframe
    assert video.poll(1.0 + receive.ASK_FOR_KEYFRAME).keyframe
    assert not video.waiting_for_keyframe
    assert video.poll(1.0 + receive.GIVE_UP) == ([], (), False)
    assert video.waiting_for_keyframe
    assert feed(video, sender.next(), 1.3) == []
    assert numbers(feed(video, sender.next(keyframe=True), 1.33)) == [4]
    assert numbers(feed(video, sender.next(), 1.36)) == [5]
    assert (video.holes_given_up, video.broken) == (1, 1)


def test_what_came_while_its_reader_stood_still_is_no_hole_that_is_given_up() -> None:
    video, sender = started(ssrc=SSRC, rtx_ssrc=RTX_SSRC)
    packets = sender.next()
    feed(video, packets[:1] + packets[2:], 1.0)
    assert video.poll(1.0).nack == (packets[1].sequence,)
    after = 1.0 + 4 * receive.GIVE_UP
    assert video.poll(after) == ([], (packets[1].sequence,), False)  # timers run before sockets
    assert numbers(video.feed(sender.retransmission(packets[1].sequence), after)) == [1]


def test_what_comes_for_a_hole_given_up_is_dropped() -> None:
    video, sender = started(ssrc=SSRC, rtx_ssrc=RTX_SSRC)
    packets = sender.next()
    feed(video, packets[:1] + packets[2:], 1.0)
    gives_up(video, 1.0 + receive.GIVE_UP)
    assert video.feed(sender.retransmission(packets[1].sequence), 1.3) == ()
    assert video.late == 1


def test_while_waiting_a_whole_key_frame_is_not_held_up_by_an_older_hole() -> None:
    video, sender = started()
    first = sender.next()
    feed(video, first[1:], 1.0)
    gives_up(video, 1.0 + receive.GIVE_UP)
    second = sender.next()
    feed(video, second[:1] + second[2:], 1.3)
    assert numbers(feed(video, sender.next(keyframe=True), 1.31)) == [3]
    assert numbers(feed(video, sender.next(), 1.34)) == [4]


def test_a_whole_key_frame_that_came_before_the_hole_was_given_up_leaves_then() -> None:
    video, sender = started()
    feed(video, sender.next()[1:], 1.0)
    feed(video, sender.next()[1:], 1.1)
    assert feed(video, sender.next(keyframe=True) + sender.next(), 1.2) == []
    assert numbers(gives_up(video, 1.0 + receive.GIVE_UP)) == [3, 4]


def test_while_waiting_a_key_frame_with_a_hole_leaves_once_that_is_filled() -> None:
    video, sender = started()
    feed(video, sender.next()[1:], 1.0)
    gives_up(video, 1.0 + receive.GIVE_UP)
    feed(video, sender.next()[1:], 1.3)
    packets = sender.next(keyframe=True)
    assert feed(video, packets[:3] + packets[4:], 1.31) == []
    assert numbers(video.feed(sender.retransmission(packets[3].sequence), 1.33)) == [3]


def test_a_key_frame_whose_front_may_be_missing_is_not_jumped_to() -> None:
    video, sender = started()
    feed(video, sender.next()[1:], 1.0)
    gives_up(video, 1.0 + receive.GIVE_UP)
    feed(video, sender.next()[1:], 1.3)
    front, rest = sender.unit(keyframe=True).split(START + b"\x65")
    (sets,) = sender.packets(front)
    sets.marker = False
    sender.timestamp -= FRAME
    body = sender.packets(START + b"\x65" + rest)
    assert feed(video, body, 1.31) == []
    assert numbers(feed(video, [sets], 1.32)) == [3]


def test_a_hole_in_a_key_frame_given_up_does_not_let_its_rest_out() -> None:
    video, sender = receiver(), Sender()
    unit = sender.unit(keyframe=True, size=3000) + START + b"\x65\x44\x84" + b"k" * 3000
    packets = sender.packets(unit)
    feed(video, packets[:-4] + packets[-3:], 1.0)
    assert gives_up(video, 1.0 + receive.GIVE_UP) == []
    assert video.broken == 1


def test_a_new_ssrc_is_a_new_encoder() -> None:
    video, sender = started()
    feed(video, sender.next())
    sender.ssrc, sender.sequence = 0x3333, 7
    assert feed(video, sender.next(), 1.0) == []
    assert video.poll(1.0).keyframe
    assert numbers(feed(video, sender.next(keyframe=True), 1.1)) == [3]
    assert video.ssrc == 0x3333


def test_late_packets_of_the_old_ssrc_do_not_switch_back() -> None:
    video, sender = started()
    late = sender.next()
    sender.ssrc = 0x3333
    feed(video, sender.next(keyframe=True), 1.0)
    assert feed(video, late, 1.1) == []
    assert numbers(feed(video, sender.next(), 1.2)) == [3]


def test_a_sender_that_goes_back_to_its_old_ssrc_after_silence_is_followed() -> None:
    video, sender = started()
    sender.ssrc = 0x3333
    feed(video, sender.next(keyframe=True), 1.0)
    sender.ssrc = SSRC
    assert numbers(feed(video, sender.next(keyframe=True), 2.0)) == [2]


def test_a_probe_of_another_ssrc_switches_nothing() -> None:
    video, sender = started()
    video.feed(RtpPacket(PAYLOAD_TYPE, False, 1, 1, 0x3333, b""), 0.1)
    assert numbers(feed(video, sender.next(), 0.2)) == [1]


def test_sequence_numbers_that_jump_are_believed_the_second_time() -> None:
    video, sender = started()
    sender.sequence = 30_000
    packets = sender.next(keyframe=True)
    assert feed(video, packets[:1]) == []
    assert feed(video, packets[1:]) == []  # the parameter sets were in the first
    assert video.poll(0.0).keyframe
    assert numbers(feed(video, sender.next(keyframe=True), 0.5)) == [2]


def test_one_stray_sequence_number_changes_nothing() -> None:
    video, sender = started()
    video.feed(RtpPacket(PAYLOAD_TYPE, True, 30_000, 1, SSRC, b"\x41\x9a"), 0.1)
    assert numbers(feed(video, sender.next(), 0.2)) == [1]


def test_a_gap_too_long_to_ask_for_waits_for_a_key_frame_at_once() -> None:
    video, sender = started()
    sender.sequence += receive.MAX_GAP + 100
    assert feed(video, sender.next(), 1.0) == []
    assert video.poll(1.0) == ([], (), True)
    assert numbers(feed(video, sender.next(keyframe=True), 1.1)) == [2]


def test_what_is_held_behind_a_hole_is_bounded() -> None:
    video, sender = started()
    sender.next()
    for _ in range(receive.MAX_HELD // 20 + 2):
        feed(video, sender.next(size=24_000), 1.0)
    assert video.holes_given_up == 1


@pytest.mark.parametrize("step", [2, 10, 900, 1000])
def test_numbers_that_lie_cost_little_more_than_others(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten thousand packets a second: the most that is read of a peer.
    video, packets, looks = VideoReceiver(96), 3000, 0
    look = VideoReceiver._seek_keyframe

    def seek(self: VideoReceiver, at: int, now: float) -> None:
        nonlocal looks
        looks += 1
        look(self, at, now)

    monkeypatch.setattr(VideoReceiver, "_seek_keyframe", seek)
    polls = 0
    for index in range(packets):
        now = 1 + index / 10_000
        sequence = index * step & 0xFFFF
        video.feed(RtpPacket(96, True, sequence, index * 3000, 1, b"\x41\x9ax"), now)
        if video.wake_at <= now:
            video.poll(now)
            polls += 1
        assert len(video._repair) <= HOLES_AT_ONCE + HOLES_A_SECOND * GIVE_UP
        assert len(video._held) <= MAX_HELD
    assert looks <= packets + MAX_HELD * (packets / 10_000 / SEEK_AGAIN + 2)
    assert polls <= packets


def test_of_more_pictures_than_any_camera_takes_some_are_passed_on() -> None:
    video, sender = started()
    shown, seconds, packets = 0, 2.0, 4000
    for index in range(packets):
        now = 1 + seconds * index / packets
        shown += len(feed(video, sender.next(keyframe=index % 100 == 0, size=20), now))
    assert 0.4 * UNITS * seconds < shown <= 2 * UNITS + UNITS * seconds
    assert video.waiting_for_keyframe
    assert video.poll(now + 1).keyframe
    assert feed(video, sender.next(), now + 1) == []  # nothing on what is missing
    assert len(feed(video, sender.next(keyframe=True), now + 1)) == 1


def test_a_timestamp_that_jumps_an_hour_goes_through() -> None:
    video, sender = started()
    for jump in (3600 * 90_000, -2 * 3600 * 90_000):
        sender.timestamp = (sender.timestamp + jump) & 0xFFFFFFFF
        before = sender.timestamp
        (picture,) = feed(video, sender.next())
        assert picture.timestamp == before


def test_retransmissions_of_an_unknown_ssrc_are_dropped() -> None:
    video, sender = started(ssrc=SSRC, rtx_ssrc=RTX_SSRC)
    packets = sender.next()
    feed(video, packets[:1] + packets[2:])
    stranger = sender.retransmission(packets[1].sequence)
    stranger.ssrc = 0x9999
    assert video.feed(stranger, 0.1) == ()
    assert video.unknown == 1
    assert numbers(video.feed(sender.retransmission(packets[1].sequence), 0.1)) == [1]


def test_an_undeclared_retransmission_ssrc_is_learned_from_what_it_fills() -> None:
    video, sender = started()
    unwanted = sender.retransmission(100)
    unwanted.ssrc = 0x9999
    assert video.feed(unwanted, 0.1) == ()
    packets = sender.next()
    feed(video, packets[:1] + packets[2:])
    assert numbers(video.feed(sender.retransmission(packets[1].sequence), 0.1)) == [1]


def test_a_retransmission_before_any_media_is_dropped() -> None:
    video, sender = receiver(), Sender()
    sender.next(keyframe=True)
    assert video.feed(sender.retransmission(100), 0.0) == ()
    assert (video.ssrc, video.unknown) == (None, 1)


def test_a_retransmission_ahead_of_the_stream_moves_nothing() -> None:
    video, sender = started(ssrc=SSRC, rtx_ssrc=RTX_SSRC)
    packets = sender.next()
    ahead = sender.retransmission(packets[-1].sequence)
    assert video.feed(ahead, 0.1) == ()
    assert numbers(feed(video, packets, 0.2)) == [1]


def test_a_packet_of_another_payload_type_is_dropped() -> None:
    video, _ = started()
    assert video.feed(RtpPacket(55, True, 1, 1, SSRC, b"\x41\x9a"), 0.1) == ()
    assert video.unknown == 1


@pytest.mark.parametrize(
    "payload",
    [b"\x7c\x85ab", b"\x78\x00\x09a", b"\x7c\x05a"],
    ids=["fragment never ended", "aggregate's length lies", "fragment never begun"],
)
def test_a_malformed_picture_never_leaves_and_what_follows_waits(payload: bytes) -> None:
    video, sender = started()
    bad = RtpPacket(PAYLOAD_TYPE, True, sender.sequence, sender.timestamp, SSRC, payload)
    sender.sequence += 1
    assert video.feed(bad, 1.0) == ()
    assert feed(video, sender.next(), 1.03) == []
    assert video.poll(1.03).keyframe
    assert numbers(feed(video, sender.next(keyframe=True), 1.1)) == [2]


def test_reports_tell_loss_jitter_and_the_age_of_the_senders_report() -> None:
    video, sender = started()
    assert video.report(0.0) is not None
    packets = sender.next(size=11_000)
    feed(video, packets[:2] + packets[3:], 0.1)
    assert video.sender_report(SSRC, 0x1234_5678_9ABC_DEF0, 2.0)
    assert not video.sender_report(SSRC + 1, 1, 2.0)
    block = video.report(2.5)
    assert block is not None
    assert (block.ssrc, block.lost, block.fraction_lost) == (SSRC, 1, 256 // 10)
    assert (block.last_report, block.delay) == (0x5678_9ABC, 32768)
    assert block.highest == packets[-1].sequence
    assert block.jitter == int((0.1 * 90_000 - FRAME) / 16)
    assert video.jitter == pytest.approx((0.1 - 1 / 30) / 16)
    assert video.lost == 1
    again = video.report(2.5)
    assert again is not None
    assert (again.fraction_lost, again.lost) == (0, 1)


def test_before_the_first_packet_there_is_nothing_to_report() -> None:
    video = receiver()
    assert video.report(0.0) is None
    assert not video.sender_report(SSRC, 1, 0.0)
    assert (video.lost, video.jitter, video.requested) == (0, 0.0, 0)


@given(
    st.lists(
        st.builds(
            RtpPacket,
            payload_type=st.sampled_from([PAYLOAD_TYPE, RTX_PAYLOAD_TYPE]),
            marker=st.booleans(),
            sequence=st.one_of(st.integers(0, 40), st.integers(0, 0xFFFF)),
            timestamp=st.sampled_from([0, 3000, 6000, 2**32 - 1]),
            ssrc=st.sampled_from([SSRC, SSRC, 0x3333, RTX_SSRC]),
            payload=st.one_of(
                st.binary(max_size=8), st.sampled_from([b"\x41\x9a", b"\x65\x88\x84", SPS])
            ),
        ),
        max_size=60,
    )
)
def test_packets_from_strangers_never_break_it(packets: list[RtpPacket]) -> None:
    video = receiver()
    now = 0.0
    for packet in packets:
        now += 0.02
        video.feed(packet, now)
        if video.wake_at <= now:
            video.poll(now)
        assert video.wake_at > now


@given(st.permutations(range(30)), st.integers(0, 0xFFFF))
def test_any_order_of_arrival_gives_the_same_pictures(order: list[int], sequence: int) -> None:
    video, sender = receiver(), Sender(sequence=sequence)
    got = feed(video, sender.next(keyframe=True))
    packets = [packet for _ in range(10) for packet in sender.next(size=2500)]
    assert len(packets) == 30
    got += feed(video, [packets[index] for index in order])
    assert [picture.annexb for picture in got] == list(sender.sent_units.values())
