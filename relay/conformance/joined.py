"""Our own WHIP and WHEP clients as a case's session, and what reaches them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from relay.config import WebRtc
from relay.conformance.case import Failed
from relay.conformance.checker import is_handshake, is_media
from relay.conformance.endpoint import Endpoint, Reply, Session, Side
from relay.media.h264 import join_annexb
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.protocols.webrtc.client import WhepClient, WhipClient
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.peer import Peer

MEDIA_WAIT: Final = 6.0
RATE: Final = 30
KEY_EVERY: Final = 15

# A grey picture of 320x180, constrained baseline: nobody need see it, decoders may.
_SPS: Final = bytes.fromhex("6742c00dd901419f9f0110000003001000000303c0f142a480")
_PPS: Final = bytes.fromhex("68cb8cb2")


def pictures(began: float) -> Sequence[AccessUnit]:
    """A second of small pictures, for whoever only counts them."""
    made = []
    for number in range(RATE):
        key = number % KEY_EVERY == 0
        body = b"\xab" * 400
        nals = [_SPS, _PPS, b"\x65\x88\x80" + body] if key else [b"\x61" + body]
        pts = number * VIDEO_CLOCK // RATE
        made.append(AccessUnit(Codec.H264, join_annexb(nals), pts, began + number / RATE, key))
    return made


async def publish(client: WhipClient, seconds: float) -> None:
    """Send pictures at their own pace."""
    began = time.monotonic()
    for round_ in range(int(seconds)):
        for number, unit in enumerate(pictures(began)):
            at = round_ * RATE + number
            await asyncio.sleep(max(0.0, began + at / RATE - time.monotonic()))
            client.send(replace(unit, pts=unit.pts + round_ * VIDEO_CLOCK))


class Joined:
    """A connected client and its session.

    Attributes:
        session: its address, and the credentials of both ends.
        handshakes: DTLS datagrams since it was connected.
        media: when each RTP packet came, or each RTCP packet where we publish.
        ssrcs: of those packets' senders, each with the payload type.
        only_counts: media is counted and goes no further: one process bears many such viewers.
    """

    def __init__(self, e: Endpoint, client: WhipClient | WhepClient, location: str) -> None:
        self.client = client
        self.peer: Peer = client.peer
        self.handshakes = 0
        self.media: list[float] = []
        self.ssrcs: set[tuple[int, int]] = set()
        self.only_counts = False
        self._came = asyncio.Event()
        self._publishes = e.side is Side.WHIP
        self._udp = self.peer._peers.udp
        offer = replace(e.offer(), ufrag=self.peer.ice.ufrag, pwd=self.peer.ice.pwd)
        reply = Reply(201, {}, self.peer.answer.encode(), e.url)
        self.session = Session(e, offer, reply, location, "*")
        receive = self.peer.ice.on_datagram

        def tap(data: bytes, path: Path, now: float) -> None:
            self._note(data, now)
            if not (self.only_counts and is_media(data)):
                receive(data, path, now)

        self.peer.ice.on_datagram = tap

    @property
    def arrived(self) -> int:
        """Datagrams of any kind, also when the connection is over."""
        return self._udp.statistics.received

    def _note(self, data: bytes, now: float) -> None:
        if is_handshake(data):
            self.handshakes += 1
        elif is_media(data) and len(data) >= 12:
            is_rtcp = 191 < data[1] < 224
            if is_rtcp is self._publishes:
                self.media.append(now)
                self._came.set()
                at = 4 if is_rtcp else 8
                kind = 0 if is_rtcp else data[1] & 0x7F
                self.ssrcs.add((kind, int.from_bytes(data[at : at + 4], "big")))

    async def flows(self, count: int = 1, within: float = MEDIA_WAIT) -> bool:
        """Whether so many more packets of media come in time."""
        wanted = len(self.media) + count
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while len(self.media) < wanted:
                    self._came.clear()
                    await self._came.wait()
        return len(self.media) >= wanted

    def gap(self, since: float) -> float:
        """The longest time without media since then, in seconds."""
        times = [since, *(t for t in self.media if t >= since), time.monotonic()]
        return max(b - a for a, b in pairwise(times))

    def mute(self) -> None:
        """Send nothing any more, not even answers to checks."""
        self._udp.sendto = _nothing  # type: ignore[assignment, method-assign]
        self._udp.sender = _quiet  # type: ignore[assignment, method-assign]
        self.peer.transmit = _nothing

    async def silent(self, during: float) -> bool:
        """Whether nothing at all arrives for so long."""
        before = self.arrived
        await asyncio.sleep(during)
        return self.arrived == before


@contextlib.asynccontextmanager
async def joined(e: Endpoint, *, media: bool = True) -> AsyncIterator[Joined]:
    """A connected session: a publisher that publishes, or a viewer.

    Args:
        media: wait until it flows: RTP to a viewer, RTCP to a publisher.

    Raises:
        NotOffered: nothing is published for a viewer.
        Failed: a publisher hears no RTCP.
    """
    client: WhipClient | WhepClient
    if media:
        e.stage.check()
    if e.side is Side.WHIP:
        client = await WhipClient.connect(e.url, token=e.token, ssl=e.ssl)
    else:
        # Each packet is to pass the tap of Joined: native code would keep most of them.
        host = "::" if "//[" in e.url else "0.0.0.0"
        pure = WebRtc(host=host, port=0, native=False)
        client = await WhepClient.connect(
            e.url, on_unit=lambda _unit: None, token=e.token, ssl=e.ssl, settings=pure
        )
    sending: asyncio.Task[None] | None = None
    try:
        one = Joined(e, client, client._link.resource.location or "")
        if isinstance(client, WhipClient):
            sending = asyncio.create_task(publish(client, 3600))
        if media and not await one.flows():
            if e.side is Side.WHEP:
                raise e.stage.found_empty(MEDIA_WAIT)
            raise Failed(f"no RTCP in {MEDIA_WAIT:.0f} s of media", "RTCP")
        yield one
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await client.close()


def _nothing(*_: object) -> None:
    return


def _quiet(_address: object) -> Callable[..., None]:
    return _nothing
