"""What a second egress process on a second core adds.

The gateway's egress on one core serves a crowd alone, or half of it while a process on the other
core serves the other half: the same pictures (720p30 at 2 Mbit/s), each sent as soon as the one
before has left. Viewers are connected by ICE, DTLS and SRTP. What they are sent is dropped in
the kernel by a filter on each socket, behind the sender's own work, so that nobody drains on
the cores that are measured; some are drained, and tell what came.

Told beside it: the one process while the other core is kept busy with nothing. Where two cores
share what they have, one is quicker alone than any process can be beside another.

Then what it costs: a datagram of a viewer that is handed on, and the delay of a picture.

``python -m bench.scale``
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.crowd import built
from bench.crowd.audience import PATIENT, Audience, Watcher
from bench.report import percentile, report
from bench.servers import server
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import ReceiverReport, ReportBlock, compound

BAR: Final = 1.7
DELIVERED: Final = 0.999
SAMPLED: Final = 1
"""Viewers of each group that are drained and counted: on two cores, where the second process is."""
REPORTS: Final = 40
"""Of each viewer, to measure what one costs."""
PACED: Final = 6.0
"""Seconds of pictures at their own pace, to measure the delay."""
_SO_ATTACH_FILTER: Final = 26
_SO_TIMESTAMPNS: Final = 35
_FILTER: Final = (  # of a UDP socket: the header is in front, 8 bytes
    (0x30, 0, 0, 8),  # the first byte of the datagram
    (0x35, 0, 3, 128),  # STUN and DTLS are taken
    (0x30, 0, 0, 9),
    (0x35, 0, 2, 192),
    (0x35, 1, 0, 224),  # RTCP is taken
    (0x06, 0, 0, 0xFFFFFFFF),
    (0x06, 0, 0, 0),  # media is dropped
)


def drop_media(descriptor: int) -> None:
    """Have the kernel drop what is media, before it is queued."""
    program = b"".join(struct.pack("=HBBI", *step) for step in _FILTER)
    held = ctypes.create_string_buffer(program, len(program))
    given = struct.pack("@HP", len(_FILTER), ctypes.addressof(held))
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, given)


class Group:
    """Viewers at one place."""

    def __init__(self, library: Path, size: int, url: str) -> None:
        self.audience = Audience(library, size, sound=False, thrown=0)
        self._url = url

    async def join(self) -> None:
        await self.audience.join(self._url)

    def thin(self) -> None:
        """Drain some of them only, and have none report. Media has come to all."""
        if self.audience.started() < len(self.audience.watchers):
            raise RuntimeError("media does not reach all viewers")
        for watcher in self.audience.watchers[SAMPLED:]:
            drop_media(watcher.seat.fd)
        # What they do is done on the core of the second process, where there are two.
        self.audience.quiet = True

    def counts(self) -> list[tuple[int, int]]:
        return self.audience.counts()[:SAMPLED]

    async def report(self) -> int:
        """Send receiver reports, some at a time; how many."""
        sent = 0
        for _ in range(REPORTS):
            for watcher in self.audience.watchers:
                flow = watcher.seat.video
                block = ReportBlock(flow.ssrc, 0, 0, flow.highest, 30, 0, 0)
                assert watcher.peer.video is not None
                watcher.peer.send_rtcp(
                    compound([ReceiverReport(watcher.peer.video.ssrc, (block,))])
                )
                sent += 1
                if sent % 50 == 0:
                    await asyncio.sleep(0.002)
        return sent


class Solo:
    """One viewer whose pictures are timed by the kernel, as they reach its socket.

    Attributes:
        arrived: ns since the epoch of each picture's last packet, in order.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._watcher = Watcher(peers, None)
        self.arrived: list[int] = []

    async def join(self, http: aiohttp.ClientSession, url: str) -> None:
        await self._watcher.connect(http, url)
        self._sock = socket.socket(fileno=os.dup(self._peers.udp.fileno()))
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._peers.udp.fileno())
        loop.add_reader(self._sock.fileno(), self._read)

    def _read(self) -> None:
        video = self._watcher.peer.video
        assert video is not None
        while True:
            try:
                data, told, _, _ = self._sock.recvmsg(2048, 64)
            except BlockingIOError:
                return
            if len(data) > 12 and data[0] >> 6 == 2 and data[1] == 0x80 | video.payload_type:
                seconds, nanoseconds = struct.unpack("@qq", told[0][2][:16])
                self.arrived.append(seconds * 1_000_000_000 + nanoseconds)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()
        await self._peers.close()


