"""Output held against input: each thing that is told, and each that must not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from av import VideoFrame

from relay.cli import clip
from relay.gateway import compare
from relay.gateway.compare import CATCHING_UP, LATE, WINDOW, Comparison
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.worker.codec import Decoder, Encoder, Picture
from tests.media.samples import picture, sound

FRAME = VIDEO_CLOCK // 30
LENGTH = WINDOW + 2


def camera(number: int) -> AccessUnit:
    """Thirty a second whose pictures differ and have the size that a moving picture has."""
    key = number % 30 == 0
    return picture(
        number * FRAME,
        key=key,
        size=5000 if key else 1000 + number * 997 % 3000,
        fill=number % 250 + 1,
    )


def still_camera(number: int) -> AccessUnit:
    return picture(number * FRAME, key=number % 30 == 0, size=30, fill=number % 250 + 1)


def at(unit: AccessUnit, seconds: float) -> AccessUnit:
    return AccessUnit(unit.codec, unit.payload, unit.pts, seconds, unit.keyframe)


Worker = Callable[[int, AccessUnit], "list[AccessUnit]"]


def as_sent(number: int, unit: AccessUnit) -> list[AccessUnit]:
    return [unit]


def half(number: int, unit: AccessUnit) -> list[AccessUnit]:
    return [unit] if number % 2 == 0 else []


def two_thirds(number: int, unit: AccessUnit) -> list[AccessUnit]:
    return [unit] if number % 3 else []


def frozen(number: int, unit: AccessUnit) -> list[AccessUnit]:
    """The same bytes again and again."""
    return [picture(unit.pts, key=True, size=5000)]


def repeats(number: int, unit: AccessUnit) -> list[AccessUnit]:
    """What an encoder makes of one picture: refined for a while, and then as good as it gets."""
    key = number % 30 == 0
    size = 9000 - number % 30 * 500 if number % 30 < 15 else 2052 + number % 2
    return [picture(unit.pts, key=key, size=size, fill=number % 250 + 1)]


def black(number: int, unit: AccessUnit) -> list[AccessUnit]:
    key = number % 30 == 0
    return [picture(unit.pts, key=key, size=80 if key else 15, fill=number % 250 + 1)]


def smaller(number: int, unit: AccessUnit) -> list[AccessUnit]:
    """A third of the input's bytes, as another encoder may make of the same scene."""
    return [
        AccessUnit(unit.codec, unit.payload[: len(unit.payload) // 3], unit.pts, 0, unit.keyframe)
    ]


def ten_a_second(number: int, unit: AccessUnit) -> list[AccessUnit]:
    """A slow worker that fills its rate up: two of three repeat the one before."""
    new = number % 3 == 0
    return [picture(unit.pts, key=unit.keyframe, size=len(unit.payload) if new else 12)]


def key_frames(number: int, unit: AccessUnit) -> list[AccessUnit]:
    return [picture(unit.pts, key=True, size=100 + number % 50)]


def own_clock(number: int, unit: AccessUnit) -> list[AccessUnit]:
    return [AccessUnit(unit.codec, unit.payload, unit.pts + 1000, 0, unit.keyframe)]


def rounded(number: int, unit: AccessUnit) -> list[AccessUnit]:
    """To whole milliseconds."""
    return [AccessUnit(unit.codec, unit.payload, unit.pts // 90 * 90, 0.0, unit.keyframe)]


@dataclass
class Told:
    now: list[str]
    ever: set[str]


def run(
    worker: Worker,
    *,
    made: Callable[[int], AccessUnit] = camera,
    heard: bool = False,
    speaks: bool = False,
    pause: range = range(0),
    delay: float = 0.1,
    seconds: int = LENGTH,
) -> Told:
    comparison = Comparison(0)
    coming: list[tuple[float, AccessUnit]] = []
    ever: set[str] = set()
    for number in range(seconds * 30):
        now = number / 30
        while coming and coming[0][0] <= now:
            moment, unit = coming.pop(0)
            comparison.back(at(unit, moment))
        if number // 30 not in pause:
            unit = at(made(number), now)
            comparison.sent(unit)
            coming += [(now + delay, out) for out in worker(number, unit)]
            for step in (0, 1) if heard else ():
                comparison.sent(sound(number * FRAME + step, arrival=now))
            if speaks:
                coming.append((now + delay, sound(number * FRAME)))
        ever |= {caution.code for caution in comparison.warnings(now)}
    return Told([caution.code for caution in comparison.warnings(seconds)], ever)


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        (half, "output_rate_low"),
        (frozen, "output_still"),
        (repeats, "output_still"),
        (black, "output_still"),
        (own_clock, "output_foreign"),
    ],
)
def test_what_is_told(worker: Worker, expected: str) -> None:
    assert run(worker).now == [expected]


@pytest.mark.parametrize(
    "worker", [as_sent, two_thirds, smaller, key_frames, rounded, ten_a_second]
)
def test_what_a_good_worker_does_is_not_told(worker: Worker) -> None:
    assert run(worker).ever == set()


@pytest.mark.parametrize("worker", [as_sent, repeats, black])
def test_a_still_camera_gives_a_still_picture(worker: Worker) -> None:
    assert run(worker, made=still_camera).ever == set()


def test_a_camera_that_sends_the_same_bytes_gives_a_still_picture() -> None:
    def same(number: int) -> AccessUnit:
        return picture(number * FRAME, key=number % 30 == 0, size=5000)

    assert run(frozen, made=same).ever == set()


@pytest.mark.parametrize("delay", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("pause", [range(4, 7), range(1, 2), range(10, 12)])
def test_a_publisher_that_pauses(pause: range, delay: float) -> None:
    told = run(as_sent, pause=pause, delay=delay, seconds=pause.stop + WINDOW + 3)
    assert told.ever == set()


def test_sound_that_does_not_come_back() -> None:
    assert run(as_sent, heard=True).now == ["output_silent"]
    assert run(as_sent, heard=True, speaks=True).ever == set()
    assert run(as_sent).ever == set(), "a publisher without sound"


def test_nothing_is_told_before_there_is_enough_to_tell_it_of() -> None:
    assert run(half, seconds=WINDOW - 1).ever == set()
    assert Comparison().warnings(100.0) == ()


def test_pictures_of_far_times_between_the_own_ones() -> None:
    comparison = Comparison(0)
    for number in range(LENGTH * 30):
        unit = at(camera(number), number / 30)
        comparison.sent(unit)
        comparison.back(unit)
        if number % 10 == 0:
            comparison.stray(number / 30)
    assert [caution.code for caution in comparison.warnings(LENGTH)] == ["output_foreign"]


# --- output that is too old -----------------------------------------------------------


def late(lags: Callable[[float], float], *, oldest: int = 0, seconds: int = 12) -> float | None:
    """Since when the output counts as late, at the end of ``seconds``."""
    comparison = Comparison(oldest)
    for number in range(seconds * 30):
        now = number / 30
        comparison.sent(at(camera(number), now))
        back = number - int(lags(now) * 30)
        if back >= 0:
            comparison.back(at(camera(back), now))
    return comparison.late_since


@pytest.mark.parametrize(
    ("lag", "expected"),
    [
        (lambda now: 0.2, False),
        (lambda now: LATE - 0.1, False),
        (lambda now: LATE + 1, True),
        # it falls behind, and for a moment only
        (lambda now: now * 0.6, True),
        (lambda now: LATE + 1 if 7 < now < 9 else 0.2, False),
    ],
)
def test_how_late_is_late(lag: Callable[[float], float], expected: bool) -> None:
    assert (late(lag) is not None) is expected


def test_who_catches_up_has_time_for_it() -> None:
    """From 9 s behind to 6 s in 6 s."""
    since = late(lambda now: max(9.0 - max(0.0, now - 9) / 2, 0.0), seconds=15)
    assert since is not None
    assert 15 - since < 2 * CATCHING_UP + 0.2


def test_a_clock_that_begins_with_the_job_tells_no_age() -> None:
    """What it looks like to be older than anything that it was given."""
    assert late(lambda now: LATE + 1, oldest=6 * VIDEO_CLOCK) is None


# --- what a real encoder makes of a still -------------------------------------------------


Image = np.ndarray[Any, Any]


def encoded(images: list[Image]) -> list[AccessUnit]:
    encoder = Encoder(1_000_000, 2.0)
    units = []
    for number in range(LENGTH * 30):
        frame = VideoFrame.from_ndarray(images[number % len(images)])
        unit = encoder.encode(Picture(frame, number * FRAME, number / 30))
        assert unit is not None
        units.append(unit)
    return units


@pytest.fixture(scope="module")
def scene() -> list[Image]:
    decoder = Decoder()
    units = [
        unit for unit in clip.encoded(2, width=320, height=180, bitrate=500_000) if unit.is_video
    ]
    return [seen.to_array("rgb24", seen.size) for unit in units for seen in decoder.decode(unit)]


@pytest.mark.parametrize("kind", ["frozen", "black", "moving"])
def test_a_real_encoder(scene: list[Image], kind: str) -> None:
    made = encoded(
        {"frozen": scene[20:21], "black": [np.zeros_like(scene[0])], "moving": scene}[kind]
    )
    told = run(lambda number, unit: [made[number]])
    assert told.ever == (set() if kind == "moving" else {"output_still"})


def test_what_passes_without_being_looked_at_is_bounded() -> None:
    comparison = Comparison()
    for number in range(3000):
        comparison.sent(AccessUnit(Codec.OPUS, b"", number, number / 1000))
        comparison.back(AccessUnit(Codec.H264, bytes(number), number, number / 1000))
        assert len(comparison.passed) * compare.EACH <= compare.TOGETHER
        octets = sum(len(unit.payload) for unit, _ in comparison.passed)
        assert octets <= compare.TOGETHER
