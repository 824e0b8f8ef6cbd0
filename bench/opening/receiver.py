"""The receiving process: our Ingest, and SRTP opening alone on the same socket and keys.

``python -m bench.opening.receiver LIBRARY`` prints its address and serves until its input
ends. Beside WHIP it is told what to do: ``POST /window?seconds=S`` tells what S seconds cost;
with ``&alone=1`` the C loop reads the socket in them, and nothing else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cffi
import uvloop
from aiohttp import web

from bench.serving import created, serve
from relay.config import WebRtc
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.ingest import Ingest, IngestSession
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.srtp import protect_pointer

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Window:
    """What a window cost: seconds of this process, all threads, for so many RTP packets.

    Attributes:
        units: access units that came of them.
    """

    cpu: float
    wall: float
    packets: int
    units: int


class Receiver:
    def __init__(self, peers: Peers, library: Path) -> None:
        self._peers = peers
        self._ingest = Ingest(peers)
        self._sessions: list[IngestSession] = []
        self._units = 0
        self._ffi = cffi.FFI()
        declared = (_HERE / "opening.h").read_text()
        self._ffi.cdef(declared.split("/* -- begin */")[1].split("/* -- end */")[0])
        self._library: Any = self._ffi.dlopen(str(library))

    # -- ingest.IngestSink

    def unit(self, unit: AccessUnit) -> None:
        self._units += 1

    def closed(self, reason: str) -> None:
        return

    # -- what it is told

    async def whip(self, request: web.Request) -> web.Response:
        session = await self._ingest.answer(await request.text(), self)
        self._sessions.append(session)
        return created(session.answer, session.id)

    async def window(self, request: web.Request) -> web.Response:
        seconds = float(request.query["seconds"])
        alone = request.query.get("alone") == "1"
        return web.json_response(
            asdict(self._alone(seconds) if alone else await self._ours(seconds))
        )

    def _packets(self) -> int:
        return sum(session.statistics().packets for session in self._sessions)

    async def _ours(self, seconds: float) -> Window:
        packets, units = self._packets(), self._units
        cpu, began = _cpu(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu, wall = _cpu() - cpu, time.monotonic() - began
        return Window(cpu, wall, self._packets() - packets, self._units - units)

    def _alone(self, seconds: float) -> Window:
        ffi = self._ffi
        sources = ffi.new("struct source[]", len(self._sessions))
        for source, session in zip(sources, self._sessions, strict=True):
            assert session.peer.address is not None
            source.srtp = ffi.cast("void *", _context(session))
            source.port = session.peer.address[1]
        counts = ffi.new("struct opening_counts *")
        unprotect = ffi.cast("unprotect_t", protect_pointer("srtp_unprotect"))
        descriptor = self._peers.udp.fileno()
        cpu, began = _cpu(), time.monotonic()
        status = self._library.opening_run(
            descriptor, unprotect, sources, len(sources), seconds, counts
        )
        cpu, wall = _cpu() - cpu, time.monotonic() - began
        if status or counts.refused or not counts.opened:
            raise RuntimeError(f"opening failed: {status}, {counts.refused} refused")
        return Window(cpu, wall, counts.opened, 0)


def _context(session: IngestSession) -> int:
    """The address of libsrtp's context that opens what this publisher sends."""
    keys = session.peer.receiving
    if keys is None:
        raise RuntimeError("a publisher is not connected yet")
    return keys.pointer


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run(library: Path) -> None:
    peers = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    receiver = Receiver(peers, library)
    # As the gateway does once it has started (relay/memory.py).
    gc.collect()
    gc.freeze()
    try:
        await serve(receiver.whip, _no_whep, web.post("/window", receiver.window))
    finally:
        await peers.close()


async def _no_whep(_: web.Request) -> web.Response:
    return web.Response(status=404)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(parser.parse_args().library))


if __name__ == "__main__":
    main()
