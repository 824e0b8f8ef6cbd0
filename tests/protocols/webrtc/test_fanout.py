"""The same payloads to many: numbers of their own, history, sender reports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.unit import Codec
from relay.protocols.webrtc.fanout import MID_PACKETS, LineClock, OutgoingTrack, ntp_time
from relay.protocols.webrtc.rtp import parse_rtp, unwrap_rtx
from relay.protocols.webrtc.sent import HISTORY
from relay.protocols.webrtc.srtp import SrtpError
from tests.protocols.webrtc.outlet import Backend, NativeBackend, track


@pytest.fixture(params=[Backend, NativeBackend])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made: Backend = request.param()
    yield made
    made.close()


def send(one: OutgoingTrack, payloads: list[bytes], timestamp: int) -> None:
    one.send_alone(payloads, timestamp, marker=True)


def test_each_viewer_gets_the_payloads_under_its_own_numbers(backend: Backend) -> None:
    made = [backend.track() for _ in range(3)]
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in made])
    for timestamp in (0, 3000):
        assert fan_out.frame([b"a", b"b"], timestamp, marker=True) == []
    for one, outlet in made:
        packets = outlet.packets
        assert [packet.payload for packet in packets] == [b"a", b"b", b"a", b"b"]
        assert [packet.marker for packet in packets] == [False, True, False, True]
        first = packets[0].sequence
        assert [(p.sequence - first) & 0xFFFF for p in packets] == [0, 1, 2, 3]
        assert (packets[2].timestamp - packets[1].timestamp) & 0xFFFFFFFF == 3000
        assert {packet.ssrc for packet in packets} == {1000}
        assert (one.packets, one.octets) == (4, 4)
    assert len({outlet.packets[0].timestamp for _, outlet in made}) == 3


def test_sound_carries_no_marker(backend: Backend) -> None:
    one, outlet = backend.track(Codec.OPUS)
    one.send([b"opus"], 960, marker=False)
    assert outlet.packets[0].marker is False
    assert outlet.packets[0].payload_type == 111


def test_numbers_run_over(backend: Backend) -> None:
    one, outlet = backend.track()
    one.sequence, one.offset = 65535, 2**32 - 1
    send(one, [b"a", b"b"], 1)
    send(one, [b"c"], 2**32 + 5)
    assert [packet.sequence for packet in outlet.packets] == [65535, 0, 1]
    assert [packet.timestamp for packet in outlet.packets] == [0, 0, 4]


def test_only_the_first_packets_name_their_section(backend: Backend) -> None:
    one, outlet = backend.track(mid="video-0")
    for _ in range(MID_PACKETS + 1):
        send(one, [b"a"], 0)
    packets = outlet.packets
    assert packets[0].element(4) == b"video-0"
    assert packets[MID_PACKETS - 1].element(4) == b"video-0"
    assert packets[MID_PACKETS].profile == 0
    assert {packet.payload for packet in packets} == {b"a"}


@pytest.mark.parametrize("mid", ["", "a name of more than sixteen bytes"])
def test_a_section_name_that_cannot_be_written_is_left_out(mid: str) -> None:
    one, outlet = track(mid=mid)
    send(one, [b"a"], 0)
    assert outlet.packets[0].profile == 0


def test_a_viewer_that_fails_hurts_no_other(backend: Backend) -> None:
    made = [backend.track() for _ in range(3)]
    backend.refuse(made[1][1])
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in made])
    assert fan_out.frame([b"a"], 0, marker=True) == [made[1][0]]
    assert [len(outlet.packets) for _, outlet in made] == [1, 0, 1]
    with pytest.raises(SrtpError):
        made[1][0].send_alone([b"a"], 0, marker=True)


def test_a_retransmission_has_numbers_of_its_own_stream(backend: Backend) -> None:
    one, outlet = backend.track()
    send(one, [b"a", b"b"], 77)
    wanted = outlet.packets[1]
    data = one.retransmission(wanted.sequence)
    assert data is not None
    rtx = parse_rtp(data)
    assert (rtx.payload_type, rtx.ssrc) == (103, 1001)
    assert unwrap_rtx(rtx, 102, 1000) == wanted
    again = one.retransmission(wanted.sequence)
    assert again is not None
    assert parse_rtp(again).sequence == (rtx.sequence + 1) & 0xFFFF
    assert one.resent == 2


def test_without_a_retransmission_stream_the_packet_goes_out_as_it_was(backend: Backend) -> None:
    one, outlet = backend.track(rtx=False)
    send(one, [b"a", b"b"], 77)
    assert one.retransmission(outlet.packets[1].sequence) == outlet.sent[1]


def test_history_is_bounded_and_shared_by_reference(backend: Backend) -> None:
    one, outlet = backend.track()
    payloads = [bytes([index % 256]) for index in range(100)]
    for number in range(20):
        send(one, payloads, number)
    last = outlet.packets[-1].sequence
    assert one.retransmission(last) is not None
    oldest = one.retransmission((last - HISTORY + 1) & 0xFFFF)
    assert oldest is not None
    original = unwrap_rtx(parse_rtp(oldest), 102, 1000)
    assert original == outlet.packets[-HISTORY]
    assert one.retransmission((last - HISTORY) & 0xFFFF) is None
    kept = one._own._frames
    assert len(kept) <= HISTORY // 100 + 2
    assert all(frame[0] is payloads for frame in kept)


def test_what_was_never_sent_cannot_be_sent_again(backend: Backend) -> None:
    one, _ = backend.track()
    assert one.retransmission(one.sequence) is None
    send(one, [b"a"], 0)
    assert one.retransmission(one.sequence) is None
    assert one.retransmission((one.sequence - 2) & 0xFFFF) is None


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(0, 0xFFFF))
def test_every_packet_kept_comes_back_as_it_was(sizes: list[int], sequence: int) -> None:
    one, outlet = track()
    one.sequence = sequence
    for number, size in enumerate(sizes):
        send(one, [bytes([number, index]) for index in range(size)], number * 3000)
    for original in outlet.packets[-HISTORY:]:
        data = one.retransmission(original.sequence)
        assert data is not None
        assert unwrap_rtx(parse_rtp(data), 102, 1000) == original


def test_the_sender_report_tells_what_the_line_shows_now(backend: Backend) -> None:
    one, outlet = backend.track()
    send(one, [b"abc", b"de"], 90_000)
    report = one.sender_report(ntp_time(1_000_000.0), 1.5)
    assert (report.ssrc, report.packets, report.octets) == (1000, 2, 5)
    assert (report.timestamp - outlet.packets[0].timestamp) & 0xFFFFFFFF == 45_000


def test_ntp_time_counts_from_1900() -> None:
    assert ntp_time(0.5) == (2_208_988_800 << 32) + (1 << 31)


def test_reports_of_sound_and_picture_agree_on_the_time() -> None:
    clock = LineClock()
    clock.observe(10.0, 1000.0)
    clock.observe(10.02, 1000.05)
    line = clock.at(1001.0)
    assert line == pytest.approx(11.0, abs=0.001)
    video, seen = track()
    audio, heard = track(Codec.OPUS)
    send(video, [b"v"], 10 * 90_000)
    send(audio, [b"a"], 10 * 48_000)
    assert line is not None
    ticks = video.sender_report(0, line).timestamp - seen.packets[0].timestamp
    samples = audio.sender_report(0, line).timestamp - heard.packets[0].timestamp
    assert (ticks & 0xFFFFFFFF) / 90_000 == pytest.approx((samples & 0xFFFFFFFF) / 48_000, abs=1e-4)


def test_the_line_clock_follows_slowly_and_jumps_with_the_line() -> None:
    clock = LineClock()
    assert clock.at(1.0) is None
    clock.observe(0.0, 100.0)
    clock.observe(1.0, 101.4)
    assert clock.at(200.0) == pytest.approx(100.0, abs=0.001)
    for _ in range(10_000):
        clock.observe(2.0, 102.4)
    assert clock.at(200.0) == pytest.approx(99.6, abs=0.001)
    clock.observe(500.0, 103.0)
    assert clock.at(103.0) == pytest.approx(500.0)


def test_viewers_share_what_they_were_sent_and_each_finds_it_by_its_own_numbers(
    backend: Backend,
) -> None:
    early, late = backend.track(), backend.track()
    fan_out = backend.fan_out()
    fan_out.set([early[0]])
    fan_out.frame([b"1", b"2"], 0, marker=True)
    late[0].send_alone([b"old", b"group"], 0, marker=True)
    fan_out.set([early[0], late[0]])
    fan_out.frame([b"3"], 3000, marker=True)
    fan_out.frame([b"4", b"5"], 6000, marker=True)
    for one, outlet in (early, late):
        packets = outlet.packets
        assert len(packets) == 5
        for original in packets:
            data = one.retransmission(original.sequence)
            assert data is not None
            assert unwrap_rtx(parse_rtp(data), 102, 1000) == original
        assert one.retransmission((packets[0].sequence - 1) & 0xFFFF) is None


def test_what_was_sent_to_one_alone_is_let_go_of_when_it_is_too_old(backend: Backend) -> None:
    one, outlet = backend.track()
    send(one, [b"alone"], 0)
    fan_out = backend.fan_out()
    fan_out.set([one])
    fan_out.frame([b"x"], 0, marker=True)
    one.trim()
    first = outlet.packets[0].sequence
    assert one.retransmission(first) is not None
    for _ in range(HISTORY):
        fan_out.frame([b"x"], 0, marker=True)
    one.trim()
    assert not one._own._frames
    assert one.retransmission(first) is None


def test_who_was_left_out_for_a_while_is_sent_again_only_what_it_was_sent(
    backend: Backend,
) -> None:
    paused, other = backend.track(), backend.track()
    fan_out = backend.fan_out()
    fan_out.set([paused[0], other[0]])
    fan_out.frame([b"1", b"2"], 0, marker=True)
    fan_out.set([other[0]])
    fan_out.frame([b"not", b"for", b"it"], 3000, marker=True)
    one, outlet = paused
    for again in (False, True):
        if again:
            fan_out.set([one, other[0]])
            fan_out.frame([b"6"], 6000, marker=True)
        for original in outlet.packets:
            data = one.retransmission(original.sequence)
            assert data is not None
            assert unwrap_rtx(parse_rtp(data), 102, 1000) == original
    assert [packet.payload for packet in outlet.packets] == [b"1", b"2", b"6"]


def test_what_is_kept_of_those_left_out_is_bounded(backend: Backend) -> None:
    one, outlet = backend.track()
    fan_out = backend.fan_out()
    for _ in range(3):
        fan_out.set([one])
        for number in range(HISTORY):
            fan_out.frame([number.to_bytes(2, "big")], 0, marker=True)
        fan_out.set([])
        fan_out.frame([b"not for it"], 0, marker=True)
    assert len(one._own._frames) <= HISTORY + 1
    oldest = outlet.packets[-HISTORY]
    data = one.retransmission(oldest.sequence)
    assert data is not None
    assert unwrap_rtx(parse_rtp(data), 102, 1000) == oldest
