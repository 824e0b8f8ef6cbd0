"""A network whose processes die and stall, and what is done to it: for ``soak_faults``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import psutil

from bench.source import endless
from relay.cli.pace import pace
from relay.errors import RelayError
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhipClient

NAME: Final = "faults"
"""Of the stream."""
RUBBISH: Final = 3000
"""Datagrams."""


class Desk:
    """The processes of a network, whichever they are by now, and its publisher."""

    def __init__(self, ready: Mapping[str, Any]) -> None:
        parent = psutil.Process(int(ready["gateway"]["pid"])).parent()
        if parent is None:
            raise RuntimeError("the network has ended")
        self.base = str(ready["gateway"]["url"])
        self._up = parent
        self._worker = str(ready["worker"]["url"])
        self.sending = asyncio.Event()
        self.sending.set()

    def role(self, name: str) -> psutil.Process:
        """
        Raises:
            LookupError: there is none now.
        """
        found = [child for child in self._up.children() if name in child.cmdline()]
        if not found:
            raise LookupError(name)
        return found[-1]

    def ingest(self) -> psutil.Process:
        """Raises LookupError: there is none now."""
        for child in self.role("gateway").children():
            if any(word.endswith("ingest_child") for word in child.cmdline()):
                return child
        raise LookupError("ingest")

    async def busy_slot(self) -> psutil.Process:
        """The media process that has the job: the one that computes."""
        slots = self.role("worker").children()
        before = {slot.pid: sum(slot.cpu_times()[:2]) for slot in slots}
        await asyncio.sleep(0.5)
        return max(slots, key=lambda slot: sum(slot.cpu_times()[:2]) - before[slot.pid])

    async def publish(self, units: Sequence[AccessUnit]) -> None:
        """Publish to the end, and come back to a gateway that is back."""
        url = f"{self.base}/whip/{NAME}?pipeline=echo"
        while True:
            try:
                client = await WhipClient.connect(url)
            except (RelayError, OSError):
                await asyncio.sleep(0.3)
                continue
            sending = asyncio.create_task(self._send(client, units))
            ended = asyncio.create_task(client.wait_closed())
            try:
                while not ended.done():
                    await asyncio.wait({ended}, timeout=0.5)
                    await client.check()
            finally:
                for task in (sending, ended):
                    task.cancel()
                await asyncio.gather(sending, ended, return_exceptions=True)
                await client.close()

    async def _send(self, client: WhipClient, units: Sequence[AccessUnit]) -> None:
        def send(unit: AccessUnit) -> None:
            if self.sending.is_set():
                client.send(unit)

        await pace(endless(units), send)

    async def told(self, http: aiohttp.ClientSession) -> str | None:
        """What the API says of the stream, where that is more than that it is live."""
        async with http.get(f"{self.base}/v1/streams/{NAME}") as response:
            if response.status != 200:
                return f"HTTP {response.status}"
            said = await response.json()
        words = [] if said["state"] == "live" else [said["state"]]
        words += [each["code"] for each in said["warnings"]]
        return " ".join(words) or None

    async def all_free(self, http: aiohttp.ClientSession) -> bool:
        async with http.get(f"{self._worker}/health") as response:
            slots = (await response.json())["slots"]
        return bool(slots["free"] == slots["total"])


async def _stopped(process: psutil.Process, seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # it was replaced meanwhile
            process.send_signal(signal.SIGCONT)


async def _slot_dies(desk: Desk) -> None:
    (await desk.busy_slot()).kill()


async def _slot_stalls(desk: Desk) -> None:
    await _stopped(await desk.busy_slot(), 4.0)


async def _worker_dies(desk: Desk) -> None:
    desk.role("worker").kill()


async def _orchestrator_dies(desk: Desk) -> None:
    desk.role("orchestrator").kill()


async def _orchestrator_stalls(desk: Desk) -> None:
    await _stopped(desk.role("orchestrator"), 4.0)


async def _gateway_dies(desk: Desk) -> None:
    desk.role("gateway").kill()


async def _gateway_stalls(desk: Desk) -> None:
    await _stopped(desk.role("gateway"), 1.0)


async def _ingest_dies(desk: Desk) -> None:
    desk.ingest().kill()


async def _ingest_stalls(desk: Desk) -> None:
    await _stopped(desk.ingest(), 4.0)


async def _publisher_falls_silent(desk: Desk) -> None:
    desk.sending.clear()
    try:
        await asyncio.sleep(3.0)
    finally:
        desk.sending.set()


async def _strangers_send_rubbish(desk: Desk) -> None:
    own = desk.role("gateway").net_connections(kind="udp")
    places = [each.laddr for each in own if each.laddr]
    host = urlsplit(desk.base).hostname or "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rubbish:
        for number in range(RUBBISH):
            rubbish.sendto(os.urandom(200), (host, places[0].port))
            if number % 50 == 0:
                await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Attributes:
        within: seconds from its beginning after which every viewer has the picture again.
        stays: viewers keep their connections.
        hears: they hear on.
        answers: the API is there meanwhile, and has to tell what is the matter.
    """

    make: Callable[[Desk], Awaitable[None]]
    within: float
    stays: bool = True
    hears: bool = True
    answers: bool = True
    weight: int = 2

    @property
    def name(self) -> str:
        return self.make.__name__.strip("_").replace("_", " ")


FAULTS: Final = (
    Fault(_slot_dies, 6.0, weight=4),
    Fault(_slot_stalls, 8.0),
    Fault(_worker_dies, 12.0),
    Fault(_orchestrator_dies, 12.0),
    Fault(_orchestrator_stalls, 10.0),
    Fault(_gateway_dies, 12.0, stays=False, hears=False, answers=False),
    Fault(_gateway_stalls, 4.0, stays=False, hears=False, answers=False),
    Fault(_publisher_falls_silent, 6.0, hears=False),
    Fault(_strangers_send_rubbish, 1.0),
)
APART: Final = (
    Fault(_ingest_dies, 6.0, hears=False),
    Fault(_ingest_stalls, 8.0, hears=False),
)
