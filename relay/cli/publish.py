"""``relay publish FILE``: a file as a live stream, by WHIP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop

from relay.cli.pace import endless, pace, read_ahead
from relay.cli.role import StopSignals
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhipClient
from relay.worker.file import FileSource


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    file: Path
    to: str
    token: str | None
    loop: bool
    model: str | None = None
    params: dict[str, Any] | None = None
    as_json: bool = False

    @property
    def url(self) -> str:
        query: dict[str, str] = {}
        if self.model:
            query["pipeline"] = self.model
        if self.params is not None:
            query["params"] = json.dumps(self.params)
        if not query:
            return self.to
        return f"{self.to}{'&' if '?' in self.to else '?'}{urlencode(query)}"


def run(request: Request) -> int:
    """Publish until the file or a signal ends it.

    Raises:
        RelayError: no such file, or the gateway refused, in its words.
    """
    source = FileSource(request.file)
    sent = uvloop.run(_publish(request, source))
    told = {"file": str(request.file), "frames": sent, "url": request.to}
    print(json.dumps(told) if request.as_json else f"sent {sent} frames to {request.to}")
    return 0


async def _publish(request: Request, source: FileSource) -> int:
    signals = StopSignals()
    client = await WhipClient.connect(request.url, token=request.token, audio=source.has_audio)
    if not request.as_json:
        how = "as it is" if source.copies_video else "transcoded"
        print(f"publishing {request.file} ({how}) to {request.to}", file=sys.stderr)
    client.on_keyframe_request = source.request_keyframe
    frames = 0

    def send(unit: AccessUnit) -> None:
        nonlocal frames
        frames += unit.is_video
        client.send(unit)

    sending = asyncio.create_task(pace(_units(request, source), send))
    asked = asyncio.create_task(signals.asked.wait())
    try:
        await asyncio.wait({sending, asked}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
    finally:
        for task in (sending, asked):
            task.cancel()
        await asyncio.wait({sending, asked})
        await client.close()
    return frames


def _units(request: Request, source: FileSource) -> AsyncIterator[AccessUnit]:
    return read_ahead(endless(source.units) if request.loop else source.units())
