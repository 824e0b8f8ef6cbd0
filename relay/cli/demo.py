"""``relay demo``: a numbered clip through a whole network, and what came back."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import uvloop

from relay.cli import clip, sheet
from relay.cli.lookout import Place, look
from relay.cli.network import running_network
from relay.cli.pace import pace
from relay.cli.publish import NOT_OFFERED
from relay.errors import ParseError, PeerError
from relay.media.unit import VIDEO_CLOCK, AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.worker.codec import Decoder
from relay.worker.file import write_file

LAST_FRAMES: Final = 1.5
"""Seconds after the last frame was sent in which the last ones may come back."""
ENOUGH: Final = 0.8
"""The share of the frames, from the first one back on, that has to come back."""
NAME: Final = "demo"
LOG: Final = "demo.log"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    folder: Path
    seconds: float
    model: str
    params: dict[str, Any]
    as_json: bool


@dataclass(slots=True)
class Report:
    model: str
    frames_in: int
    frames_out: int
    fps: float
    audio_packets_out: int
    delay_p50_ms: float | None
    delay_p95_ms: float | None
    first_picture_ms: float | None
    video: str = ""
    picture: str = ""
    passed: bool = False
    log: str = ""
    state: str = ""
    """The stream's last state, with its reason."""
    load: float = 0.0
    """Processes that wanted a core, on average of the last minute."""
    cores: int = 0


@dataclass(slots=True)
class Seen:
    """What was sent when, and what came back."""

    sent: list[float] = field(default_factory=list)
    """When frame n was sent, by its index."""
    units: list[AccessUnit] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    """What the gateway told of the stream, each change."""

    def send(self, unit: AccessUnit, client: WhipClient) -> None:
        if unit.is_video:
            self.sent.append(unit.arrival)
        client.send(unit)


def run(request: Request) -> int:
    """Run it and print the report; 0 when enough came back.

    Raises:
        RelayError: the network did not start, or refused.
    """
    request.folder.mkdir(parents=True, exist_ok=True)
    report = uvloop.run(_demo(request))
    print(json.dumps(asdict(report)) if request.as_json else text(report))
    return 0 if report.passed else 1


async def _demo(request: Request) -> Report:
    say = _silent if request.as_json else _say
    say("making a clip of numbered frames, starting gateway, orchestrator and worker ...")
    making = asyncio.create_task(asyncio.to_thread(clip.encoded, request.seconds))
    async with running_network(request.folder / LOG, {"worker.slots": 1}) as ready:
        units = await making
        say(f"sending {request.seconds:g} s through model {request.model} by WHIP and WHEP ...")
        seen = await _through(ready["gateway"]["url"], units, request)
    return await asyncio.to_thread(_finish, request, seen)


async def _through(base: str, units: Sequence[AccessUnit], request: Request) -> Seen:
    seen = Seen()
    query = urlencode({"pipeline": request.model, "params": json.dumps(request.params)})
    whip = await WhipClient.connect(f"{base}/whip/{NAME}?{query}")
    try:
        whep = await WhepClient.connect(f"{base}/whep/{NAME}", on_unit=seen.units.append)
        unoffered = asyncio.get_running_loop().create_future()
        looked = look(Place(base, NAME), seen.states.append, unoffered.set_result)
        sending = asyncio.create_task(pace(units, lambda unit: seen.send(unit, whip)))
        tasks = {asyncio.create_task(looked), sending}
        try:
            await asyncio.wait({sending, unoffered}, return_when=asyncio.FIRST_COMPLETED)
            if unoffered.done():
                raise PeerError(unoffered.result(), code=NOT_OFFERED)
            sending.result()
            await asyncio.sleep(LAST_FRAMES)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await whep.close()
    finally:
        await whip.close()
    return seen


