"""One line for the clocks of one publisher."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.timeline import Timeline, Unwrapper
from relay.media.unit import Codec

NTP_SECOND = 1 << 32
HOUR = 3600.0


class Publisher:
    """Sends 30 pictures and 50 Opus packets a second with clocks of its own."""

    def __init__(self, *, video_base: int = 0, audio_base: int = 0) -> None:
        self.line = Timeline()
        self.video_base = video_base
        self.audio_base = audio_base

    def picture(self, at: float, *, late: float = 0.0) -> int:
        return self.line.video((self.video_base + round(at * 90000)) % (1 << 32), at + late)

    def sound(self, at: float, *, late: float = 0.0) -> int:
        return self.line.audio((self.audio_base + round(at * 48000)) % (1 << 32), at + late)

    def report(self, codec: Codec, at: float) -> None:
        base, clock = (self.video_base, 90000) if codec is Codec.H264 else (self.audio_base, 48000)
        ntp = round((3_900_000_000 + at) * NTP_SECOND)
        self.line.sender_report(codec, ntp, (base + round(at * clock)) % (1 << 32), at)

    def reports(self, at: float) -> None:
        self.report(Codec.H264, at)
        self.report(Codec.OPUS, at)


@given(
    st.integers(1, 40),
    st.integers(0, 1 << 40),
    st.lists(st.integers(-1000, 1000), max_size=50),
)
def test_unwrapping_follows_steps_smaller_than_half_the_range(
    bits: int, start: int, steps: list[int]
) -> None:
    half = 1 << (bits - 1)
    unwrapper = Unwrapper(bits)
    value = unwrapper.unwrap(start % (1 << bits))
    assert value == start % (1 << bits)
    for step in steps:
        step = max(-half, min(half - 1, step))
        value += step
        assert unwrapper.near(value % (1 << bits)) == value
        assert unwrapper.unwrap(value % (1 << bits)) == value


def test_the_line_starts_where_told() -> None:
    assert Timeline().video(4_000_000_000, 7.0) == 0
    assert Timeline(start=900).audio(123, 7.0) == 900


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
def test_steps_are_kept_over_the_wrap_of_either_clock(video: int, audio: int) -> None:
    publisher = Publisher(video_base=video, audio_base=audio)
    for n in range(100):
        at = n / 50
        assert publisher.picture(at) == round(at * 90000)
        assert publisher.sound(at) == round(at * 90000)


def test_days_of_a_stream() -> None:
    publisher = Publisher(video_base=1 << 31)
    for minute in range(0, 60 * 60, 5):
        assert publisher.picture(minute * 60.0) == minute * 60 * 90000


def test_a_packet_out_of_order_gets_its_own_place() -> None:
    publisher = Publisher()
    assert publisher.sound(0.0) == 0
    assert publisher.sound(0.04) == 3600
    assert publisher.sound(0.02, late=0.021) == 1800
    assert publisher.sound(0.06) == 5400


def test_the_second_track_joins_by_its_arrival() -> None:
    publisher = Publisher(video_base=77, audio_base=99)
    assert publisher.sound(5.0) == 0
    assert publisher.picture(5.5) == 45000
    late = Publisher(video_base=77, audio_base=99)
    assert late.picture(5.0) == 0
    assert late.sound(5.0, late=0.25) == 22500


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 11.0, -11.0, -5.0, -1.1, 13 * HOUR, -7 * HOUR])
def test_a_jump_goes_on_from_the_wall_clock(jump: float) -> None:
    publisher = Publisher(video_base=1 << 31, audio_base=1 << 30)
    publisher.picture(0.0)
    publisher.sound(0.0)
    publisher.video_base += round(jump * 90000)
    publisher.audio_base += round(jump * 48000)
    assert publisher.picture(0.5) == 45000
    assert publisher.sound(0.5) == 45000
    assert publisher.picture(0.6) == 54000
    assert publisher.sound(0.6) == 54000


def test_a_jump_never_stands_still_or_goes_back() -> None:
    line = Timeline()
    assert line.video(0, 1.0) == 0
    assert line.video(90000 * 3600, 1.0) == 1
    assert line.video(0, 0.5) == 2


def test_a_pause_is_no_jump() -> None:
    publisher = Publisher()
    publisher.picture(0.0)
    assert publisher.picture(60.0, late=0.3) == 60 * 90000


def test_a_stall_of_the_network_is_no_jump() -> None:
    publisher = Publisher()
    publisher.picture(0.0)
    for n in range(1, 30):
        assert publisher.picture(n / 30, late=15.0) == n * 3000


def test_reports_bring_the_lagging_track_forward() -> None:
    publisher = Publisher(video_base=500, audio_base=70_000)
    publisher.sound(1.0)
    # The encoder takes 100 ms, so by arrival the picture would be 100 ms too late.
    assert publisher.picture(1.0, late=0.1) == 9000
    publisher.reports(1.0)
    assert publisher.picture(1.1, late=0.1) == 18000
    assert publisher.sound(1.1) == 18000

    other = Publisher()
    other.picture(1.0)
    assert other.sound(1.0, late=0.2) == 18000
    other.reports(1.0)
    assert other.picture(1.1) == 27000
    assert other.sound(1.1, late=0.2) == 27000


def test_reports_that_come_before_the_track_or_far_apart() -> None:
    publisher = Publisher()
    publisher.picture(0.0)
    publisher.report(Codec.OPUS, 0.0)
    publisher.report(Codec.H264, 0.0)
    publisher.sound(0.5, late=0.1)
    publisher.report(Codec.H264, 5.0)
    assert publisher.sound(5.0) - publisher.picture(5.0) == 0


@given(st.integers(0, 1800))
def test_an_error_that_nobody_sees_is_left(ticks: int) -> None:
    publisher = Publisher()
    publisher.sound(0.0)
    publisher.picture(0.0, late=ticks / 90000)
    publisher.reports(0.0)
    assert publisher.sound(1.0) == 90000
    assert publisher.picture(1.0) == 90000 + ticks


def test_clocks_that_are_not_one_are_not_believed() -> None:
    line = Timeline()
    line.video(0, 0.0)
    line.audio(0, 0.0)
    line.sender_report(Codec.H264, 100 * NTP_SECOND, 0, 0.0)
    line.sender_report(Codec.OPUS, 700 * NTP_SECOND, 0, 0.0)
    assert line.video(9000, 0.1) == line.audio(4800, 0.1) == 9000


def test_a_sender_without_a_wall_clock() -> None:
    line = Timeline()
    line.video(0, 0.0)
    line.audio(0, 0.1)
    line.sender_report(Codec.H264, 0, 0, 0.0)
    line.sender_report(Codec.OPUS, 5, 0, 0.0)
    assert line.video(9000, 0.1) == 9000


def test_reports_of_a_clock_that_is_gone_are_not_used() -> None:
    publisher = Publisher()
    publisher.picture(0.0)
    publisher.sound(0.0, late=0.2)
    publisher.report(Codec.H264, 0.0)
    publisher.video_base += round(HOUR * 90000)
    assert publisher.picture(0.1) == 9000
    publisher.report(Codec.OPUS, 0.1)
    assert publisher.picture(0.2) == 18000
    publisher.report(Codec.H264, 0.2)
    assert publisher.picture(0.3) == publisher.sound(0.3, late=0.2) == 45000


def test_reports_of_a_clock_that_is_still_to_come_are_not_used() -> None:
    publisher = Publisher()
    publisher.picture(0.0)
    publisher.sound(0.0, late=0.2)
    publisher.video_base += round(HOUR * 90000)
    publisher.reports(0.1)
    assert publisher.picture(0.1) == 9000
    assert publisher.sound(0.1, late=0.2) == 27000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["video", "audio", "video report", "audio report"]),
            st.integers(0, (1 << 32) - 1),
            st.integers(0, (1 << 64) - 1),
            st.floats(0, 100),
        ),
        max_size=40,
    )
)
def test_a_jump_goes_forward_whatever_was_sent(
    events: list[tuple[str, int, int, float]],
) -> None:
    line = Timeline()
    last: dict[str, int] = {}
    now = 0.0
    for kind, timestamp, ntp, step in events:
        now += step
        if kind == "video report":
            line.sender_report(Codec.H264, ntp, timestamp, now)
        elif kind == "audio report":
            line.sender_report(Codec.OPUS, ntp, timestamp, now)
        else:
            pts = line.video(timestamp, now) if kind == "video" else line.audio(timestamp, now)
            # Packets out of order may step back a little; no clock steps back far.
            assert pts >= last.get(kind, pts) - 90000 // 2 - 2
            last[kind] = pts
