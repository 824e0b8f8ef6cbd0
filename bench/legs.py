"""The two trickle legs of a gateway by themselves, over TLS, a process each side.

- ``python -m bench.legs serve``: a trickle server; prints its address.
- ``python -m bench.legs both URL STREAMS [--no-sound]``: pictures and sound to segments to the
  server, and from the same channel back; prints ``ready``. This is the side that is measured.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from aiohttp import ClientSession, web

from bench.source import endless, has_sound, make_clip
from relay import memory
from relay.cli.pace import pace
from relay.media.mpegts import Demuxer
from relay.media.segmenter import MAX_AGE, Cut, Segmenter
from relay.media.unit import AccessUnit
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher
from relay.protocols.trickle.server import TrickleServer
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.protocols.trickle.upload import SegmentWriter
from relay.rpc import records
from relay.rpc.certificate import self_signed, server_context


async def serve() -> None:
    app = web.Application()
    TrickleServer(base_path="/t/", autocreate=True).attach(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    with tempfile.TemporaryDirectory() as folder:
        cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        for path, content in zip(
            (cert, key), self_signed("127.0.0.1", datetime.now(UTC)), strict=True
        ):
            path.write_bytes(content)
        context = server_context(cert, key, alpn=("http/1.1",))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    print(f"https://127.0.0.1:{runner.addresses[0][1]}/t", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


class Leg:
    """One stream, there and back."""

    def __init__(self, session: ClientSession, url: str, clip: list[AccessUnit]) -> None:
        self.came = 0
        self._clip = clip
        self._publisher = TricklePublisher(session, url, ssl=False, max_age=MAX_AGE)
        self._subscriber = TrickleSubscriber(session, url, start=0, ssl=False, max_behind=MAX_AGE)
        self._segmenter = Segmenter(audio=has_sound(clip))
        self._demuxer = Demuxer()
        self._writer: SegmentWriter | None = None

    async def run(self) -> None:
        try:
            await self._publisher.open()
            await asyncio.gather(self._receive(), pace(endless(self._clip), self._send))
        finally:
            await self._subscriber.close()
            await self._publisher.close()

    def _send(self, unit: AccessUnit) -> None:
        for step in self._segmenter.push(unit, unit.arrival):
            match step:
                case Cut():
                    if self._writer is not None:
                        self._writer.end()
                    self._writer = self._publisher.begin()
                case bytes(data) if self._writer is not None:
                    self._writer.write(data, 1)

    async def _receive(self) -> None:
        async for segment in self._subscriber:
            await segment.pour(self._take)

    def _take(self, data: bytes) -> None:
        self.came += len(self._demuxer.feed(data, time.monotonic()))


async def both(base: str, streams: int, *, sound: bool) -> None:
    memory.keep_trimmed()
    records.read_by_record()
    clip = make_clip(audio=sound)
    async with open_session() as session:
        legs, running = [], []
        for number in range(streams):
            url = f"{base}/leg-{number}"
            async with session.post(url, headers={"Expect-Content": "video/MP2T"}, ssl=False):
                pass
            legs.append(Leg(session, url, clip))
            running.append(asyncio.create_task(legs[-1].run()))
            await asyncio.sleep(1 / 30 / streams)
        while not all(leg.came for leg in legs):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        match sys.argv[1:]:
            case ["serve"]:
                runner.run(serve())
            case ["both", url, streams, *rest]:
                runner.run(both(url, int(streams), sound="--no-sound" not in rest))


if __name__ == "__main__":
    main()