def _finish(request: Request, seen: Seen) -> Report:
    """Decode what came back, read its numbers, write the files."""
    came: dict[int, float] = {}
    wanted = set(sheet.spread(len(seen.sent)))
    before: list[clip.Image] = []
    after: list[clip.Image] = []
    for image, arrival in _pictures(seen.units):
        number = clip.read(image)
        if number is None or number >= len(seen.sent) or number in came:
            continue
        came[number] = arrival
        if any(abs(number - near) <= 1 for near in wanted):
            wanted -= {number - 1, number, number + 1}
            before.append(clip.draw(number))
            after.append(image)
    report = _report(request, seen, came)
    if after:
        words = ["before: what was sent", f"after: model {request.model} {request.params or ''}"]
        picture_file = request.folder / "demo.png"
        sheet.write_png(picture_file, sheet.contact_sheet(before, after, words))
        report.picture = str(picture_file)
        video_file = request.folder / "demo.mp4"
        write_file(video_file, _on_one_line(seen.units))
        report.video = str(video_file)
    return report


def _on_one_line(units: Sequence[AccessUnit]) -> list[AccessUnit]:
    """Picture and sound on a line of time that begins at 0.

    RTP counts each from a number of its own. What took the shortest way shows how far each
    track's count is from the moment of arrival.
    """
    apart = {
        video: min(
            (
                unit.pts - round(unit.arrival * VIDEO_CLOCK)
                for unit in units
                if unit.is_video is video
            ),
            default=0,
        )
        for video in (True, False)
    }
    placed = [replace(unit, pts=unit.pts - apart[unit.is_video]) for unit in units]
    begin = min((unit.pts for unit in placed), default=0)
    return [replace(unit, pts=unit.pts - begin) for unit in placed]


def _pictures(units: Sequence[AccessUnit]) -> Iterator[tuple[clip.Image, float]]:
    """Each picture, RGB, with its unit's arrival; what cannot be decoded is left out."""
    decoder = Decoder()
    for unit in units:
        if not unit.is_video:
            continue
        try:
            pictures = decoder.decode(unit)
        except ParseError:
            continue
        for picture in pictures:
            yield picture.to_array("rgb24", picture.size), unit.arrival


def _report(request: Request, seen: Seen, came: dict[int, float]) -> Report:
    delays = sorted((arrival - seen.sent[number]) * 1000 for number, arrival in came.items())
    expected = len(seen.sent) - min(came, default=len(seen.sent))
    span = max(came.values(), default=0.0) - min(came.values(), default=0.0)
    report = Report(
        model=request.model,
        frames_in=len(seen.sent),
        frames_out=len(came),
        fps=round((len(came) - 1) / span, 1) if span > 0 else 0.0,
        audio_packets_out=sum(not unit.is_video for unit in seen.units),
        delay_p50_ms=_percentile(delays, 0.5),
        delay_p95_ms=_percentile(delays, 0.95),
        log=str(request.folder / LOG),
        state=seen.states[-1] if seen.states else "",
        load=round(os.getloadavg()[0], 1),
        cores=os.cpu_count() or 0,
        first_picture_ms=(round((min(came.values()) - seen.sent[0]) * 1000, 1) if came else None),
    )
    report.passed = len(came) >= ENOUGH * expected and len(came) >= len(seen.sent) / 2
    return report


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 1)


def text(report: Report) -> str:
    if not report.frames_out:
        state = f"; the stream was last {report.state}" if report.state else ""
        return f"  nothing came back of {report.frames_in} frames{state}\n  log       {report.log}"
    lines = [
        "",
        f"  frames    {report.frames_in} in, {report.frames_out} out, {report.fps} a second",
        f"  sound     {report.audio_packets_out} packets out",
        f"  delay     p50 {report.delay_p50_ms} ms, p95 {report.delay_p95_ms} ms, end to end",
        f"  first     picture {report.first_picture_ms} ms after the first frame was sent",
        f"  clip      {report.video}",
        f"  picture   {report.picture}",
    ]
    if not report.passed:
        lines += [f"  state     {report.state}"] if report.state else []
        lines += [f"  log       {report.log}", f"  too little came back{_why(report)}"]
    return "\n".join([*lines, ""])


def _why(report: Report) -> str:
    if report.load <= report.cores:
        return ""
    return f": {report.load} processes wanted the {report.cores} cores of this machine"


def _say(words: str) -> None:
    print(f"  {words}", flush=True)


def _silent(_: str) -> None:
    pass
