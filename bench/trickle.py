"""What does relaying one trickle channel cost, and how long does it hold a byte back?

``python -m bench.trickle [STREAMS]``: each stream sends 30 pieces of 8 KB a second through a
server in a process of its own, as segments of one second. Held against a bare aiohttp handler
in the same process that sends each piece of a request's body back in its response (one
connection a stream, where trickle has a writer's and a reader's).
"""

from __future__ import annotations

import asyncio
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import aiohttp
import uvloop
from aiohttp import web

from bench.report import percentile, report
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher
from relay.protocols.trickle.server import TrickleServer
from relay.protocols.trickle.subscriber import TrickleSubscriber

ROUNDS: Final = 3
SECONDS: Final = 2
RATE: Final = 30
SIZE: Final = 8192
WARM: Final = 10
MOST: Final = 2.5

_Stream = Callable[[aiohttp.ClientSession, str, float, list[float]], Coroutine[Any, Any, None]]


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for data in request.content.iter_any():
        await response.write(data)
    await response.write_eof()
    return response


async def spent(_: web.Request) -> web.Response:
    return web.json_response(time.process_time())


async def serve() -> None:
    """The measured process: prints its port, and serves until its input ends."""
    server = TrickleServer(base_path="/t/", autocreate=True)
    app = web.Application()
    server.attach(app)
    app.router.add_post("/echo", echo)
    app.router.add_get("/spent", spent)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


async def pieces(share: float) -> AsyncIterator[bytes]:
    """8 KB at a time, each with the time at which it was made.

    Args:
        share: how much of a piece's time this stream is later than the first one.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time() + share / RATE
    for n in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, begun + n / RATE - loop.time()))
        yield struct.pack("!d", time.monotonic()).ljust(SIZE, b"\0")


class Clock:
    """Takes the times out of a flow of pieces, however it is cut, but for the first few."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays
        self._rest = b""
        self._skip = WARM

    def feed(self, data: bytes) -> None:
        now = time.monotonic()
        self._rest += data
        while len(self._rest) >= SIZE:
            (made,) = struct.unpack_from("!d", self._rest)
            if self._skip:
                self._skip -= 1
            else:
                self._delays.append(now - made)
            self._rest = self._rest[SIZE:]


async def by_trickle(
    session: aiohttp.ClientSession, base: str, share: float, delays: list[float]
) -> None:
    url = f"{base}/t/bench-{share:.6f}"
    async with session.post(url, headers={"Expect-Content": "video/MP2T"}):
        pass
    publisher = TricklePublisher(session, url)
    await publisher.open()

    async def send() -> None:
        segment, count = publisher.begin(), 0
        async for data in pieces(share):
            if count and count % RATE == 0:
                segment.end()
                segment = publisher.begin()
            segment.write(data)
            count += 1
        segment.end()
        await segment.wait_answered()
        await publisher.close()

    async def receive() -> None:
        clock = Clock(delays)
        async for segment in TrickleSubscriber(session, url, start=0):
            async for data in segment:
                clock.feed(data)

    await asyncio.gather(send(), receive())


async def by_echo(
    session: aiohttp.ClientSession, base: str, share: float, delays: list[float]
) -> None:
    clock = Clock(delays)
    async with session.post(f"{base}/echo", data=pieces(share)) as response:
        async for data in response.content.iter_any():
            clock.feed(data)


async def measure(stream: _Stream, base: str, streams: int) -> tuple[float, list[float]]:
    """CPU seconds a second and stream of the server, and every delay in seconds."""
    delays: list[float] = []

    async def clock(session: aiohttp.ClientSession) -> float:
        async with session.get(f"{base}/spent") as response:
            return float(await response.json())

    async with open_session() as session:
        before = await clock(session)
        await asyncio.gather(*(stream(session, base, n / streams, delays) for n in range(streams)))
        after = await clock(session)
    return (after - before) / SECONDS / streams, delays


async def compare(base: str, streams: int) -> int:
    delays: dict[str, list[float]] = {"trickle": [], "echo": []}
    ratios: list[float] = []
    costs: list[float] = []
    await measure(by_trickle, base, streams)
    for _ in range(ROUNDS):
        bare, by_one = await measure(by_echo, base, streams)
        cost, by_other = await measure(by_trickle, base, streams)
        delays["echo"] += by_one
        delays["trickle"] += by_other
        ratios.append(cost / bare)
        costs.append(cost)
    for name, values in delays.items():
        middle, late = statistics.median(values), percentile(values, 0.99)
        print(f"{name:8} {len(values)} pieces: {1e3 * middle:.2f} ms, p99 {1e3 * late:.2f} ms")
    ratio = statistics.median(ratios)
    middle = statistics.median(delays["trickle"])
    return report(
        "trickle",
        passed=ratio <= MOST and len(delays["trickle"]) == len(delays["echo"]),
        ratio=ratio,
        against="CPU of a bare aiohttp echo of the same pieces",
        samples=ratios,
        streams=streams,
        cpu_per_stream=round(statistics.median(costs), 5),
        latency_ms=round(1e3 * middle, 3),
        latency_p99_ms=round(1e3 * percentile(delays["trickle"], 0.99), 3),
        latency_ratio=round(middle / statistics.median(delays["echo"]), 3),
    )


def main(streams: int) -> int:
    command = [sys.executable, "-m", "bench.trickle", "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        base = f"http://127.0.0.1:{int(child.stdout.readline())}"
        try:
            return uvloop.run(compare(base, streams))
        finally:
            child.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        uvloop.run(serve())
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
