"""WHIP and WHEP cases: ICE checks by hand, and real connections with media."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from relay.conformance.case import Book, Failed, NotOffered, holds, same
from relay.conformance.endpoint import Endpoint, Session, Side
from relay.errors import ParseError, PeerRefused
from relay.media.h264 import join_annexb
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.client import WhepClient, WhipClient

BOOK: Book[Endpoint] = Book()

case = BOOK.case

QUIET: Final = 1.0
"""Seconds after which a datagram is not answered any more."""

MEDIA_WAIT: Final = 6.0
RATE: Final = 30
KEY_EVERY: Final = 15

# A grey picture of 320x180, constrained baseline: nobody need see it, decoders may.
_SPS: Final = bytes.fromhex("6742c00dd901419f9f0110000003001000000303c0f142a480")
_PPS: Final = bytes.fromhex("68cb8cb2")


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue(64)

    def datagram_received(self, data: bytes, addr: object) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self.got.put_nowait(data)


class Checker:
    """Sends ICE checks to a session's first UDP candidate."""

    def __init__(
        self,
        session: Session,
        local: tuple[str, int],
        port: _Datagrams,
        transport: asyncio.DatagramTransport,
    ) -> None:
        self._session = session
        self._port = port
        self._transport = transport
        self.local = local

    async def ask(
        self, *, ufrag: str | None = None, pwd: str | None = None, bare: bool = False
    ) -> stun.Message | None:
        """One Binding request; its success response, or None when there is none.

        Args:
            ufrag: of the server; by default the answer's.
            pwd: likewise.
            bare: without PRIORITY and ICE-CONTROLLING.
        """
        session = self._session
        username = f"{ufrag or session.word('ice-ufrag')}:{session.offer.ufrag}"
        attributes = [(stun.USERNAME, username.encode())]
        if not bare:
            attributes.append((stun.PRIORITY, struct.pack("!I", 1845501695)))
            attributes.append((stun.ICE_CONTROLLING, secrets.token_bytes(8)))
        key = (pwd or session.word("ice-pwd")).encode()
        transaction = secrets.token_bytes(12)
        self._transport.sendto(stun.build(stun.BINDING_REQUEST, transaction, attributes, key))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET):
                while True:
                    data = await self._port.got.get()
                    with contextlib.suppress(ParseError):
                        message = stun.parse(data)
                        if message.transaction != transaction:
                            continue
                        if message.kind == stun.BINDING_SUCCESS and message.integrity_holds(key):
                            return message
        return None


@contextlib.asynccontextmanager
async def checking(e: Endpoint) -> AsyncIterator[Checker]:
    """A session whose candidate can be checked.

    Raises:
        NotOffered: it has no UDP candidate with an address.
    """
    session = await e.session(e.offer(candidates=()))
    _, media = session.sections()
    lines = [line.split() for one in media for line in one.values("candidate")]
    udp = [words for words in lines if len(words) > 7 and words[2].lower() == "udp"]
    if not udp:
        raise NotOffered("the answer has no UDP candidate")
    loop = asyncio.get_running_loop()
    transport, port = await loop.create_datagram_endpoint(
        _Datagrams, remote_addr=(udp[0][4], int(udp[0][5]))
    )
    try:
        yield Checker(session, transport.get_extra_info("sockname")[:2], port, transport)
    finally:
        transport.close()


@case("check", "A right ICE check is answered with the address that it came from.", "RFC 8445 7.3")
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        answer = await checker.ask()
        if answer is None:
            raise Failed("silence", "a Binding success")
        mapped = answer.attributes.get(stun.XOR_MAPPED_ADDRESS)
        if mapped is None:
            raise Failed("no XOR-MAPPED-ADDRESS", "XOR-MAPPED-ADDRESS")
        same("mapped port", stun.parse_xor_address(mapped, answer.transaction)[1], checker.local[1])


@case("check-wrong-pwd", "A check with a wrong password has no success.", "RFC 8445 7.3")
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        holds(await checker.ask(pwd="x" * 24) is None, "a success", "none")


