"""What our servers are held against: small servers on plain aiortc, a process each.

``python -m bench.plain KIND`` prints its address and serves until its input ends:

- ``relay``: WHIP in, decode, ``MediaRelay``, encode, WHEP out.
- ``decode``: WHIP in, every picture and all sound decoded and thrown away.
- ``open``: WHIP in, every packet opened by SRTP and thrown away as it is; ``GET /packets`` tells
  how many.
- ``send``: WHEP out of encoded pictures and sound, each viewer by aiortc's own sender.

Sound goes with it where the peer's offer has it.
"""

from __future__ import annotations

import argparse
import asyncio
from fractions import Fraction
from typing import Any, Final

import aioice.ice
import av
import uvloop
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole, MediaRelay
from aiortc.rtcrtpsender import RTCRtpSender

from bench.serving import created, serve
from bench.source import endless, make_clip
from relay.media.unit import VIDEO_CLOCK, AccessUnit

SENT: Final = {"video": {"video/H264", "video/rtx"}, "audio": {"audio/opus"}}


class ClipTrack(MediaStreamTrack):
    """Encoded pictures, 30 a second, or sound, 50, as aiortc's sender takes them."""

    def __init__(self, kind: str, clip: list[AccessUnit]) -> None:
        super().__init__()
        self.kind = kind
        wanted = [unit for unit in clip if unit.is_video == (kind == "video")]
        self._units = endless(wanted)
        self._began: float | None = None

    async def recv(self) -> av.Packet[Any]:
        unit = next(self._units)
        loop = asyncio.get_running_loop()
        if self._began is None:
            self._began = loop.time()
        await asyncio.sleep(max(0.0, self._began + unit.pts / VIDEO_CLOCK - loop.time()))
        packet = av.Packet(unit.payload)
        packet.pts = packet.dts = unit.pts
        packet.time_base = Fraction(1, 90_000)
        return packet


class Plain:
    """One process of plain aiortc."""

    def __init__(self, kind: str, clip: list[AccessUnit] | None) -> None:
        self._kind = kind
        self._clip = clip
        self._peers: set[RTCPeerConnection] = set()
        self._relay = MediaRelay()
        self._sources: dict[str, MediaStreamTrack] = {}
        self._sink = MediaBlackhole()
        self._opened = 0

    async def whip(self, request: web.Request) -> web.Response:
        peer = self._peer()
        if self._kind == "open":
            return await self._answer(peer, await request.text(), opened_only=True)

        @peer.on("track")
        async def on_track(track: MediaStreamTrack) -> None:
            if self._kind == "relay":
                self._sources[track.kind] = track
            else:
                self._sink.addTrack(track)
                await self._sink.start()

        return await self._answer(peer, await request.text())

    async def whep(self, request: web.Request) -> web.Response:
        peer, offer = self._peer(), await request.text()
        for kind, types in SENT.items():
            if f"m={kind}" not in offer:
                continue
            if self._clip is not None:
                track: MediaStreamTrack = ClipTrack(kind, self._clip)
            elif kind in self._sources:
                track = self._relay.subscribe(self._sources[kind])
            else:
                raise web.HTTPConflict(text=f"no {kind} is published")
            transceiver = peer.addTransceiver(track, direction="sendonly")
            codecs = RTCRtpSender.getCapabilities(kind).codecs
            transceiver.setCodecPreferences([each for each in codecs if each.mimeType in types])
        return await self._answer(peer, offer)

    async def _answer(
        self, peer: RTCPeerConnection, offer: str, *, opened_only: bool = False
    ) -> web.Response:
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        for transceiver in peer.getTransceivers() if opened_only else ():
            transport: Any = transceiver.receiver.transport
            transport._handle_rtp_data = self._count
        return created(peer.localDescription.sdp, str(id(peer)))

    async def _count(self, data: bytes, arrival_time_ms: int) -> None:
        """In place of all that aiortc does with a packet that is opened."""
        self._opened += 1

    async def packets(self, _: web.Request) -> web.Response:
        return web.json_response(self._opened)

    def _peer(self) -> RTCPeerConnection:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peers.add(peer)
        return peer

    async def close(self) -> None:
        await asyncio.gather(*(peer.close() for peer in self._peers))


async def run(kind: str, clip: list[AccessUnit] | None) -> None:
    plain = Plain(kind, clip)
    try:
        await serve(plain.whip, plain.whep, web.get("/packets", plain.packets))
    finally:
        await plain.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["relay", "decode", "open", "send"])
    arguments = parser.parse_args()
    # aiortc leaves the loopback address out; a bench stays on it.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    clip = make_clip() if arguments.kind == "send" else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.kind, clip))


if __name__ == "__main__":
    main()
