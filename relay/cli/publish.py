"""``relay publish FILE``: a file as a live stream, by WHIP."""

from __future__ import annotations

import asyncio
import json
import ssl as tls
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import uvloop

from relay.cli import address
from relay.cli.lookout import Place, check_kind, hint, look, state_now
from relay.cli.pace import Pacer, endless, read_ahead
from relay.cli.persistence import TRIED_FOR, Persistence, is_final, passes
from relay.cli.role import StopSignals
from relay.config import WebRtc
from relay.errors import PeerError, PeerRefused
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhipClient
from relay.protocols.webrtc.peer import PeerState
from relay.worker.file import FileSource

NOT_OFFERED: Final = "not_offered"
CONSENT: Final = 6.0
"""Seconds without a sign of life from the gateway until it is given up."""
LOOK: Final = 0.5
"""Seconds between two looks at whether one that says nothing is there at all."""


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
    insecure: bool = False
    cacert: Path | None = None
    wait: bool = False

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
        RelayError: no such file, or no WHIP address; the gateway refused or ended it, in its
            words; or nobody served it.
    """
    address.check(request.to)
    check_kind(request.to, "whip")
    source = FileSource(request.file)
    sent = uvloop.run(publish(request, source))
    told = {"file": str(request.file), "frames": sent, "url": request.to}
    print(json.dumps(told) if request.as_json else f"sent {sent} frames to {request.to}")
    return 0


class _Heard:
    """What the gateway tells of the stream, printed where a person reads it."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._served = False
        self._last = ""
        self.unoffered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why a stream that was never served will not be."""

    def __call__(self, words: str) -> None:
        if not words or words == self._last:
            return
        self._served = self._served or words.startswith("live")
        self._last = words
        if not self._quiet:
            _say(words)

    def tell_unoffered(self, words: str) -> None:
        """Once served, it was offered: whoever did comes back, or another one."""
        if not self._served and not self.unoffered.done():
            self.unoffered.set_result(words)

    def check(self, frames: int) -> None:
        """
        Raises:
            PeerError: ``not_served``: a gateway of ours that never had it served.
        """
        if self._last and not self._served:
            raise PeerError(
                f"sent {frames} frames, but nobody served the stream: {self._last}",
                code="not_served",
            )


class _Outlet:
    """The source's pictures, to whichever connection there is; what comes between is dropped.

    Attributes:
        frames: pictures that a connection took.
    """

    def __init__(self, client: WhipClient, source: FileSource) -> None:
        self.frames = 0
        self._source = source
        self.take(client)

    def take(self, client: WhipClient) -> None:
        self.client = client
        client.on_keyframe_request = self._source.request_keyframe

    def send(self, unit: AccessUnit) -> None:
        self.frames += unit.is_video and self.client.peer.state is PeerState.CONNECTED
        self.client.send(unit)


async def publish(request: Request, source: FileSource) -> int:
    """Returns the number of pictures sent; raises like ``run``."""
    signals = StopSignals()
    ssl = address.tls_of(insecure=request.insecure, cacert=request.cacert)
    outlet = _Outlet(await _connect(request, source.has_audio, ssl), source)
    persistence = Persistence(time.monotonic())
    place = Place.of(request.to)
    if not request.as_json:
        how = "as it is" if source.copies_video else "transcoded"
        _say(f"publishing {request.file} ({how}) to {request.to}")
        if place is not None:
            _say(f"watch it at {place.watch}")
    heard = _Heard(quiet=request.as_json)
    pacer = Pacer(_units(request, source), outlet.send)
    sending = asyncio.create_task(pacer.run())
    asked = asyncio.create_task(signals.asked.wait())
    over = {sending, asked}
    try:
        while why := await _serve(request, outlet.client, over, heard, ssl):
            await outlet.client.close()
            again = _come_back(request, source, why, over, persistence, ssl)
            if (client := await again) is None:
                break
            outlet.take(client)
            pacer.go_back()  # so that its viewers need not wait for the next key frame
        if sending.done():
            sending.result()
            if why:
                raise PeerError(f"{request.file} ended without a connection: {why}")
        if place is not None and not why:
            heard(await state_now(place, token=request.token, ssl=ssl))
    finally:
        await _cancelled(over)
        await outlet.client.close()
    heard.check(outlet.frames)
    return outlet.frames


async def _serve(
    request: Request,
    client: WhipClient,
    over: set[asyncio.Task[Any]],
    heard: _Heard,
    ssl: tls.SSLContext | bool,
) -> str:
    """One connection, until it is lost: why; "" when one of ``over`` is done before.

    Raises:
        PeerError: the gateway ended the stream, or nobody serves it.
    """
    place = Place.of(request.to)
    ended = asyncio.create_task(client.wait_closed())
    mine: set[asyncio.Task[Any]] = {ended, asyncio.create_task(_look_after(client))}
    if place is not None:
        looked = look(place, heard, heard.tell_unoffered, token=request.token, ssl=ssl)
        mine.add(asyncio.create_task(looked))
    enders = {*over, ended, *(() if request.wait else (heard.unoffered,))}
    try:
        await asyncio.wait(enders, return_when=asyncio.FIRST_COMPLETED)
        if heard.unoffered in enders and heard.unoffered.done():
            why = heard.unoffered.result()
            raise PeerError(f"{why} (--wait goes on all the same)", code=NOT_OFFERED)
        if any(task.done() for task in over):
            return ""
        word = await client.last_word()
        if is_final(word):
            raise PeerError(f"the gateway ended the stream: {word}", code="ended")
        return word or ended.result()
    finally:
        await _cancelled(mine)


async def _look_after(client: WhipClient) -> None:
    """Have it end as soon as it is sure that the gateway is gone, not only when it is likely."""
    while True:
        await asyncio.sleep(LOOK)
        await client.check()


async def _come_back(
    request: Request,
    source: FileSource,
    why: str,
    over: set[asyncio.Task[Any]],
    persistence: Persistence,
    ssl: tls.SSLContext | bool,
) -> WhipClient | None:
    """Connect again, as often as it takes; None when one of ``over`` is done before.

    Raises:
        PeerError: it is refused for good, or was tried for long.
    """
    why, said = f"the connection is lost: {why}", ""
    while (delay := persistence.wait(time.monotonic())) is not None:
        if why != said and not request.as_json:
            how = "still trying" if said else f"trying again for up to {TRIED_FOR:.0f} s"
            _say(f"{why}; {how}")
        said = why
        await asyncio.wait(over, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        if any(task.done() for task in over):
            return None
        trying = asyncio.create_task(_connect(request, source.has_audio, ssl, known=True))
        try:
            await asyncio.wait({*over, trying}, return_when=asyncio.FIRST_COMPLETED)
            if not trying.done():
                return None
            client = trying.result()
        except PeerError as error:
            if not passes(error):
                raise
            why = str(error)
        else:
            persistence.connected(time.monotonic())
            if not request.as_json:
                _say("connected again")
            return client
        finally:
            if not trying.done():
                await _cancelled({trying})
    raise PeerError(f"{why}; tried again for {TRIED_FOR:.0f} s", code="ended")


async def _cancelled(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _connect(
    request: Request, audio: bool, ssl: tls.SSLContext | bool, *, known: bool = False
) -> WhipClient:
    host = "::" if "//[" in request.to else "0.0.0.0"
    settings = WebRtc(host=host, port=0, consent_timeout=CONSENT)
    try:
        return await WhipClient.connect(
            request.url, token=request.token, audio=audio, settings=settings, ssl=ssl
        )
    except PeerError as error:
        if told := hint(request.to, "whip", str(error)):
            raise PeerRefused(f"{error}{told}", code=error.code) from error
        raise address.unreached(request.to, error, known=known) from error


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _units(request: Request, source: FileSource) -> AsyncIterator[AccessUnit]:
    return read_ahead(endless(source.units) if request.loop else source.units())
