"""How long does it take to ask many orchestrators at once, and what does each cost?

``python -m bench.discovery [ORCHESTRATORS]``: 100 orchestrators, each on an address of its own
(all of 127.0.0.0/8 is this machine) in a process of its own, answer GetOrchestrator after a
seeded 20 to 200 ms. A round asks all of them, as a gateway's refresh does, over TLS and over
plain text in turn. It is held to the slowest's delay and 150 ms more.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from bench.report import report
from relay.config import Gateway
from relay.gateway.sellers import Sellers
from relay.protocols.trickle.client import open_session
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.certificate import node_certificate, server_context
from relay.rpc.client import GET_ORCHESTRATOR
from relay.rpc.front import Front
from relay.rpc.orchestrator_info import OrchestratorInfo

ROUNDS: Final = 7
SEED: Final = 4
FASTEST, SLOWEST = 0.020, 0.200
MARGIN: Final = 0.150


def delays(count: int) -> list[float]:
    """Seconds that each takes to answer; one of them is the slowest there may be."""
    chance = random.Random(SEED)
    result = [SLOWEST, *(chance.uniform(FASTEST, SLOWEST) for _ in range(count - 1))]
    chance.shuffle(result)
    return result


def address(number: int) -> str:
    return f"127.9.{number // 250}.{number % 250 + 1}"


def _offer(delay: float) -> Callable[[bytes], Awaitable[bytes]]:
    answer = OrchestratorInfo(
        transcoder="https://127.0.0.1:1",
        address=bytes(20),
        capabilities=Capabilities.live({"effects": ModelConstraint(warm=True, capacity=1)}),
        auth_token=AuthToken(bytes(32), "session", 1 << 40),
    ).serialise()

    async def offer(_: bytes) -> bytes:
        await asyncio.sleep(delay)
        return answer

    return offer


async def serve(count: int, scheme: str) -> None:
    """The orchestrators: prints their port, and serves until its input ends."""
    context: ssl.SSLContext | None = None
    if scheme == "https":
        with tempfile.TemporaryDirectory() as folder:
            context = server_context(*node_certificate(Path(folder), "127.0.0.1"))
    fronts, port = [], 0
    for number, delay in enumerate(delays(count)):
        front = Front(web.Application(), {GET_ORCHESTRATOR: _offer(delay)}, context)
        port = await front.start(address(number), port)
        fronts.append(front)
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for front in fronts:
        await front.stop(0.1)


@contextmanager
def orchestrators(count: int, scheme: str) -> Iterator[list[str]]:
    """Their addresses, while the block runs."""
    command = [sys.executable, "-m", "bench.discovery", "--serve", str(count), scheme]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        port = int(child.stdout.readline())
        try:
            yield [f"{scheme}://{address(number)}:{port}" for number in range(count)]
        finally:
            child.stdin.close()


async def ask(urls: list[str]) -> tuple[list[float], list[float]]:
    """Seconds of each round, and CPU seconds of each for one orchestrator."""
    took, cpu = [], []
    async with open_session() as http:
        settings = Gateway(orchestrators=urls)
        finder = Sellers(settings, http)._finder
        for number in range(1 + ROUNDS):
            began, used = time.perf_counter(), time.process_time()
            found = await finder.find(finder.request())
            seconds, spent = time.perf_counter() - began, time.process_time() - used
            if len(found.answers) != len(urls):
                raise SystemExit(f"only {len(found.answers)} answered: {found.failures}")
            if number:  # the first one loads what the others have
                took.append(seconds)
                cpu.append(spent / len(urls))
    return took, cpu


def main(count: int) -> int:
    bar = max(delays(count)) + MARGIN
    took: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}
    for scheme in ("https", "http"):
        with orchestrators(count, scheme) as urls:
            took[scheme], spent = uvloop.run(ask(urls))
        cpu[scheme] = statistics.median(spent)
        middle = statistics.median(took[scheme])
        print(
            f"{scheme:5} {count} orchestrators: {1e3 * middle:.0f} ms a round, "
            f"CPU {1e3 * cpu[scheme]:.2f} ms an orchestrator"
        )
    worst = max(statistics.median(rounds) for rounds in took.values())
    return report(
        "discovery",
        bars={f"a round in {1e3 * bar:.0f} ms": worst <= bar},
        ratio=worst / bar,
        against="the slowest orchestrator's delay and 150 ms",
        samples=[seconds / bar for rounds in took.values() for seconds in rounds],
        orchestrators=count,
        round_ms={name: round(1e3 * statistics.median(value)) for name, value in took.items()},
        cpu_ms_per_orchestrator={name: round(1e3 * value, 3) for name, value in cpu.items()},
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        uvloop.run(serve(int(sys.argv[2]), sys.argv[3]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("orchestrators", type=int, nargs="?", default=100)
        sys.exit(main(parser.parse_args().orchestrators))
