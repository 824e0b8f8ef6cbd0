"""What a browser sees of us: Chromium publishes by the studio's own code and watches.

A headless Chromium with a made-up camera (1280x720, easy content, capped at 2.5 Mbit/s as
the studio caps it) publishes to a network of our own with ``passthrough``; another page,
which hides its addresses behind mDNS names as every viewer without a camera does, watches.
The first connection of each page is thrown away: how long a browser takes to load its own
WebRTC is not what is asked. Times count from the POST of the offer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.report import report
from relay.cli.network import running_network
from tests.browser import CAMERA, LEAVE, Tab, chromium, tab
from tests.scene import HEIGHT, WIDTH, camera_file

SCRIPT: Final = Path(__file__).with_suffix(".js")
MODEL: Final = "passthrough"
LEAVES: Final = {"permissions": ["camera", "microphone"]}
LONG: Final = 10
"""Seconds that a round lasts."""
SHORT: Final = 2
"""Further connections in each round, closed once they are up."""
CONNECTED_MS: Final = 100.0
PICTURE_MS: Final = 300.0
KBITS: Final = 2000.0
STAGES: Final = ("answered", "described", "checked", "connected", "picture")

Moments = Mapping[str, float | None]


@dataclass(slots=True)
class Found:
    """Of all rounds."""

    published: list[Moments] = field(default_factory=list)
    watched: list[Moments] = field(default_factory=list)
    kbits: list[float] = field(default_factory=list)
    sizes: list[list[Any]] = field(default_factory=list)
    seen: list[Mapping[str, float]] = field(default_factory=list)


class Pages:
    """A streamer's page and a viewer's, both on the studio's address."""

    def __init__(self, streamer: Tab, viewer: Tab) -> None:
        self._streamer = streamer
        self._viewer = viewer

    async def load(self) -> None:
        for opened in {self._streamer, self._viewer}:
            await opened.page.evaluate(SCRIPT.read_text())

    async def prepare(self) -> None:
        await self.load()
        size = await self._streamer.page.evaluate("bench.camera()")
        if size != [WIDTH, HEIGHT]:
            raise RuntimeError(f"the camera gives {size}")

    async def publish(self, name: str) -> Moments:
        path = f"/whip/{name}?pipeline={MODEL}"
        told: Moments = await self._streamer.page.evaluate(f"bench.publish('{path}')")
        return told

    async def watch(self, name: str) -> Moments:
        told: Moments = await self._viewer.page.evaluate(f"bench.watch('/whep/{name}')")
        return told

    async def of_streamer(self, call: str) -> Any:
        return await self._streamer.page.evaluate(f"bench.{call}")

    async def of_viewer(self, call: str) -> Any:
        return await self._viewer.page.evaluate(f"bench.{call}")

    async def stop(self) -> None:
        await self.of_viewer("stop()")
        await self.of_streamer("stop()")


async def warm_up(pages: Pages) -> None:
    say("cold, published", await pages.publish("warm"))
    say("cold, watched", await pages.watch("warm"))
    await pages.stop()


async def one_round(pages: Pages, number: int, found: Found) -> None:
    for turn in range(SHORT):
        note(found.published, "published", await pages.publish(f"short-{number}-{turn}"))
        await pages.of_streamer("stop()")
    name = f"long-{number}"
    note(found.published, "published", await pages.publish(name))
    kbits = await pages.of_streamer("rate(3)") / 1000
    found.kbits.append(kbits)
    print(f"  {kbits:.0f} kbit/s in the third second", flush=True)
    for _ in range(SHORT):
        note(found.watched, "watched", await pages.watch(name))
        await pages.of_viewer("stop()")
    note(found.watched, "watched", await pages.watch(name))
    size = await pages.of_streamer(f"size({LONG})")
    found.sizes.append(size)
    print(
        f"  {size[0]}x{size[1]}, {size[2]} fps in second {LONG}; limited by {size[3]}", flush=True
    )
    seen = await pages.of_viewer(f"seen({LONG})")
    found.seen.append(seen)
    print(
        f"  the viewer: {seen['freezes']} freezes, {seen['frozen_s']:.2f} s of them,"
        f" {seen['lost']} of {seen['packets']} packets lost, {seen['decoded']} pictures",
        flush=True,
    )
    await pages.stop()


def note(kept: list[Moments], title: str, moments: Moments) -> None:
    kept.append(moments)
    say(title, moments)


def say(title: str, moments: Moments) -> None:
    words = [f"{s} {v:.0f}" for s in STAGES if (v := moments.get(s)) is not None]
    print(f"  {title:16} {', '.join(words)} ms after the POST", flush=True)


async def measure(rounds: int) -> int:
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        camera = camera_file(Path(folder) / "scene.mjpeg")
        flags = (CAMERA, LEAVE, f"--use-file-for-fake-video-capture={camera}")
        async with (
            running_network(Path(folder) / "log", {"worker.slots": 2}) as ready,
            chromium(*flags) as browser,
            tab(browser, ready["studio"], **LEAVES) as streamer,
            tab(browser, ready["studio"]) as viewer,
        ):
            pages = Pages(streamer, viewer)
            await pages.prepare()
            await warm_up(pages)
            for number in range(rounds):
                print(f"round {number + 1}, load {os.getloadavg()[0]:.2f}", flush=True)
                await one_round(pages, number, found)
    return _report(found)


def _report(found: Found) -> int:
    whip, whep = _times(found.published, "connected"), _times(found.watched, "connected")
    pictures = _times(found.watched, "picture")
    full = sum(size[:2] == [WIDTH, HEIGHT] for size in found.sizes)
    against = {
        f"publisher connected in {CONNECTED_MS:.0f} ms": [ms / CONNECTED_MS for ms in whip],
        f"viewer connected in {CONNECTED_MS:.0f} ms": [ms / CONNECTED_MS for ms in whep],
        f"first picture in {PICTURE_MS:.0f} ms": [ms / PICTURE_MS for ms in pictures],
        f"{KBITS:.0f} kbit/s in second 3": [KBITS / max(kbits, 1) for kbits in found.kbits],
    }
    nearest = max(against, key=lambda bar: statistics.median(against[bar]))
    ratio = statistics.median(against[nearest])
    return report(
        "chromium",
        bars={
            **{bar: statistics.median(values) <= 1 for bar, values in against.items()},
            "full size in most rounds": full * 2 > len(found.sizes),
        },
        ratio=ratio,
        against=f"the bar that is nearest: {nearest}",
        samples=against[nearest],
        publisher_connected_ms=_figures(whip),
        viewer_connected_ms=_figures(whep),
        publisher_answered_ms=_figures(_times(found.published, "answered")),
        viewer_answered_ms=_figures(_times(found.watched, "answered")),
        first_picture_ms=_figures(pictures),
        kbits_in_second_3=[round(value) for value in found.kbits],
        full_size_in_second_10=f"{full} of {len(found.sizes)}",
        freezes=[seen["freezes"] for seen in found.seen],
        lost_packets=[seen["lost"] for seen in found.seen],
    )


def _times(told: list[Moments], stage: str) -> list[float]:
    return [value for moments in told if (value := moments[stage]) is not None]


def _figures(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "max": round(max(values), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sys.exit(asyncio.run(measure(arguments.rounds)))


if __name__ == "__main__":
    main()
