"""The estimate of a path, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc.congestion import TransportFeedback, summarise
from relay.protocols.webrtc.estimate import LEAST, MOST, Estimator

STEP = 0.05


class Path:
    """A sender of a constant rate, a queue, and one sample every 50 ms."""

    def __init__(self) -> None:
        self.estimator = Estimator()
        self.now = 100.0
        self.queued = 0.0  # bits

    def run(self, seconds: float, *, rate: float, capacity: float, lost: float = 0.0) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            sent = self.now
            came = min(self.queued + rate * STEP, capacity * STEP)
            self.queued = max(0.0, self.queued + (rate - capacity) * STEP)
            arrived = sent + 0.02 + self.queued / capacity + 7777
            packets = 40
            missing = round(packets * lost)
            share = 1 - lost
            self.estimator.sample(
                sent, arrived, round(came * share / 8), packets - missing, missing, arrived - 7777
            )


def test_a_wide_path_is_known_to_carry_what_it_was_sent() -> None:
    path = Path()
    path.run(10, rate=2e6, capacity=20e6)
    assert 1.9e6 <= path.estimator.bitrate <= 4e6
    assert path.estimator.queue < 0.001
    assert not path.estimator.overused
    assert path.estimator.share() == 1.0


def test_a_path_that_grows_narrow_is_seen_within_a_second() -> None:
    path = Path()
    path.run(5, rate=2e6, capacity=20e6)
    path.run(1, rate=2e6, capacity=0.5e6)
    assert path.estimator.bitrate < 0.7e6
    assert path.estimator.queue > 0.3


def test_a_queue_that_drains_is_not_taken_for_a_wide_path() -> None:
    path = Path()
    path.run(5, rate=2e6, capacity=20e6)
    path.run(1, rate=2e6, capacity=0.5e6)
    narrow = path.estimator.bitrate
    path.run(3, rate=0.05e6, capacity=0.5e6)
    assert path.estimator.bitrate <= narrow * 1.1


def test_jitter_alone_lowers_nothing_for_good() -> None:
    path = Path()
    estimator = path.estimator
    for index in range(400):
        sent = index * STEP
        late = 0.02 if index % 3 == 0 else 0.0
        estimator.sample(sent, sent + 0.03 + late, 12_500, 10, 0, sent + 0.1)
    assert estimator.bitrate > 1.5e6
    assert estimator.queue < 0.03


def test_many_losses_lower_it_and_few_do_not() -> None:
    few, many = Path(), Path()
    for path, lost in ((few, 0.05), (many, 0.3)):
        path.run(3, rate=2e6, capacity=20e6)
        path.run(5, rate=2e6, capacity=20e6, lost=lost)
    assert few.estimator.bitrate > 1.8e6
    assert many.estimator.bitrate < 1.8e6
    share = many.estimator.share()
    assert share == pytest.approx(0.7, abs=0.01)
    many.run(20, rate=2e6, capacity=20e6)
    assert many.estimator.bitrate > 1.9e6


def test_the_other_end_may_say_it_itself() -> None:
    estimator = Estimator()
    estimator.told(700_000)
    assert estimator.bitrate == 700_000
    estimator.losses(0.5, 1.0)
    assert estimator.bitrate == pytest.approx(525_000)
    estimator.told(1)
    assert estimator.bitrate == LEAST


@given(
    st.lists(
        st.tuples(
            st.floats(-10, 10),
            st.floats(-10, 10),
            st.integers(0, 10**7),
            st.integers(0, 1000),
            st.integers(0, 1000),
        ),
        max_size=40,
    )
)
def test_whatever_it_is_told_it_stays_within_its_bounds(
    samples: list[tuple[float, float, int, int, int]],
) -> None:
    estimator = Estimator()
    for index, (sent, arrived, octets, received, lost) in enumerate(samples):
        estimator.sample(sent, arrived, octets, received, lost, index * 0.01)
        assert LEAST <= estimator.bitrate <= MOST


arrivals = st.lists(st.one_of(st.none(), st.integers(0, 400)), min_size=1, max_size=120)


@given(arrivals, st.integers(0, 0xFFFF))
def test_a_summary_says_what_reading_all_of_it_says(steps: list[int | None], base: int) -> None:
    time = 0
    given: list[int | None] = []
    for step in steps:
        time += step or 0
        given.append(None if step is None else time)
    told = TransportFeedback(1, 2, base, 77, 3, tuple(given))
    summary = summarise(told.serialise()[4:])
    came = [index for index, arrival in enumerate(given) if arrival is not None]
    assert summary.base == base
    assert summary.reference == 77
    assert summary.received == len(came)
    assert summary.last == (came[-1] if came else -1)
    assert summary.ticks == (given[came[-1]] if came else 0)


@given(st.binary(max_size=60))
def test_a_summary_refuses_what_reading_refuses(body: bytes) -> None:
    try:
        told = TransportFeedback.parse(body)
    except ParseError:
        with pytest.raises(ParseError):
            summarise(body)
        return
    assert summarise(body).received == sum(arrival is not None for arrival in told.arrivals)
