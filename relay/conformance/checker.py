"""ICE checks and DTLS by hand, as no client library lets one send them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from relay.conformance.case import NotOffered
from relay.conformance.endpoint import Endpoint, Session
from relay.errors import ParseError
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.certificate import Certificate
from relay.protocols.webrtc.dtls import Dtls

QUIET: Final = 1.0
"""Seconds after which a datagram is not answered any more."""

HANDSHAKE: Final = 6.0
"""Seconds for a DTLS handshake; one second is OpenSSL's first wait for a lost datagram."""

_STEP: Final = 0.1
_PRIORITY: Final = 1845501695


def is_handshake(data: bytes) -> bool:
    """Whether a datagram is DTLS (RFC 7983)."""
    return 19 < data[0] < 64


def is_media(data: bytes) -> bool:
    """Whether a datagram is RTP or RTCP (RFC 7983)."""
    return 127 < data[0] < 192


class Datagrams(asyncio.DatagramProtocol):
    """What arrives at a socket; the server's own checks are answered.

    Attributes:
        got: all but those checks, the oldest first.
    """

    def __init__(self, pwd: str) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue(256)
        self._pwd = pwd.encode()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data and not self._answered(data, addr):
            with contextlib.suppress(asyncio.QueueFull):
                self.got.put_nowait(data)

    def _answered(self, data: bytes, addr: Any) -> bool:
        try:
            message = stun.parse(data)
        except ParseError:
            return False
        if message.kind != stun.BINDING_REQUEST or not message.integrity_holds(self._pwd):
            return False
        if self._transport is not None:
            self._transport.sendto(stun.success(message, addr, self._pwd))
        return True


def request(
    session: Session,
    *,
    ufrag: str | None = None,
    pwd: str | None = None,
    role: int | None = stun.ICE_CONTROLLING,
    nominate: bool = False,
) -> tuple[bytes, bytes, bytes]:
    """A Binding request for a session: the message, its transaction, and its key.

    Args:
        ufrag: both user names in use; by default the answer's and the offer's.
        pwd: the server's; by default the answer's.
        role: ICE-CONTROLLING or ICE-CONTROLLED; None: neither, and no PRIORITY.
        nominate: with USE-CANDIDATE.
    """
    username = ufrag or f"{session.word('ice-ufrag')}:{session.offer.ufrag}"
    attributes = [(stun.USERNAME, username.encode())]
    if role is not None:
        attributes.append((stun.PRIORITY, struct.pack("!I", _PRIORITY)))
        attributes.append((role, secrets.token_bytes(8)))
    if nominate:
        attributes.append((stun.USE_CANDIDATE, b""))
    key = (pwd or session.word("ice-pwd")).encode()
    transaction = secrets.token_bytes(12)
    return stun.build(stun.BINDING_REQUEST, transaction, attributes, key), transaction, key


def answer_to(data: bytes, transaction: bytes, key: bytes) -> stun.Message | None:
    """The response to that request, None when these bytes are none of the right integrity."""
    try:
        message = stun.parse(data)
    except ParseError:
        return None
    kinds = (stun.BINDING_SUCCESS, stun.BINDING_ERROR)
    right = message.transaction == transaction and message.kind in kinds
    return message if right and message.integrity_holds(key) else None


class Checker:
    """A socket that speaks to a session's first UDP candidate.

    Attributes:
        local: its own address.
    """

    def __init__(
        self, session: Session, transport: asyncio.DatagramTransport, port: Datagrams
    ) -> None:
        self.session = session
        self._port = port
        self._transport = transport
        self.local: tuple[str, int] = transport.get_extra_info("sockname")[:2]

    async def exchange(self, **changes: Any) -> stun.Message | None:
        """One Binding request (see ``request``), and its response if there is one."""
        message, transaction, key = request(self.session, **changes)
        self._transport.sendto(message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET):
                while True:
                    found = answer_to(await self._port.got.get(), transaction, key)
                    if found is not None:
                        return found
        return None

    async def ask(self, **changes: Any) -> stun.Message | None:
        """One Binding request; its success response, or None when there is none."""
        found = await self.exchange(**changes)
        return found if found is not None and found.kind == stun.BINDING_SUCCESS else None

    def send(self, datagrams: Iterable[bytes]) -> None:
        for datagram in datagrams:
            self._transport.sendto(datagram)

    async def next(self, within: float) -> bytes | None:
        """The next datagram, None when none comes."""
        try:
            return await asyncio.wait_for(self._port.got.get(), within)
        except TimeoutError:
            return None

    async def hears(self, kind: Any, within: float = QUIET) -> bytes | None:
        """The next datagram of a kind (``is_handshake``, ``is_media``); others are dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    data = await self._port.got.get()
                    if kind(data):
                        return data
        return None

    async def handshake(self, dtls: Dtls, *, client: bool) -> bool:
        """Run a DTLS handshake to its end; whether it was one, and a good one."""
        if client:
            self.send(dtls.begin(time.monotonic()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE):
                while not (dtls.ready or dtls.ended or dtls.failure):
                    data = await self.next(_STEP)
                    if data is None:
                        self.send(dtls.poll(time.monotonic()))
                    elif is_handshake(data):
                        self.send(dtls.receive(data, time.monotonic()))
        return dtls.ready


def end_of_dtls(session: Session, certificate: Certificate, *, client: bool) -> Dtls:
    """Our end of a session's DTLS."""
    algorithm, _, value = session.word("fingerprint").partition(" ")
    return Dtls(certificate, [(algorithm, value)], client=client)


def candidates(session: Session, transport: str) -> list[list[str]]:
    """The answer's candidates of a transport, as words."""
    _, media = session.sections()
    lines = [line.split() for one in media for line in one.values("candidate")]
    return [words for words in lines if len(words) > 7 and words[2].lower() == transport]


@contextlib.asynccontextmanager
async def knocking(session: Session) -> AsyncIterator[Checker]:
    """A socket of its own for a session.

    Raises:
        NotOffered: it has no UDP candidate with an address.
    """
    udp = candidates(session, "udp")
    if not udp:
        raise NotOffered("the answer has no UDP candidate")
    loop = asyncio.get_running_loop()
    transport, port = await loop.create_datagram_endpoint(
        lambda: Datagrams(session.offer.pwd), remote_addr=(udp[0][4], int(udp[0][5]))
    )
    try:
        yield Checker(session, transport, port)
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def checking(e: Endpoint, **changes: object) -> AsyncIterator[Checker]:
    """A fresh session, and a socket for it; ``changes`` are of its offer."""
    session = await e.session(e.offer(candidates=(), **changes))
    async with knocking(session) as checker:
        yield checker
