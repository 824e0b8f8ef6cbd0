"""Smoke tests: a test picture with a tone, made by ffmpeg and sent to an address for a while.

RTMP targets get it from ffmpeg itself; http and https ones are taken for WHIP endpoints,
and our own publisher brings it there.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from relay.errors import BadInput, NotOffered, RateLimited, RelayError
from relay.gateway.errands import Errands
from relay.media.mpegts import Demuxer
from relay.protocols.webrtc.client import WhipClient

log = logging.getLogger(__name__)

AT_ONCE: Final = 2
MAX_SECONDS: Final = 3600
GRACE: Final = 15.0
"""Seconds beyond its time after which a test is ended, whatever ffmpeg does."""
MAX_URL: Final = 2048
READ: Final = 64 << 10
TAIL: Final = 500
SCHEMES: Final = frozenset({"http", "https", "rtmp", "rtmps"})

PICTURE: Final = [
    "-hide_banner",
    "-loglevel",
    "error",
    "-nostdin",
    "-re",
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=1920x1080:rate=30",
    "-re",
    "-f",
    "lavfi",
    "-i",
    "sine=frequency=440:sample_rate=48000",
]
VIDEO: Final = [
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-profile:v",
    "baseline",
    "-pix_fmt",
    "yuv420p",
    "-b:v",
    "1M",
    "-maxrate",
    "1M",
    "-bufsize",
    "1M",
    "-g",
    "60",
    "-keyint_min",
    "60",
    "-sc_threshold",
    "0",
]
RTMP: Final = ["-c:a", "aac", "-b:a", "128k", "-ac", "2", "-f", "flv"]
WHIP: Final = ["-c:a", "libopus", "-b:a", "64k", "-ac", "2", "-f", "mpegts", "-flush_packets", "1"]


def check_target(url: str) -> str:
    """The scheme of an address that a test may be sent to.

    Raises:
        BadInput: code ``bad_stream_url``.
    """
    bad = len(url) > MAX_URL or any(char <= " " or char == "\x7f" for char in url)
    try:
        parts = urlsplit(url)
        if bad or not parts.hostname or parts.scheme not in SCHEMES:
            raise ValueError
    except ValueError:
        raise BadInput(
            f"stream_url must be an address of {', '.join(sorted(SCHEMES))}", code="bad_stream_url"
        ) from None
    return parts.scheme


class SmokeTests:
    """Those that run now; they end with the gateway.

    Args:
        program: ffmpeg's name or path.
    """

    def __init__(self, program: str = "ffmpeg") -> None:
        self._program = program
        self._running: set[asyncio.Task[None]] = set()
        # An ending runs on by itself: a test may be cancelled more than once meanwhile.
        self._endings = Errands("smoke tests")

    @property
    def running(self) -> int:
        return len(self._running)

    def start(self, url: str, seconds: float, *, token: str | None = None) -> None:
        """Begin one; returns at once.

        Args:
            seconds: how long, at most ``MAX_SECONDS``.
            token: the bearer token of a WHIP target.

        Raises:
            BadInput: no such target or time.
            NotOffered: there is no ffmpeg here; code ``no_ffmpeg``.
            RateLimited: as many as may run do; code ``smoke_tests_busy``.
        """
        scheme = check_target(url)
        if not 0 < seconds <= MAX_SECONDS:
            raise BadInput(f"a test lasts 0 to {MAX_SECONDS} seconds", code="bad_duration")
        program = shutil.which(self._program)
        if program is None:
            raise NotOffered("smoke tests need ffmpeg, which is not installed", code="no_ffmpeg")
        if len(self._running) >= AT_ONCE:
            raise RateLimited(
                f"{AT_ONCE} smoke tests run already", code="smoke_tests_busy", retry_after=10
            )
        work = self._whip if scheme.startswith("http") else self._rtmp
        command = [program, *PICTURE, "-t", f"{seconds:g}", *VIDEO]
        task = asyncio.create_task(
            self._bounded(work(command, url, token), url, seconds), name="smoke test"
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._endings.finish()

    async def _bounded(self, work: Coroutine[Any, Any, None], url: str, seconds: float) -> None:
        where = urlsplit(url).hostname
        try:
            async with asyncio.timeout(seconds + GRACE):
                await work
        except TimeoutError:
            log.warning("the smoke test to %s did not end by itself", where)
        except (RelayError, OSError) as error:
            log.warning("the smoke test to %s failed: %s", where, error)
        else:
            log.info("the smoke test to %s is over", where)

    async def _rtmp(self, command: list[str], url: str, _: str | None) -> None:
        await self._run([*command, *RTMP, url], None)

    async def _whip(self, command: list[str], url: str, token: str | None) -> None:
        client = await WhipClient.connect(url, token=token)
        try:
            await self._run([*command, *WHIP, "pipe:1"], client)
        finally:
            self._endings.begin(client.close())

    async def _run(self, command: list[str], client: WhipClient | None) -> None:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, stdin=nothing, stdout=nothing if client is None else pipe, stderr=pipe
        )
        told = asyncio.create_task(_tail(process.stderr))
        try:
            if client is not None and process.stdout is not None:
                ended = asyncio.create_task(client.wait_closed())
                sending = asyncio.create_task(_send(process.stdout, client))
                try:
                    await asyncio.wait({ended, sending}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ended.cancel()
                    sending.cancel()
                    await asyncio.gather(ended, sending, return_exceptions=True)
            else:
                await process.wait()
        finally:
            self._endings.begin(_finish(process, told))


async def _send(output: asyncio.StreamReader, client: WhipClient) -> None:
    demuxer = Demuxer()
    while data := await output.read(READ):
        for unit in demuxer.feed(data, time.monotonic()):
            client.send(unit)


async def _tail(errors: asyncio.StreamReader | None) -> str:
    """The last words of what a process says, however much that is."""
    kept = b""
    while errors is not None and (data := await errors.read(READ)):
        kept = (kept + data)[-TAIL:]
    return kept.decode("utf-8", "replace").strip()


async def _finish(process: asyncio.subprocess.Process, told: asyncio.Task[str]) -> None:
    """End a process and take what it has left to say."""
    if process.returncode is None:
        process.kill()
    while process.stdout is not None and await process.stdout.read(READ):
        pass
    await process.wait()
    if words := await told:
        log.warning("the smoke test's ffmpeg says: %s", words)