class Bench:
    def __init__(self, base: str, http: aiohttp.ClientSession) -> None:
        self._base = base
        self._http = http

    async def ask(self, method: str, word: str, **query: Any) -> Any:
        async with self._http.request(method, f"{self._base}/{word}", params=query) as answer:
            if answer.status != 200:
                raise RuntimeError(f"the sender: {answer.status} {await answer.text()}")
            return await answer.json()

    async def flat(self, rendition: str, groups: list[Group], seconds: float) -> dict[str, Any]:
        before = [pair for group in groups for pair in group.counts()]
        told: dict[str, Any] = await self.ask("POST", "flat", rendition=rendition, seconds=seconds)
        await asyncio.sleep(0.1)
        after = [pair for group in groups for pair in group.counts()]
        pairs = list(zip(before, after, strict=True))
        sent = sum(b[0] - a[0] for a, b in pairs)
        told["delivered"] = sum(b[1] - a[1] for a, b in pairs) / max(sent, 1)
        told["rate"] = sum(told["packets"]) / told["wall"]
        used = zip(told["packets"], told["cpu"], strict=True)
        told["capacity"] = sum(packets / cpu for packets, cpu in used if packets)
        return told

    async def cost(self, group: Group) -> tuple[float, float, int]:
        """CPU seconds of the gateway and of the process for a report, and reports handed on."""
        began = time.monotonic()
        first = await self.ask("GET", "used")
        sent = await group.report()
        await asyncio.sleep(0.1)
        second = await self.ask("GET", "used")
        took = time.monotonic() - began
        await asyncio.sleep(took)
        third = await self.ask("GET", "used")
        gateway, process = (
            (second["cpu"][at] - first["cpu"][at] - (third["cpu"][at] - second["cpu"][at])) / sent
            for at in (0, 1)
        )
        return gateway, process, second["forwarded"] - first["forwarded"]

    async def delays(self) -> tuple[list[float], list[float]]:
        """Seconds from the sender's call to the viewer's socket, here and in the process."""
        solos = []
        for place in ("here", "there"):
            solo = Solo(await Peers.open(PATIENT))
            await solo.join(self._http, f"{self._base}/whep?to=solo-{place}")
            solos.append(solo)
        await self.ask("POST", "paced", rendition="solo", seconds=1.0)
        await asyncio.sleep(0.3)
        for solo in solos:
            solo.arrived.clear()
        given = await self.ask("POST", "paced", rendition="solo", seconds=PACED)
        await asyncio.sleep(0.3)
        found = []
        for solo in solos:
            if len(solo.arrived) != len(given):
                raise RuntimeError(f"{len(solo.arrived)} of {len(given)} pictures came")
            found.append([(b - a) / 1e9 for a, b in zip(given, solo.arrived, strict=True)])
            await solo.close()
        return found[0], found[1]


