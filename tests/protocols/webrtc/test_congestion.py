"""Transport-wide feedback: its bytes, and that it tells what arrived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc.congestion import (
    MAX_GAP,
    MAX_MISSING,
    MAX_PENDING,
    MAX_STATUSES,
    TICK,
    FeedbackBuilder,
    TransportFeedback,
    pack_chunks,
)


def told(feedbacks: list[TransportFeedback]) -> dict[int, float | None]:
    """Arrival time by sequence number, read from the bytes."""
    result: dict[int, float | None] = {}
    for feedback in feedbacks:
        data = feedback.serialise()
        assert len(data) % 4 == 0
        assert len(data) <= 1280
        read = TransportFeedback.parse(data[4:])
        assert read == feedback
        for index, arrival in enumerate(read.arrivals):
            sequence = (read.base + index) & 0xFFFF
            time = None if arrival is None else read.reference * 0.064 + arrival * TICK
            if result.get(sequence) is None:
                result[sequence] = time
    return result


def build(arrivals: list[tuple[int, float]]) -> list[TransportFeedback]:
    builder = FeedbackBuilder(1)
    for sequence, now in arrivals:
        builder.arrived(sequence, 2, now)
    return builder.build()


def test_the_bytes_of_a_small_feedback() -> None:
    (feedback,) = build([(10, 1.28), (11, 1.2805), (13, 1.3805)])
    assert feedback == TransportFeedback(1, 2, 10, 20, 0, (0, 2, None, 402))
    expected = (
        "8fcd0006"  # format 15, six words follow
        "00000001"
        "00000002"
        "000a0004"  # from 10 on, four statuses
        "00001400"  # reference 20, feedback 0
        "d480"  # a vector of two-bit symbols: small, small, none, large
        "00020190"  # 0, 2 and 400 ticks
        "0000"
    )
    assert feedback.serialise().hex() == expected


def test_a_time_before_the_last_one_is_a_large_one_below_zero() -> None:
    feedbacks = build([(11, 5.01), (10, 5.0), (12, 5.005)])
    assert feedbacks[0].arrivals == (32, 72, 52)
    assert told(feedbacks)[12] == pytest.approx(5.005, abs=TICK)


@pytest.mark.parametrize(
    ("symbols", "chunks"),
    [
        pytest.param([1] * 3, "2003", id="a run to the end"),
        pytest.param([1] * 20, "2014", id="a long run"),
        pytest.param([0] * 9000, "1fff0329", id="longer than one run holds"),
        pytest.param([1, 0] * 7, "aaaa", id="a vector of one-bit symbols"),
        pytest.param([1, 0, 1], "a800", id="a short vector"),
        pytest.param([2, 1, 0, 2, 1, 0, 2], "e492", id="a vector of two-bit symbols"),
        pytest.param([2] * 8 + [0], "40080001", id="a run of large times"),
    ],
)
def test_statuses_are_packed_into_the_chunk_that_suits_them(
    symbols: list[int], chunks: str
) -> None:
    assert pack_chunks(symbols).hex() == chunks


def test_nothing_arrived_is_nothing_to_tell() -> None:
    builder = FeedbackBuilder(1)
    assert builder.build() == []
    builder.arrived(1, 2, 0.0)
    assert builder.pending == 1
    assert len(builder.build()) == 1
    assert builder.build() == []
    assert builder.pending == 0


def test_feedback_goes_on_where_the_last_one_ended_and_is_counted() -> None:
    builder = FeedbackBuilder(1)
    builder.arrived(5, 2, 1.0)
    builder.build()
    builder.arrived(8, 2, 1.1)
    (second,) = builder.build()
    assert (second.base, second.count) == (6, 1)
    assert [arrival is None for arrival in second.arrivals] == [True, True, False]


def test_the_count_runs_over() -> None:
    builder = FeedbackBuilder(1)
    for number in range(257):
        builder.arrived(number, 2, 1.0)
        (feedback,) = builder.build()
    assert feedback.count == 0


def test_sequence_numbers_run_over() -> None:
    arrivals = [((65530 + index) & 0xFFFF, 1.0 + index / 1000) for index in range(20)]
    (feedback,) = build(arrivals)
    assert feedback.base == 65530
    times = told([feedback])
    for sequence, now in arrivals:
        assert times[sequence] == pytest.approx(now, abs=TICK)


def test_a_late_packet_is_told_after_all() -> None:
    builder = FeedbackBuilder(1)
    for sequence in (1, 3):
        builder.arrived(sequence, 2, 1.0)
    builder.build()
    builder.arrived(2, 2, 1.05)
    builder.arrived(4, 2, 1.06)
    (feedback,) = builder.build()
    assert feedback.base == 2
    assert [arrival is None for arrival in feedback.arrivals] == [False, True, False]


def test_a_packet_that_is_far_too_late_is_not_told() -> None:
    builder = FeedbackBuilder(1)
    builder.arrived(2000, 2, 1.0)
    builder.arrived(2000 - MAX_GAP - 1, 2, 1.0)
    assert builder.pending == 1


def test_a_large_gap_is_not_told_as_missing_one_by_one() -> None:
    builder = FeedbackBuilder(1)
    builder.arrived(1, 2, 1.0)
    builder.build()
    builder.arrived(20_000, 2, 1.1)
    builder.arrived(30_000, 2, 1.1)
    feedbacks = builder.build()
    assert [(one.base, len(one.arrivals)) for one in feedbacks] == [(20_000, 1), (30_000, 1)]


@pytest.mark.parametrize("step", [2, 7, 100, MAX_GAP - 1, MAX_GAP])
def test_numbers_that_lie_are_told_as_missing_up_to_a_bound(step: int) -> None:
    builder = FeedbackBuilder(1)
    for count in range(200):
        builder.arrived(count * step & 0xFFFF, 2, 1.0)
    statuses = [status for one in builder.build() for status in one.arrivals]
    assert len(statuses) - statuses.count(None) == 200
    assert min(199 * (step - 1), MAX_MISSING - MAX_GAP) <= statuses.count(None) <= MAX_MISSING


def test_the_first_of_two_arrivals_counts() -> None:
    feedbacks = build([(1, 1.0), (1, 2.0)])
    assert told(feedbacks)[1] == pytest.approx(1.0, abs=TICK)


def test_what_waits_to_be_told_is_bounded() -> None:
    builder = FeedbackBuilder(1)
    for sequence in range(MAX_PENDING + 100):
        builder.arrived(sequence & 0xFFFF, 2, 1.0)
    assert builder.pending == MAX_PENDING
    feedbacks = builder.build()
    assert max(len(one.arrivals) for one in feedbacks) <= MAX_STATUSES
    assert len(told(feedbacks)) == MAX_PENDING


def test_a_pause_longer_than_a_time_can_tell_begins_another_feedback() -> None:
    feedbacks = build([(1, 1.0), (2, 60.0)])
    assert len(feedbacks) == 2
    assert told(feedbacks)[2] == pytest.approx(60.0, abs=TICK)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(15), id="short"),
        pytest.param(bytes(10) + b"\0\5" + bytes(6), id="a run of nothing"),
        pytest.param(bytes(10) + b"\0\5" + bytes(4) + b"\x20\x05", id="no times"),
        pytest.param(bytes(10) + b"\0\5" + bytes(4) + b"\x40\x05" + bytes(9), id="half a time"),
        pytest.param(bytes(10) + b"\xff\xff" + bytes(4) + b"\xd5", id="no statuses"),
    ],
)
def test_refuses_what_ends_too_early(body: bytes) -> None:
    with pytest.raises(ParseError):
        TransportFeedback.parse(body)


def test_the_reserved_symbol_is_read_as_not_received() -> None:
    body = bytes(10) + b"\0\2" + bytes(4) + b"\xf0\x00"
    assert TransportFeedback.parse(body + bytes(4)).arrivals == (None, None)


@given(
    st.lists(
        st.tuples(st.integers(-3, 40), st.integers(-20_000, 100_000)), min_size=1, max_size=300
    ),
    st.integers(0, 0xFFFF),
    st.integers(1, 5),
)
def test_all_that_arrived_is_told_with_its_time(
    steps: list[tuple[int, int]], first: int, rounds: int
) -> None:
    builder = FeedbackBuilder(1)
    sequence, now = first, 1e5
    arrived: dict[int, float] = {}
    seen: dict[int, float | None] = {}
    for index, (step, microseconds) in enumerate(steps):
        sequence = (sequence + step) & 0xFFFF
        now += microseconds / 1e6
        builder.arrived(sequence, 2, now)
        arrived.setdefault(sequence, now)
        if index % rounds == 0:
            for key, time in told(builder.build()).items():
                if seen.get(key) is None:
                    seen[key] = time
    for key, time in told(builder.build()).items():
        if seen.get(key) is None:
            seen[key] = time
    wrap = (1 << 24) * 0.064
    for key, when in arrived.items():
        time = seen[key]
        assert time is not None
        assert time == pytest.approx(when % wrap, abs=TICK)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=400))
def test_statuses_come_back_as_they_were(symbols: list[int]) -> None:
    deltas = b"".join(bytes(symbol) for symbol in symbols)
    head = bytes(10) + len(symbols).to_bytes(2, "big") + bytes(4)
    feedback = TransportFeedback.parse(head + pack_chunks(symbols) + deltas)
    assert [arrival is not None for arrival in feedback.arrivals] == [s > 0 for s in symbols]


@given(st.binary(max_size=80))
def test_bytes_from_strangers_are_read_or_refused(body: bytes) -> None:
    try:
        TransportFeedback.parse(body)
    except ParseError:
        return
