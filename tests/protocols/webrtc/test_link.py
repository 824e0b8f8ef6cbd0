"""A viewer whose link grows too small for the video, and wide again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc.link import BLIND_WAIT, MAX_WAIT, SUSTAINED, Link
from relay.protocols.webrtc.sendlog import SendLog
from relay.protocols.webrtc.viewer import ViewerState
from tests.netem import Clock
from tests.watched import FPS, Watched

NARROW = 500_000.0


def watched(**path: Any) -> Watched:
    return Watched(Clock(), delay=0.015, jitter=0.004, **path)


def shown(watch: Watched, begin: float, end: float) -> list[int]:
    """Numbers of the pictures shown in that time, in seconds from the start."""
    return [s.number for s in watch.shown if begin <= s.at - watch.begin < end]


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_narrow_link_keeps_the_sound_and_gets_the_video_back(loss: float) -> None:
    watch = watched(loss=loss, seed=3)
    watch.run(5)
    watch.forward.rate = NARROW
    watch.run(20)
    watch.forward.rate = None
    watch.run(6)
    states = [state for _, state in watch.states]
    live, paused, waiting = ViewerState.LIVE, ViewerState.PAUSED, ViewerState.WAITING
    assert states == [waiting, live, paused, waiting, live]
    paused_at, back_at = watch.states[2][0] - watch.begin, watch.states[4][0] - watch.begin
    assert 5 < paused_at < 6.5
    assert 25 <= back_at < 27
    assert len(shown(watch, 28, 31)) >= 3 * FPS - 2
    late = [there - sent for sent, there in watch.sounds if 8 < sent - watch.begin < 25]
    assert len(late) > 17 / 0.02 * (1 - loss - 0.03)
    assert max(late) < 0.35  # the trains pass by it
    link = watch.viewer.link
    assert link.stops == 1


def test_while_the_video_stands_the_estimate_is_what_the_link_carries() -> None:
    watch = watched(seed=4)
    watch.run(5)
    watch.forward.rate = NARROW
    watch.run(10)
    assert watch.viewer.state is ViewerState.PAUSED
    assert watch.viewer.link.estimator.bitrate == pytest.approx(NARROW, rel=0.2)
    assert watch.viewer.link.needed == pytest.approx(2.1e6, rel=0.2)


@pytest.mark.parametrize("loss", [0.01, 0.03, 0.05, 0.10])
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_losses_that_requests_repair_stop_nothing(loss: float, seed: int) -> None:
    watch = watched(loss=loss, back_loss=loss, reorder=0.1, seed=seed)
    watch.run(10)
    assert watch.viewer.link.stops == 0
    numbers = shown(watch, 0, 11)
    assert len(numbers) >= (watch.number - numbers[0]) * 0.98


def test_a_radio_that_stops_for_a_moment_is_no_small_link() -> None:
    watch = watched(seed=6)
    for _ in range(5):
        watch.run(2)
        watch.forward.rate = 1.0
        watch.run(0.03)
        watch.forward.rate = None
    watch.run(2)
    assert watch.viewer.link.stops == 0


def test_after_an_outage_all_goes_on_from_a_key_frame() -> None:
    watch = watched(seed=7)
    watch.run(5)
    watch.forward.drop = watch.back.drop = lambda _: True
    watch.run(2)
    watch.forward.drop = watch.back.drop = None
    watch.run(5)
    later = [s.at - watch.begin for s in watch.shown if s.at - watch.begin > 7]
    assert later[0] < 8.5
    assert max(b - a for a, b in pairwise([at for at in later if at > 9])) < 0.1


def test_without_feedback_reports_stop_the_video_and_time_brings_it_back() -> None:
    link = Link(None)
    for second in range(1, 4):
        link.report(0.0, second * 250_000, float(second))
        assert not link.too_small(float(second))
    assert not link.known  # what it carries, nobody has said
    assert link.needed == pytest.approx(2e6)
    link.report(0.4, 1_000_000, 4.0)
    assert not link.too_small(4.0)
    assert link.too_small(4.0 + SUSTAINED)
    assert link.known
    link.stop(4.2, trains=True)
    assert not link.blind(4.2 + BLIND_WAIT - 0.1)
    assert link.blind(4.2 + BLIND_WAIT)
    waits = []
    now = 6.5
    for _ in range(4):
        link.resume(now)
        now += 1
        link.stop(now, trains=True)
        begin = now
        while not link.blind(now):
            now += 0.05
        waits.append(now - begin)
    assert waits == pytest.approx([4, 8, 8, 8], abs=0.1)
    assert max(waits) <= MAX_WAIT + 0.1


def test_an_estimate_told_by_the_viewer_stops_it_too() -> None:
    link = Link(None)
    link.report(0.0, 0, 1.0)
    link.report(0.0, 250_000, 2.0)
    link.told(1_900_000, 2.1)
    assert not link.too_small(3.0)
    link.told(600_000, 3.0)
    assert link.too_small(3.3)
    assert link.estimator.bitrate == 600_000


@given(st.lists(st.binary(max_size=60), max_size=20), st.booleans())
def test_feedback_of_any_bytes_does_no_harm(bodies: list[bytes], stopped: bool) -> None:
    log = SendLog(3, clock=lambda: 1.0)
    link = Link(log)
    for _ in range(2000):
        log.take(1000)
    if stopped:
        link.stop(1.0, trains=True)
        link.train_sent(1990, 8, 1.5)
    for index, body in enumerate(bodies):
        try:
            link.feedback(body, 2.0 + index)
        except ParseError:
            continue
        link.too_small(2.0 + index)
        link.ready()
