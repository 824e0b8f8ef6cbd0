"""Where viewers go, and how many processes there are: decisions of values alone."""

from __future__ import annotations

from relay.protocols.webrtc.processes.load import INTERVAL, SAMPLES, WINDOW, Meter
from relay.protocols.webrtc.processes.placement import (
    BUSY,
    FEW,
    FULL,
    HELD,
    QUIET,
    VIEWER,
    Place,
    Scale,
    choose,
    processes,
)

IDLE = 60.0


def place(share: float, viewers: int = 100) -> Place:
    return Place(share, viewers, viewers)


def test_the_least_loaded_gets_the_next_viewer_and_of_two_alike_the_gateway() -> None:
    assert choose([place(0.3)]) == 0
    assert choose([place(0.3), place(0.1), place(0.2)]) == 1
    assert choose([place(0.2), place(0.2)]) == 0


def test_those_who_came_since_the_measurement_count() -> None:
    places = [Place(0.0, 0, 0), Place(0.1, 0, 0), Place(0.1, 0, 0)]
    for _ in range(300):
        at = choose(places)
        chosen = places[at]
        places[at] = Place(chosen.share, chosen.viewers + 1, chosen.measured)
    shares = [p.expected for p in places]
    assert max(shares) - min(shares) < 2 * VIEWER
    assert sum(p.viewers for p in places) == 300


def test_viewers_that_left_since_are_not_taken_off() -> None:
    assert Place(0.3, 10, 100).expected == 0.3


def test_another_is_wanted_when_all_are_busy_for_a_while() -> None:
    scale = Scale(2, IDLE)
    busy = [place(BUSY)]
    assert not scale.wants_another(busy, 100, 0, 10.0)
    assert not scale.wants_another(busy, 100, 0, 10.0 + HELD / 2)
    assert scale.wants_another(busy, 100, 0, 10.0 + HELD)


def test_a_short_burst_is_waited_out() -> None:
    scale = Scale(2, IDLE)
    assert not scale.wants_another([place(BUSY)], 100, 0, 0.0)
    assert not scale.wants_another([place(BUSY / 2)], 100, 0, HELD / 2)
    assert not scale.wants_another([place(BUSY)], 100, 0, HELD)


def test_a_full_one_is_not_waited_for() -> None:
    assert Scale(1, IDLE).wants_another([place(FULL)], 100, 0, 0.0)
    crowd = Place(0.1, 500, 0)  # all at once: nothing of it is measured yet
    assert crowd.expected > FULL
    assert Scale(1, IDLE).wants_another([crowd], 100, 0, 0.0)


def test_none_is_wanted_beyond_the_limit_nor_while_one_starts_nor_for_few() -> None:
    full = place(FULL)
    assert not Scale(0, IDLE).wants_another([full], 100, 0, 0.0)
    assert not Scale(1, IDLE).wants_another([full, full], 100, 1, 0.0)
    assert not Scale(2, IDLE).wants_another([full], 100, 1, 0.0)  # the first one is starting
    assert Scale(2, IDLE).wants_another([full, full], 100, 1, 0.0)
    assert not Scale(2, IDLE).wants_another([place(FULL)], FEW - 1, 0, 0.0)  # its jobs keep it busy
    assert not Scale(2, IDLE).wants_another([full, place(0.0)], 100, 1, 0.0)


def test_one_without_viewers_may_go_when_there_has_been_room_for_long() -> None:
    scale = Scale(2, IDLE)
    places = [place(QUIET), place(0.0, 0), place(0.0, 0)]
    assert scale.can_spare(places, 0.0) is None
    assert scale.can_spare(places, IDLE - 1) is None
    assert scale.can_spare(places, IDLE) == 2
    assert scale.can_spare(places[:2], IDLE + 1) is None  # the next one takes its own time
    assert scale.can_spare(places[:2], 2 * IDLE + 1) == 1


def test_one_that_is_watched_or_may_be_needed_stays() -> None:
    scale = Scale(1, IDLE)
    for at in range(3):
        assert scale.can_spare([place(0.0), place(0.0, 1)], at * IDLE) is None
        assert scale.can_spare([place(BUSY), place(0.0, 0)], at * IDLE) is None
        assert scale.can_spare([place(0.0, 0)], at * IDLE) is None


def test_each_has_its_own_time_without_viewers() -> None:
    scale = Scale(2, IDLE)
    assert scale.can_spare([place(0.0), place(0.0, 0), place(0.0, 1)], 0.0) is None
    # The last one's viewer has left now, and one has come to the other.
    changed = [place(0.0), place(0.0, 1), place(0.0, 0)]
    assert scale.can_spare(changed, IDLE) is None
    assert scale.can_spare(changed, 2 * IDLE - 1) is None
    assert scale.can_spare(changed, 2 * IDLE) == 2


def test_how_many_there_may_be() -> None:
    assert [processes("auto", cores) for cores in (1, 2, 4, 16)] == [1, 1, 3, 15]
    assert [processes(setting, 4) for setting in (0, 1, 7)] == [0, 1, 7]


def test_the_share_is_of_the_last_seconds() -> None:
    meter = Meter()
    assert meter.add(0.0, 5.0) == 0.0
    assert meter.add(INTERVAL, 5.0 + INTERVAL) == 1 / SAMPLES  # busy for a moment
    for step in range(2, SAMPLES + 1):
        share = meter.add(step * INTERVAL, 5.0 + INTERVAL)
    assert share == 1 / SAMPLES
    assert meter.add((SAMPLES + 1) * INTERVAL, 5.0 + INTERVAL) == 0.0
    assert meter.add((SAMPLES + 2) * INTERVAL, 5.0 + INTERVAL + WINDOW / 2) == 0.5