@case("check-unknown-ufrag", "A check for nobody is met with silence.", "RFC 8445 7.3")
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        holds(await checker.ask(ufrag="nosuch00") is None, "a success", "none")


@case(
    "check-bare", "A check without PRIORITY and role is answered (FFmpeg's first).", "RFC 8445 7.3"
)
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        holds(await checker.ask(bare=True) is not None, "silence", "a Binding success")


@case(
    "check-from-elsewhere", "A check from a second address is answered there.", "RFC 8445 7.3.1.3"
)
async def _(e: Endpoint) -> None:
    async with checking(e) as one:
        holds(await one.ask() is not None, "silence", "a Binding success")
        second = await asyncio.get_running_loop().create_datagram_endpoint(
            _Datagrams, remote_addr=one._transport.get_extra_info("peername")
        )
        other = Checker(one._session, ("", 0), second[1], second[0])
        try:
            holds(await other.ask() is not None, "silence", "a Binding success")
        finally:
            second[0].close()


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


@case(
    "publish",
    "A publisher connects by ICE and DTLS, and its media is answered by RTCP.",
    "RFC 9725 4.4",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    if e.side is Side.WHEP:
        raise NotOffered("viewers do not publish")
    client = await WhipClient.connect(e.url, token=e.token, ssl=e.ssl)
    heard = asyncio.Event()
    receive = client.peer.on_rtcp

    def on_rtcp(data: bytes, now: float) -> None:
        heard.set()
        receive(data, now)

    client.peer.on_rtcp = on_rtcp
    sending = asyncio.create_task(publish(client, MEDIA_WAIT))
    try:
        async with asyncio.timeout(MEDIA_WAIT):
            await heard.wait()
    except TimeoutError:
        raise Failed(f"no RTCP in {MEDIA_WAIT:.0f} s of media", "RTCP") from None
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await client.close()


@case(
    "play",
    "A viewer connects by ICE and DTLS, and gets pictures from a key frame on.",
    "WHEP 4.3",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    if e.side is Side.WHIP:
        raise NotOffered("publishers do not view")
    first: asyncio.Future[AccessUnit] = asyncio.get_running_loop().create_future()

    def on_unit(unit: AccessUnit) -> None:
        if unit.is_video and not first.done():
            first.set_result(unit)

    client = await WhepClient.connect(e.url, on_unit=on_unit, token=e.token, ssl=e.ssl)
    try:
        async with asyncio.timeout(MEDIA_WAIT):
            unit = await first
    except TimeoutError:
        raise NotOffered(f"nothing is published there: no picture in {MEDIA_WAIT:.0f} s") from None
    finally:
        await client.close()
    holds(unit.keyframe, "another picture first", "a key frame first")


@case(
    "close-notify",
    "DELETE ends the connection itself: DTLS close_notify, within 3 s.",
    "RFC 9725 4.2",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    client: WhipClient | WhepClient
    if e.side is Side.WHIP:
        client = await WhipClient.connect(e.url, token=e.token, ssl=e.ssl)
    else:
        client = await WhepClient.connect(
            e.url, on_unit=lambda _unit: None, token=e.token, ssl=e.ssl
        )
    try:
        location = client._link.resource.location
        if location is None:
            raise NotOffered("sessions have no Location")
        await e.ask("DELETE", location)
        async with asyncio.timeout(3.0):
            await client.wait_closed()
    except TimeoutError:
        raise Failed("a connection that stays up", "close_notify") from None
    finally:
        await client.close()


@case(
    "second-publisher",
    "A second POST to a name in use is 201, or 409.",
    "RFC 9110 15.5.10",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    if e.side is Side.WHEP:
        raise NotOffered("viewers do not publish")
    client = await WhipClient.connect(e.url, token=e.token, ssl=e.ssl)
    try:
        second = await WhipClient.connect(e.url, token=e.token, ssl=e.ssl)
        await second.close()
    except PeerRefused as error:
        holds("409" in str(error), str(error), "RFC 9725 409")
    finally:
        await client.close()
