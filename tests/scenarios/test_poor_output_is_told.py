"""A worker that sends something, and not what it should: the stream stays with it, since a
pipeline may be like that, and the status says what may be wrong.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from relay.gateway import compare
from relay.gateway.status import StreamState
from tests.gateway.desk import Desk, gateway
from tests.gateway.seller import Job, Seller, Work, echo
from tests.media.samples import picture
from tests.network import eventually

SECONDS = 2


@pytest.fixture(autouse=True)
def short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "WINDOW", SECONDS)


async def frozen(job: Job) -> None:
    """The first picture, again and again."""
    async for unit in job.pictures():
        job.show(replace(job.units[0], pts=unit.pts) if unit.is_video else unit)


async def black(job: Job) -> None:
    """Pictures of almost no bytes, as encoders make of black."""
    async for unit in job.pictures():
        fill = len(job.units) % 250 + 1
        small = picture(unit.pts, key=unit.keyframe, size=15, fill=fill)
        job.show(small if unit.is_video else unit)


async def half_the_rate(job: Job) -> None:
    """Half of the groups in which the pictures come: the last pictures of each are left out."""
    place = count()
    async for unit in job.pictures():
        if unit.keyframe:
            place = count()
        if not unit.is_video or next(place) < 5:
            job.show(unit)


async def mute(job: Job) -> None:
    async for unit in job.pictures():
        if unit.is_video:
            job.show(unit)


async def another_streams(job: Job) -> None:
    """Whole pictures of a stream with times between ours."""
    async for unit in job.pictures():
        job.show(replace(unit, pts=unit.pts + 700) if unit.is_video else unit)


def codes(desk: Desk) -> list[str]:
    return [caution.code for caution in desk.stream.warnings]


def compared(desk: Desk) -> bool:
    """A whole window was looked at."""
    return len(desk.path.rendition.compare._past) == SECONDS


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (frozen, "output_still"),
        (black, "output_still"),
        (half_the_rate, "output_rate_low"),
        (mute, "output_silent"),
        (another_streams, "output_foreign"),
    ],
)
async def test_what_may_be_wrong_is_told_and_the_stream_stays(work: Work, code: str) -> None:
    async with (
        Seller(work).running() as poor,
        Seller().running() as other,
        gateway(poor, other) as desk,
        desk.filming(audio=True) as camera,
    ):
        camera.moving = True
        await desk.live_at(poor)
        await eventually(lambda: codes(desk) == [code])
        assert desk.stream.state is StreamState.LIVE
        assert desk.stream.swaps == 0
        assert not other.jobs


async def test_viewers_hear_the_publisher_where_the_worker_drops_the_sound() -> None:
    async with (
        Seller(mute).running() as seller,
        gateway(seller) as desk,
        desk.filming(audio=True),
        desk.watching() as viewer,
    ):
        await desk.live_at(seller)
        await eventually(lambda: "output_silent" in codes(desk))
        before = len(viewer.audio)
        await eventually(lambda: len(viewer.audio) > before + 30)
        stamps = [unit.pts for _, unit in viewer.audio]
        assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("moving", [True, False], ids=["moving", "still"])
async def test_of_a_good_worker_nothing_is_told(moving: bool) -> None:
    async with (
        Seller(echo).running() as seller,
        gateway(seller) as desk,
        desk.filming(audio=True) as camera,
    ):
        camera.moving = moving
        await desk.live_at(seller)
        await eventually(lambda: compared(desk))
        assert codes(desk) == []


async def test_what_was_wrong_with_one_is_not_told_of_the_next() -> None:
    async with (
        Seller(mute).running() as poor,
        Seller().running() as good,
        gateway(poor, good) as desk,
        desk.filming(audio=True),
    ):
        await desk.live_at(poor)
        await eventually(lambda: codes(desk) == ["output_silent"])
        await poor.jobs[0].close()
        await desk.live_at(good)
        assert codes(desk) == []
        await eventually(lambda: compared(desk))
        assert codes(desk) == []