async def measure(arguments: argparse.Namespace, library: Path) -> int:
    viewers, seconds = arguments.viewers, arguments.seconds
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("this bench needs two cores", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {cores[0]})
    async with AsyncExitStack() as stack:
        serving = await stack.enter_async_context(server("bench.crowd.shared", str(cores[-1])))
        os.sched_setaffinity(0, cores[1:-1] or cores[-1:])
        stack.callback(os.sched_setaffinity, 0, cores)
        if not serving.url:
            raise RuntimeError("the sender did not start; what it said stands above")
        timeout = aiohttp.ClientTimeout(total=120)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        bench = Bench(serving.url, http)
        here, there = await bench.delays()
        groups: dict[str, Group] = {}
        for place, size in (
            ("one", viewers),
            ("two-here", viewers // 2),
            ("two-there", viewers // 2),
        ):
            groups[place] = Group(library, size, f"{serving.url}/whep?to={place}")
            stack.push_async_callback(groups[place].audience.close)
            await groups[place].join()
        alone, both = [groups["one"]], [groups["two-here"], groups["two-there"]]
        for rendition in ("one", "two"):
            await bench.ask("POST", "paced", rendition=rendition, seconds=1.0)
        await asyncio.sleep(0.5)
        for group in groups.values():
            group.thin()
        one, two, beside = [], [], []
        for _ in range(arguments.rounds):
            one.append(await bench.flat("one", alone, seconds))
            two.append(await bench.flat("two", both, seconds))
            with busy(cores[-1]):
                beside.append(await bench.flat("one", alone, seconds))
            _say(one[-1], two[-1], beside[-1])
        near = [await bench.cost(groups["two-here"]) for _ in range(arguments.rounds)]
        far = [await bench.cost(groups["two-there"]) for _ in range(arguments.rounds)]
    return judge(viewers, one, two, beside, near, far, here, there)


@contextmanager
def busy(core: int) -> Iterator[None]:
    """Something computes on that core for as long as the block runs."""
    spin = f"import os\nos.sched_setaffinity(0, {{{core}}})\nos.nice(19)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as process:
        try:
            yield
        finally:
            process.kill()


def _say(one: dict[str, Any], two: dict[str, Any], beside: dict[str, Any]) -> None:
    print(
        f"  one: {one['rate'] / 1e3:.0f} k packets a second; two: {two['rate'] / 1e3:.0f} k "
        f"({two['rate'] / one['rate']:.2f}); by CPU time {two['capacity'] / one['capacity']:.2f}; "
        f"one beside a busy core: {beside['rate'] / 1e3:.0f} k; "
        f"delivered {one['delivered']:.5f}, {two['delivered']:.5f}",
        flush=True,
    )


def judge(
    viewers: int,
    one: list[dict[str, Any]],
    two: list[dict[str, Any]],
    beside: list[dict[str, Any]],
    near: list[tuple[float, float, int]],
    far: list[tuple[float, float, int]],
    here: list[float],
    there: list[float],
) -> int:
    ratios = [b["rate"] / a["rate"] for a, b in zip(one, two, strict=True)]
    by_cpu = [b["capacity"] / a["capacity"] for a, b in zip(one, two, strict=True)]
    delivered = min(told["delivered"] for told in [*one, *two])
    added = [b - a for a, b in zip(here, there, strict=True)]

    def microseconds(costs: list[tuple[float, float, int]], at: int) -> float:
        return round(1e6 * statistics.median(cost[at] for cost in costs), 2)

    ratio = statistics.median(ratios)
    return report(
        "scale",
        bars={
            f"two processes over one: {BAR:g}": ratio >= BAR,
            f"{DELIVERED:.1%} delivered": delivered >= DELIVERED,
        },
        ratio=ratio,  # here more is better: the bar is the least of it
        against=f"one process with the same {viewers} viewers, packets a second",
        samples=ratios,
        bar=BAR,
        by_cpu_time=[round(share, 3) for share in by_cpu],
        over_one_beside_a_busy_core=[
            round(b["rate"] / a["rate"], 3) for a, b in zip(beside, two, strict=True)
        ],
        packets_a_second={
            "one": [round(told["rate"]) for told in one],
            "two": [round(told["rate"]) for told in two],
            "one_beside_a_busy_core": [round(told["rate"]) for told in beside],
        },
        cpu={
            "one": [round(told["cpu"][0] / told["wall"], 3) for told in one],
            "two": [[round(used / told["wall"], 3) for used in told["cpu"]] for told in two],
        },
        delivered=round(delivered, 6),
        us_a_report={
            "taken_by_the_gateway": microseconds(near, 0),
            "handed_on_by_the_gateway": microseconds(far, 0),
            "taken_by_the_process": microseconds(far, 1),
        },
        delay_ms={
            name: [round(1e3 * percentile(found, share), 3) for share in (0.5, 0.95)]
            for name, found in (("here", here), ("there", there), ("added", added))
        },
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each")
    arguments = parser.parse_args()
    return built.run(lambda library: measure(arguments, library))


if __name__ == "__main__":
    sys.exit(main())
