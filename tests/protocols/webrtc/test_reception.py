"""What a receiver counts for its reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.webrtc.reception import MAX_DROPOUT, MAX_MISORDER, RESTART_STEP, Reception


def begun(sequence: int = 10) -> Reception:
    reception = Reception(1000, sequence, 0, 0.0)
    assert reception.arrived(sequence, 0, 0.0) == sequence
    return reception


def test_extended_numbers_run_on_over_the_wrap() -> None:
    reception = begun(65534)
    assert [reception.arrived(n, 0, 0.0) for n in (65535, 0, 1)] == [65535, 65536, 65537]
    assert reception.report(1, 0.0).highest == 65537


def test_a_late_packet_is_placed_before_the_highest() -> None:
    reception = begun(65535)
    reception.arrived(1, 0, 0.0)
    assert reception.arrived(0, 0, 0.0) == 65536
    assert (reception.highest, reception.lost) == (65537, 0)


def test_the_fraction_lost_is_that_since_the_last_report() -> None:
    reception = begun(0)
    for number in (1, 3):
        reception.arrived(number, 0, 0.0)
    assert reception.report(1, 0.0).fraction_lost == 64
    for number in (4, 5, 6, 7):
        reception.arrived(number, 0, 0.0)
    block = reception.report(1, 0.0)
    assert (block.fraction_lost, block.lost) == (0, 1)


def test_duplicates_do_not_make_a_loss_below_zero_a_fraction() -> None:
    reception = begun(0)
    reception.arrived(0, 0, 0.0)
    block = reception.report(1, 0.0)
    assert (block.fraction_lost, block.lost) == (0, -1)


@pytest.mark.parametrize("jump", [MAX_DROPOUT, 30_000, -MAX_MISORDER - 2])
def test_a_far_place_is_believed_when_a_second_packet_follows_there(jump: int) -> None:
    reception = begun(40_000)
    far = (40_000 + jump) & 0xFFFF
    assert reception.arrived(far, 0, 0.0) is None
    extended = reception.arrived(far + 1, 0, 0.0)
    assert extended is not None
    assert extended - 40_000 > RESTART_STEP
    assert extended & 0xFFFF == far + 1
    assert (reception.restarts, reception.lost) == (1, 0)


def test_two_far_places_apart_from_each_other_are_not_believed() -> None:
    reception = begun(0)
    assert reception.arrived(20_000, 0, 0.0) is None
    assert reception.arrived(30_000, 0, 0.0) is None
    assert reception.arrived(1, 0, 0.0) == 1


def test_a_steady_stream_has_no_jitter_and_an_unsteady_one_a_smoothed_one() -> None:
    reception = begun(0)
    for number in range(1, 50):
        reception.arrived(number, number * 20, number * 0.02)
    assert reception.jitter == pytest.approx(0, abs=1e-6)
    reception.arrived(50, 1000, 1.016)
    assert reception.jitter == pytest.approx(1.0)


def test_a_jump_of_the_senders_clock_is_no_jitter() -> None:
    reception = begun(0)
    reception.arrived(1, 3_600_000, 0.02)
    assert reception.jitter == 0


def test_timestamps_run_over_without_jitter() -> None:
    reception = Reception(1000, 0, 2**32 - 10, 0.0)
    reception.arrived(0, 2**32 - 10, 0.0)
    reception.arrived(1, 10, 0.02)
    assert reception.jitter == pytest.approx(0, abs=1e-6)


def test_the_age_of_the_senders_report_is_zero_before_the_first() -> None:
    block = begun().report(1, 5.0)
    assert (block.last_report, block.delay) == (0, 0)


@given(st.lists(st.integers(0, 0xFFFF), max_size=80), st.integers(0, 0xFFFF))
def test_numbers_from_strangers_never_count_below_what_fits(numbers: list[int], first: int) -> None:
    reception = begun(first)
    for number in numbers:
        extended = reception.arrived(number, 0, 0.0)
        assert extended is None or extended & 0xFFFF == number
        block = reception.report(1, 0.0)
        assert 0 <= block.fraction_lost <= 255
        block.serialise()
