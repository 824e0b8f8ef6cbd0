"""How long bytes have waited, from values alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.protocols.trickle.backlog import Backlog


def test_the_oldest_write_that_waits_tells_the_time() -> None:
    backlog = Backlog(0.5)
    backlog.wrote(100, 1, 10.0)
    backlog.wrote(100, 1, 10.2)
    backlog.wrote(100, 0, 10.3)
    assert backlog.look(300, 10.3) == 10.5 - 10.3
    assert backlog.look(200, 10.3) == 10.7 - 10.3
    assert backlog.look(101, 10.8) == 10.7 - 10.8, "one byte of it waits"
    assert backlog.counted() == 1
    assert backlog.look(100, 10.8) == 10.8 - 10.8
    assert backlog.counted() == 0
    assert backlog.look(0, 99.0) is None


def test_what_left_is_not_remembered() -> None:
    backlog = Backlog(0.5)
    for n in range(100_000):
        backlog.wrote(1000, 1, n / 30)
        assert backlog.look(0, n / 30) is None
    assert backlog.counted() == 0


@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 1)), min_size=1, max_size=50),
    st.integers(0, 500_000),
)
def test_it_is_never_more_patient_than_its_oldest_byte(
    writes: list[tuple[int, float]], waiting: int
) -> None:
    backlog, now, times = Backlog(0.5), 0.0, []
    for size, pause in writes:
        now += pause
        backlog.wrote(size, 1, now)
        times.append(now)
    left = backlog.look(waiting, now)
    total = sum(size for size, _ in writes)
    gone = max(0, total - waiting)
    ends = [sum(size for size, _ in writes[: n + 1]) for n in range(len(writes))]
    oldest = next((at for at, end in zip(times, ends, strict=True) if end > gone), None)
    assert left == (None if oldest is None else oldest + 0.5 - now)
