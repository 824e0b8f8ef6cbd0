"""One viewer's way in, with a stamp on each step: HTTP, ICE, DTLS, a picture's first RTP packet.

It is a client of the bench's own, so that it behaves the same against any server, can behave
as others do, and costs little beside what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from relay.errors import ParseError
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.certificate import Certificate
from relay.protocols.webrtc.description import LocalSide, write_offer
from relay.protocols.webrtc.dtls import Dtls
from relay.protocols.webrtc.negotiation import offered_tracks
from relay.protocols.webrtc.rtp import fresh_ssrcs
from relay.protocols.webrtc.sdp import Candidate

HOST: Final = "127.0.0.1"
PRIORITY: Final = (126 << 24) + (65535 << 8) + 255
TICK: Final = 0.2
"""Seconds between the checks of the pion family, and so between its chances to nominate."""
STEP: Final = 0.05
"""Seconds between looks at what is to be sent again."""
BOUND: Final = 15.0


@dataclass(frozen=True, slots=True)
class Moments:
    """Seconds after the POST.

    Attributes:
        checked: a pair is nominated.
        connected: the DTLS handshake is done.
        first: the first RTP packet of the picture.
        done: ``time.monotonic()`` of it.
    """

    answered: float
    checked: float
    connected: float
    first: float
    done: float


class Joiner:
    """A viewer.

    Args:
        patient: nominate as pion does: when the server's own check comes on a pair that
            works, else at the next tick; not with the first check.
        sound: ask for it too; the first packet that counts is one of the picture all the same.
    """

    def __init__(self, certificate: Certificate, *, patient: bool, sound: bool = True) -> None:
        self._certificate = certificate
        self._patient = patient
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((HOST, 0))
        self._ufrag, self._pwd = secrets.token_hex(4), secrets.token_hex(12)
        self._tie_breaker = os.urandom(8)
        candidate = Candidate("1", PRIORITY, HOST, self._socket.getsockname()[1])
        local = LocalSide(
            self._ufrag, self._pwd, certificate.sha256, [candidate], secrets.token_hex(8)
        )
        lines = offered_tracks(fresh_ssrcs(), audio=sound)
        self._offer = write_offer(lines, local, send=False).encode()
        self._remote: tuple[Any, ...] = ()
        self._names: tuple[str, str] = ("", "")
        self._fingerprints: list[tuple[str, str]] = []
        self._client = True
        self._video = -1  # payload type
        self._dtls: Dtls | None = None
        self._asked: dict[bytes, bool] = {}
        self._early: list[bytes] = []
        self._works = self._nominating = False
        self._checked_at = self._connected_at = self._first_at = 0.0
        self._done = asyncio.Event()

    async def come(self, url: str) -> Moments:
        """Come, and wait for a picture's first RTP packet. What follows it is not read any more.

        Raises:
            RuntimeError: it was refused, or nothing came.
        """
        loop = asyncio.get_running_loop()
        posted = time.monotonic()
        answer = await _post(url, self._offer)
        answered = time.monotonic()
        self._take(answer)
        loop.add_reader(self._socket.fileno(), self._read)
        try:
            self._check(nominate=not self._patient)
            await self._wait(answered)
        finally:
            loop.remove_reader(self._socket.fileno())
        return Moments(
            answered=answered - posted,
            checked=self._checked_at - posted,
            connected=self._connected_at - posted,
            first=self._first_at - posted,
            done=self._first_at,
        )

    def leave(self) -> None:
        """Say goodbye, where there is anyone to say it to."""
        for datagram in self._dtls.goodbye() if self._dtls is not None else []:
            self._send(datagram)
        self._socket.close()

    async def _wait(self, began: float) -> None:
        ticked = began
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), STEP)
            now = time.monotonic()
            if now - began > BOUND:
                raise RuntimeError(f"nothing came in {BOUND:.0f} s; {self._state()}")
            if self._dtls is not None:
                self._flush(self._dtls.poll(now))
            elif now - ticked >= TICK:
                ticked = now
                self._check(nominate=self._works or not self._patient)

    def _state(self) -> str:
        if self._connected_at:
            return "it was connected"
        return "ICE was up" if self._checked_at else "ICE was not up"

    def _take(self, answer: str) -> None:
        found = {
            key: match[1].strip()
            for key, pattern in _PATTERNS.items()
            if (match := pattern.search(answer)) is not None
        }
        if found.keys() != _PATTERNS.keys():
            raise RuntimeError(f"the answer lacks {sorted(_PATTERNS.keys() - found.keys())}")
        self._names = (found["ufrag"], found["pwd"])
        self._fingerprints = [("sha-256", found["fingerprint"])]
        self._client = found["setup"] == "passive"
        self._video = int(found["video"])
        words = found["candidate"].split()
        self._remote = (words[4], int(words[5]))

    # -- datagrams

    def _send(self, data: bytes) -> None:
        self._socket.sendto(data, self._remote)

    def _flush(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self._send(datagram)

    def _read(self) -> None:
        while not self._done.is_set():
            try:
                data = self._socket.recv(2048)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if data[0] < 4:
                self._stun(data)
            elif 19 < data[0] < 64:
                self._handshake(data)
            elif 127 < data[0] < 192 and data[1] & 0x7F == self._video:
                self._first_at = time.monotonic()
                self._connected_at = self._connected_at or self._first_at
                self._done.set()

    def _check(self, *, nominate: bool) -> None:
        transaction = os.urandom(12)
        self._asked[transaction] = nominate
        attributes = [
            (stun.USERNAME, f"{self._names[0]}:{self._ufrag}".encode()),
            (stun.PRIORITY, PRIORITY.to_bytes(4, "big")),
            (stun.ICE_CONTROLLING, self._tie_breaker),
        ]
        if nominate:
            self._nominating = True
            attributes.append((stun.USE_CANDIDATE, b""))
        key = self._names[1].encode()
        self._send(stun.build(stun.BINDING_REQUEST, transaction, attributes, key))

    def _stun(self, data: bytes) -> None:
        try:
            message = stun.parse(data)
        except ParseError:
            return
        if message.kind == stun.BINDING_REQUEST:
            self._send(stun.success(message, self._remote, self._pwd.encode()))
            if self._works and not self._nominating:
                self._check(nominate=True)
        elif message.kind == stun.BINDING_SUCCESS and message.transaction in self._asked:
            self._works = True
            if self._asked.pop(message.transaction) and self._dtls is None:
                self._checked_at = time.monotonic()
                self._begin_dtls()

    def _begin_dtls(self) -> None:
        self._dtls = Dtls(self._certificate, self._fingerprints, client=self._client)
        if self._client:
            self._flush(self._dtls.begin(time.monotonic()))
        for data in self._early:
            self._handshake(data)

    def _handshake(self, data: bytes) -> None:
        dtls = self._dtls
        if dtls is None:
            self._early.append(data)
            return
        self._flush(dtls.receive(data, time.monotonic()))
        if dtls.ready and not self._connected_at:
            self._connected_at = time.monotonic()


_PATTERNS: Final = {
    "ufrag": re.compile(r"^a=ice-ufrag:(.*)$", re.M),
    "pwd": re.compile(r"^a=ice-pwd:(.*)$", re.M),
    "fingerprint": re.compile(r"^a=fingerprint:sha-256 (.*)$", re.M),
    "setup": re.compile(r"^a=setup:(.*)$", re.M),
    "video": re.compile(r"^m=video \S+ \S+ (\d+)", re.M),
    "candidate": re.compile(r"^a=candidate:(.*)$", re.M),
}


async def _post(url: str, offer: bytes) -> str:
    """POST on a connection of its own; an HTTP client would cost more than the join."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(offer)}\r\n\r\n".encode()
            + offer
        )
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if not head.startswith(b"HTTP/1.1 201"):
        raise RuntimeError(f"{url}: {head.decode(errors='replace').splitlines()[0]} {body!r}")
    return body.decode()
