"""WHIP and WHEP cases: ICE checks and DTLS by hand."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from typing import Final

from relay.conformance import endpoint
from relay.conformance.case import Book, Failed, NotOffered, holds, one_of, same
from relay.conformance.checker import (
    HANDSHAKE,
    answer_to,
    candidates,
    checking,
    end_of_dtls,
    is_handshake,
    is_media,
    knocking,
    request,
)
from relay.conformance.endpoint import Endpoint, Session
from relay.conformance.offer import CANDIDATE, fragment, ice_word
from relay.conformance.offering_session import restarting
from relay.protocols.webrtc import stun
from relay.protocols.webrtc.certificate import Certificate

BOOK: Book[Endpoint] = Book()

case = BOOK.case

TCP_WAIT: Final = 6.0
"""Seconds for a server to answer on a TCP candidate, or to close the connection."""

CLIENT_HELLO: Final = 1


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
        last = int.from_bytes(answer.raw[-8:-6], "big")
        same("last attribute", hex(last), hex(stun.FINGERPRINT))


@case("check-wrong-pwd", "A check with a wrong password has no success.", "RFC 8445 7.3")
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        holds(await checker.ask(pwd="x" * 24) is None, "a success", "none")


@case("check-unknown-ufrag", "A check for nobody is met with silence.", "RFC 8445 7.3")
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        nobody = f"nosuch00:{checker.session.offer.ufrag}"
        holds(await checker.exchange(ufrag=nobody) is None, "an answer", "none")


@case(
    "check-bare", "A check without PRIORITY and role is answered (FFmpeg's first).", "RFC 8445 7.3"
)
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        holds(await checker.ask(role=None) is not None, "silence", "a Binding success")


@case(
    "check-from-elsewhere", "A check from a second address is answered there.", "RFC 8445 7.3.1.3"
)
async def _(e: Endpoint) -> None:
    async with checking(e) as one:
        holds(await one.ask() is not None, "silence", "a Binding success")
        async with knocking(one.session) as other:
            holds(await other.ask() is not None, "silence", "a Binding success")


@case(
    "role-conflict",
    "A check of a controlled client is answered: success, or 487.",
    "RFC 8445 7.3.1.1",
)
async def _(e: Endpoint) -> None:
    async with checking(e) as checker:
        answer = await checker.exchange(role=stun.ICE_CONTROLLED)
        if answer is None:
            raise Failed("silence", "a success or 487")
        if answer.kind == stun.BINDING_ERROR:
            same("error", answer.error_code(), 487)


@case("two-restarts", "Of two restarts in a row the last one's credentials work.", "RFC 9725 4.3.3")
async def _(e: Endpoint) -> None:
    session = await restarting(e)
    for _number in range(2):
        ufrag = ice_word(8)
        reply = await session.patch(fragment(ufrag, ice_word(24), CANDIDATE), "*")
        same("status", reply.status, 200)
    lines = reply.body.decode().split("\r\n")
    words = dict(line[2:].split(":", 1) for line in lines if line.startswith("a=ice-"))
    async with knocking(session) as checker:
        name = f"{words['ice-ufrag']}:{ufrag}"
        answer = await checker.ask(ufrag=name, pwd=words["ice-pwd"])
        holds(answer is not None, "silence", "a Binding success")


def passive(session: Session) -> None:
    """Raises NotOffered unless the server waits for our ClientHello."""
    if session.word("setup") != "passive":
        raise NotOffered("it does not answer active with passive")


@case(
    "hello-before-nomination",
    "A ClientHello behind one good check is answered, without USE-CANDIDATE.",
    "RFC 8445 12.1",
)
async def _(e: Endpoint) -> None:
    certificate = Certificate()
    async with checking(e, setup="active") as checker:
        passive(checker.session)
        holds(await checker.ask() is not None, "silence", "a Binding success")
        dtls = end_of_dtls(checker.session, certificate, client=True)
        checker.send(dtls.begin(time.monotonic()))
        heard = await checker.hears(is_handshake, HANDSHAKE)
        holds(heard is not None, f"silence for {HANDSHAKE:.0f} s", "a DTLS answer")


@case("hello-unchecked", "A ClientHello without any check is ignored.", "RFC 8445 12.1")
async def _(e: Endpoint) -> None:
    certificate = Certificate()
    async with checking(e, setup="active") as checker:
        passive(checker.session)
        dtls = end_of_dtls(checker.session, certificate, client=True)
        checker.send(dtls.begin(time.monotonic()))
        holds(await checker.hears(is_handshake) is None, "a DTLS answer", "none")


@case(
    "setup-is-obeyed",
    "The handshake works in the role that the answer names, whichever it is.",
    "RFC 8842 5",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    certificate = Certificate()
    print_ = f"sha-256 {certificate.sha256}"
    for ours, theirs in (("active", "passive"), ("passive", "active")):
        offer = e.offer(candidates=(), setup=ours, fingerprint=print_)
        reply = await e.post(offer)
        if ours == "passive" and reply.status in (400, 422):
            return  # it may refuse to be the client (RFC 9725 section 4.4.4)
        session = e.made(offer, reply)
        same("setup", session.word("setup"), theirs)
        async with knocking(session) as checker:
            holds(await checker.ask(nominate=True) is not None, "silence", "a Binding success")
            client = ours == "active"
            dtls = end_of_dtls(session, certificate, client=client)
            holds(
                await checker.handshake(dtls, client=client),
                dtls.failure or f"no handshake with {ours} in {HANDSHAKE:.0f} s",
                "a DTLS connection",
            )
            checker.send(dtls.goodbye())
        if session.at:
            await session.ask("DELETE")


@case(
    "foreign-certificate",
    "A certificate that does not fit the fingerprint ends it: no media, then 404.",
    "RFC 8842 5.4",
    limit=40.0,
)
async def _(e: Endpoint) -> None:
    foreign = Certificate()
    async with checking(e) as checker:
        session = checker.session
        client = session.word("setup") == "passive"
        holds(await checker.ask(nominate=True) is not None, "silence", "a Binding success")
        await checker.handshake(end_of_dtls(session, foreign, client=client), client=client)
        holds(await checker.hears(is_media) is None, "media", "none")
        lasted = await session.gone(endpoint.SOON)
        holds(lasted is not None, f"a session after {endpoint.SOON:.0f} s", "404")


@case("ice-tcp", "A TCP candidate answers framed checks, and closes on an empty one.", "RFC 6544")
async def _(e: Endpoint) -> None:
    session = await e.session(e.offer(candidates=()))
    passive = [words for words in candidates(session, "tcp") if "passive" in words]
    if not passive:
        raise NotOffered("the answer has no TCP candidate")
    message, transaction, key = request(session)
    reader, writer = await asyncio.open_connection(passive[0][4], int(passive[0][5]))
    try:
        async with asyncio.timeout(TCP_WAIT):
            writer.write(struct.pack("!H", len(message)) + message)
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                found = answer_to(await reader.readexactly(size), transaction, key)
                if found is not None:
                    break
            one_of("answer", found.kind, [stun.BINDING_SUCCESS])
            writer.write(b"\0\0")
            with contextlib.suppress(ConnectionError):
                while await reader.read(2048):
                    pass
    except TimeoutError:
        raise Failed(f"neither answer nor close in {TCP_WAIT:.0f} s", "both") from None
    finally:
        writer.transport.abort()
