"""How many trickle streams does one core carry, and how long does a hop hold a byte back?

``python -m bench.trickle [STREAMS]``: each stream sends 30 pieces of 8 KB a second through a
server in a process of its own, as segments of one second. Held against a bare aiohttp handler
in the same process that sends each piece of a request's body back in its response: the same
bodies of one second, on one connection a stream, where trickle has a writer's and a reader's.
"""

from __future__ import annotations

import argparse
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

ROUNDS: Final = 5
SECONDS: Final = 8
SETTLED: Final = 2.0
"""Seconds after which all streams flow; what the server spends counts from then."""
RATE: Final = 30
SIZE: Final = 8192
WARM: Final = 10
LEAST: Final = 0.75
"""Streams a core, of those that the echo has."""
LATEST: Final = 2.0
"""The 95th percentile of a hop's delay, in those of the echo."""

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


async def pieces(begun: float, first: int, count: int) -> AsyncIterator[bytes]:
    """8 KB at a time, each with the time at which it was made.

    Args:
        begun: the loop's time of piece 0.
    """
    loop = asyncio.get_running_loop()
    for n in range(first, first + count):
        await asyncio.sleep(max(0.0, begun + n / RATE - loop.time()))
        yield struct.pack("!d", time.monotonic()).ljust(SIZE, b"\0")


def begin(share: float) -> float:
    """When a stream begins: over one second they all do, as streams that come by themselves."""
    return asyncio.get_running_loop().time() + share


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
        begun = begin(share)
        for second in range(SECONDS):
            segment = publisher.begin()
            async for data in pieces(begun, second * RATE, RATE):
                segment.write(data)
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
    clock, begun = Clock(delays), begin(share)
    for second in range(SECONDS):
        data = pieces(begun, second * RATE, RATE)
        async with session.post(f"{base}/echo", data=data) as response:
            async for piece in response.content.iter_any():
                clock.feed(piece)


async def measure(stream: _Stream, base: str, streams: int) -> tuple[float, list[float]]:
    """CPU seconds a second and stream of the server, and every delay in seconds."""
    delays: list[float] = []

    async def clock(session: aiohttp.ClientSession) -> float:
        async with session.get(f"{base}/spent") as response:
            return float(await response.json())

    async with open_session() as session:
        flowing = asyncio.gather(
            *(stream(session, base, n / streams, delays) for n in range(streams))
        )
        await asyncio.sleep(SETTLED)
        before = await clock(session)
        await asyncio.sleep(SECONDS - SETTLED)
        after = await clock(session)
        await flowing
    return (after - before) / (SECONDS - SETTLED) / streams, delays


async def compare(base: str, streams: int) -> int:
    delays: dict[str, list[float]] = {"trickle": [], "echo": []}
    shares: list[float] = []
    lates: list[float] = []
    costs: list[float] = []
    await measure(by_trickle, base, streams)
    for _ in range(ROUNDS):
        bare, by_one = await measure(by_echo, base, streams)
        cost, by_other = await measure(by_trickle, base, streams)
        delays["echo"] += by_one
        delays["trickle"] += by_other
        shares.append(bare / cost)
        lates.append(percentile(by_other, 0.95) / percentile(by_one, 0.95))
        costs.append(cost)
    for name, values in delays.items():
        middle, late = statistics.median(values), percentile(values, 0.95)
        print(f"{name:8} {len(values)} pieces: {1e3 * middle:.2f} ms, p95 {1e3 * late:.2f} ms")
    share, late = statistics.median(shares), statistics.median(lates)
    cost = statistics.median(costs)
    print(f"streams a core: {1 / cost:.0f}, {share:.2f} of the echo's")
    return report(
        "trickle",
        bars={
            f"streams a core: {LEAST:g} of the echo's": share >= LEAST,
            f"the hop's p95: {LATEST:g} of the echo's": late <= LATEST,
            "every piece came": len(delays["trickle"]) == len(delays["echo"]),
        },
        ratio=share,
        against="streams a core of a bare aiohttp echo of the same bytes",
        samples=shares,
        streams=streams,
        streams_a_core=round(1 / cost),
        hop_p50_ms=round(1e3 * statistics.median(delays["trickle"]), 3),
        hop_p95_ms=round(1e3 * percentile(delays["trickle"], 0.95), 3),
        p95_ratio=round(late, 3),
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
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("streams", type=int, nargs="?", default=200)
        sys.exit(main(parser.parse_args().streams))
