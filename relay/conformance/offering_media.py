"""WHIP and WHEP cases: real connections with media."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from relay.conformance.case import Book, Failed, NotOffered, holds, same
from relay.conformance.checker import QUIET, is_media, knocking
from relay.conformance.endpoint import Endpoint, Side
from relay.conformance.joined import MEDIA_WAIT, Joined, joined, publish
from relay.conformance.offer import fragment, ice_word
from relay.errors import PeerRefused
from relay.media.unit import AccessUnit
from relay.protocols.webrtc.client import WhepClient, WhipClient

BOOK: Book[Endpoint] = Book()

case = BOOK.case

VIEWERS: Final = 100
AT_ONCE: Final = 8
"""Viewers that connect side by side."""

NOTICED: Final = 2.0
"""Seconds for a server to see that its client has said goodbye."""

SETTLE: Final = 0.3
"""Seconds in which what is on its way arrives."""

RESTARTED: Final = 2.0
"""Seconds that a restart of ICE is watched."""

STEADY: Final = 1.0
"""The longest gap in media that a restart of ICE may make."""


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
    e.stage.check()
    first: asyncio.Future[AccessUnit] = asyncio.get_running_loop().create_future()

    def on_unit(unit: AccessUnit) -> None:
        if unit.is_video and not first.done():
            first.set_result(unit)

    client = await WhepClient.connect(e.url, on_unit=on_unit, token=e.token, ssl=e.ssl)
    try:
        async with asyncio.timeout(MEDIA_WAIT):
            unit = await first
    except TimeoutError:
        raise e.stage.found_empty(MEDIA_WAIT) from None
    finally:
        await client.close()
    holds(unit.keyframe, "another picture first", "a key frame first")


@case(
    "close-notify",
    "DELETE ends the connection itself: DTLS close_notify in 3 s, nothing after it.",
    "RFC 9725 4.2",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    async with joined(e, media=False) as one:
        await one.session.ask("DELETE")
        try:
            async with asyncio.timeout(3.0):
                await one.client.wait_closed()
        except TimeoutError:
            raise Failed("a connection that stays up", "close_notify") from None
        await asyncio.sleep(SETTLE)  # what had left before the DELETE
        holds(await one.silent(QUIET), "datagrams after close_notify", "none")


@case(
    "goodbye",
    "When the client says close_notify its session is 404 within 2 s.",
    "RFC 9725 4.2",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    async with joined(e, media=False) as one:
        holds(await one.session.gone(QUIET) is None, "404 while it is connected", "2xx")
        one.peer.end("goodbye")
        lasted = await one.session.gone(NOTICED)
        holds(lasted is not None, f"a session after {NOTICED:.0f} s", "404")


async def restarted(one: Joined, ufrag: str, pwd: str) -> dict[str, str]:
    """PATCH a restart of ICE; returns the server's new credentials.

    Raises:
        NotOffered: restarts are not taken.
    """
    reply = await one.session.patch(fragment(ufrag, pwd), "*")
    if reply.status in (405, 422, 501):
        raise NotOffered(f"restarts are not taken ({reply.status})")
    same("status", reply.status, 200)
    lines = reply.body.decode().split("\r\n")
    return dict(line[2:].split(":", 1) for line in lines if line.startswith("a=ice-"))


@case(
    "restart-in-mid-stream",
    "A restart of ICE keeps keys and SSRCs, and media flows on without a gap of 1 s.",
    "RFC 9725 4.3.3",
    limit=40.0,
)
async def _(e: Endpoint) -> None:
    async with joined(e) as one:
        ice = one.peer.ice
        ssrcs, handshakes, began = set(one.ssrcs), one.handshakes, time.monotonic()
        words = await restarted(one, *ice.renew(began))
        ice.set_remote(words["ice-ufrag"], words["ice-pwd"])
        path = ice.selected
        if path is None:
            raise Failed("a connection that has ended", "one that lives")
        path.renew(ice.credentials.ours, ice.remote)
        path.next_check = asked = time.monotonic()
        ice.on_schedule(asked)
        await asyncio.sleep(RESTARTED)
        holds((path.answered or 0.0) > asked, "no answer to a check", "the new credentials")
        holds(await one.flows(), f"no media for {MEDIA_WAIT:.0f} s", "media")
        same("DTLS datagrams", one.handshakes - handshakes, 0)
        if e.side is Side.WHEP:
            # Sound may be heard only now; what was heard before has no second sender.
            heard = {kind for kind, _ in ssrcs}
            new = {ssrc for kind, ssrc in one.ssrcs - ssrcs if kind in heard}
            same("new SSRCs", new, set())
            gap = one.gap(began)
            holds(gap < STEADY, f"a gap of {gap:.1f} s", f"less than {STEADY:.0f} s")


@case(
    "restart-that-fails",
    "When nobody checks with the new credentials, the old connection goes on.",
    "RFC 9725 4.3.3",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    async with joined(e) as one:
        await restarted(one, ice_word(8), ice_word(24))
        await asyncio.sleep(RESTARTED)
        holds(await one.flows(), f"no media for {MEDIA_WAIT:.0f} s", "media")
        await one.session.lives()


@case(
    "media-stays",
    "A check from elsewhere draws no media there until it nominates.",
    "RFC 8445 12.1",
    limit=30.0,
)
async def _(e: Endpoint) -> None:
    async with joined(e) as one, knocking(one.session) as other:
        holds(await other.ask() is not None, "silence", "a Binding success")
        holds(await other.hears(is_media) is None, "media", "none")
        holds(await one.flows(), f"no media for {MEDIA_WAIT:.0f} s", "media")


@case(
    "one-of-many",
    "Of a hundred viewers one is ended by DELETE; the others see on.",
    "WHEP 4.2",
    limit=120.0,
)
async def _(e: Endpoint) -> None:
    if e.side is Side.WHIP:
        raise NotOffered("publishers do not view")
    room = asyncio.Semaphore(AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:

        async def enter(*, media: bool = False) -> Joined:
            async with room:
                one = await stack.enter_async_context(joined(e, media=media))
            one.only_counts = True
            return one

        first = await enter(media=True)
        entering = [asyncio.create_task(enter()) for _number in range(VIEWERS - 1)]
        try:
            others = await asyncio.gather(*entering)
        except PeerRefused as error:
            if "429" in str(error) or "503" in str(error):
                raise NotOffered(f"it takes fewer viewers: {error}") from None
            raise
        finally:
            for task in entering:
                task.cancel()
            await asyncio.gather(*entering, return_exceptions=True)
        await first.session.ask("DELETE")
        seen = await asyncio.gather(*(one.flows(10) for one in others))
        same("viewers that see on", sum(seen), len(others))


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
