"""WHIP and WHEP cases: PATCH, ICE restarts, and the end of a session."""

from __future__ import annotations

import asyncio

from relay.conformance.case import Book, NotOffered, holds, one_of, same
from relay.conformance.endpoint import CLIENT_ERRORS, FRAGMENT, SDP, Endpoint, Session, Side
from relay.conformance.offer import CANDIDATE, fragment, ice_word

BOOK: Book[Endpoint] = Book()

case = BOOK.case


async def trickling(e: Endpoint) -> Session:
    """A session of a server that takes candidates.

    Raises:
        NotOffered: it takes none.
    """
    session = await e.session()
    reply = await session.trickle(CANDIDATE)
    if reply.status in (405, 422, 501):
        raise NotOffered(f"trickle is not taken ({reply.status})")
    return session


async def restarting(e: Endpoint) -> Session:
    """A session of a server that restarts ICE.

    Raises:
        NotOffered: it does not.
    """
    session = await e.session()
    reply = await session.patch(fragment(ice_word(8), ice_word(24), CANDIDATE), "*")
    if reply.status in (405, 422, 501):
        raise NotOffered(f"restarts are not taken ({reply.status})")
    return await e.session()


@case("trickle", "A candidate is 204, without a body and without an ETag.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    for _number in range(2):
        reply = await session.trickle(CANDIDATE)
        same("status", reply.status, 204)
        same("body", reply.body, b"")
        holds("ETag" not in reply.headers, "an ETag", "none")


@case("trickle-end", "end-of-candidates alone is 204.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    same("status", (await session.trickle("end-of-candidates")).status, 204)
    alone = await session.patch(b"a=end-of-candidates\r\n")
    same("without a section", alone.status, 204)


@case("trickle-any", "If-Match: * takes a candidate, also when it is quoted.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    for tag in ("*", '"*"'):
        same(f"If-Match {tag}", (await session.trickle(CANDIDATE, if_match=tag)).status, 204)


@case("no-if-match", "A PATCH without If-Match is 428.", "RFC 9725 4.3.1")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    same("status", (await session.trickle(CANDIDATE, if_match=None)).status, 428)


@case("wrong-if-match", "A PATCH with another tag is 412.", "RFC 9725 4.3.1")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    same("status", (await session.trickle(CANDIDATE, if_match='"other"')).status, 412)
    await session.lives()


@case("weak-if-match", "A weak form of the right tag is 412.", "RFC 9110 13.1.1")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    same("status", (await session.trickle(CANDIDATE, if_match=f"W/{session.etag}")).status, 412)


@case("list-if-match", "A list with the right tag is taken.", "RFC 9110 13.1.1")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    tags = f'"a", {session.etag}'
    same("status", (await session.trickle(CANDIDATE, if_match=tags)).status, 204)


@case("patch-type", "Another content type of a PATCH is 4xx.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    others = ["text/plain", SDP] if e.side is Side.WHIP else ["text/plain"]
    for kind in others:
        reply = await session.patch(fragment("", "", CANDIDATE), Content_Type=kind)
        one_of(f"status of {kind}", reply.status, CLIENT_ERRORS)
    await session.lives()


@case("patch-garbage", "Bytes that are no fragment are 4xx; the session lives.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    for body in (b"\xff\xfe\x00garbage", b"hello"):
        one_of("status", (await session.patch(body)).status, CLIENT_ERRORS)
    one_of("empty", (await session.patch(b"")).status, (204, *CLIENT_ERRORS))
    await session.lives()


@case(
    "patch-odd-candidates",
    "Candidates that cannot be used are dropped in silence: 204.",
    "RFC 9725 4.3.2",
)
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    for host, transport in (("a.local", "udp"), ("192.0.2.7", "sctp"), ("no-address", "udp")):
        line = f"candidate:1 1 {transport} 1 {host} 9 typ host"
        same(f"{transport} {host}", (await session.trickle(line)).status, 204)


@case("patch-unknown-mid", "An unknown mid is 204 or 4xx; the session lives.", "RFC 8840 9.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    body = fragment(session.offer.ufrag, session.offer.pwd, CANDIDATE, mid="nosuch")
    one_of("status", (await session.patch(body)).status, (204, 400, 422))
    await session.lives()


@case(
    "patch-line-feeds", "A fragment with bare line feeds, or behind v=0, is taken.", "RFC 8840 9.2"
)
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    body = fragment(session.offer.ufrag, session.offer.pwd, CANDIDATE)
    same("line feeds", (await session.patch(body.replace(b"\r\n", b"\n"))).status, 204)
    same("v=0", (await session.patch(b"v=0\r\n" + body)).status, 204)


@case("patch-side-by-side", "Two PATCHes at once are both 204.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    replies = await asyncio.gather(session.trickle(CANDIDATE), session.trickle(CANDIDATE))
    same("statuses", [reply.status for reply in replies], [204, 204])


@case(
    "restart",
    "New credentials are 200 with new ones of the server and a new ETag.",
    "RFC 9725 4.3.3",
)
async def _(e: Endpoint) -> None:
    session = await restarting(e)
    body = fragment(ice_word(8), ice_word(24), CANDIDATE)
    reply = await session.patch(body, "*")
    same("status", reply.status, 200)
    same("content-type", reply.headers.get("Content-Type", "").partition(";")[0], FRAGMENT)
    etag = reply.headers.get("ETag", "")
    holds(etag.startswith('"') and etag != session.etag, f"ETag {etag}", "a new strong one")
    text = reply.body.decode()
    for name in ("ice-ufrag", "ice-pwd"):
        holds(f"a={name}:" in text, f"no {name}", name)
        holds(session.word(name) not in text, f"the old {name}", "a new one")
    same("ice-lite", "a=ice-lite" in text, "a=ice-lite" in session.answer)
    holds("\r\n" in text and text.count("\n") == text.count("\r\n"), "bare line feeds", "CRLF")


@case(
    "after-a-restart",
    "After a restart the old ETag is 412 and the new one taken.",
    "RFC 9725 4.3.3",
)
async def _(e: Endpoint) -> None:
    session = await restarting(e)
    ufrag, pwd = ice_word(8), ice_word(24)
    etag = (await session.patch(fragment(ufrag, pwd, CANDIDATE), "*")).headers.get("ETag", "")
    body = fragment(ufrag, pwd, CANDIDATE)
    same("old ETag", (await session.patch(body)).status, 412)
    same("new ETag", (await session.patch(body, etag)).status, 204)


@case(
    "restart-if-match", "A restart without If-Match is 428, with a stale tag 412.", "RFC 9725 4.3.3"
)
async def _(e: Endpoint) -> None:
    session = await restarting(e)
    body = fragment(ice_word(8), ice_word(24), CANDIDATE)
    same("without", (await session.patch(body, None)).status, 428)
    same("stale", (await session.patch(body, '"stale"')).status, 412)
    await session.lives()


@case(
    "restart-with-former",
    "A restart with credentials of a former generation is 412 or 400; it lives on.",
    "RFC 9725 4.3.3",
)
async def _(e: Endpoint) -> None:
    session = await restarting(e)
    former = fragment(session.offer.ufrag, session.offer.pwd, CANDIDATE)
    reply = await session.patch(fragment(ice_word(8), ice_word(24), CANDIDATE), "*")
    same("restart", reply.status, 200)
    one_of("status", (await session.patch(former, "*")).status, (412, 400))
    await session.lives()


@case(
    "restart-refused",
    "A server that trickles and does not restart says 422, and trickles on.",
    "RFC 9725 4.3.3",
)
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    reply = await session.patch(fragment(ice_word(8), ice_word(24), CANDIDATE), "*")
    if reply.status == 200:
        raise NotOffered("restarts are taken")
    same("status", reply.status, 422)
    same("trickle", (await session.trickle(CANDIDATE)).status, 204)


@case("half-a-restart", "A new ufrag without a pwd is 4xx; the session lives.", "RFC 9725 4.3.3")
async def _(e: Endpoint) -> None:
    session = await restarting(e)
    reply = await session.patch(fragment(ice_word(8), "", CANDIDATE), "*")
    one_of("status", reply.status, CLIENT_ERRORS)
    await session.lives()


@case("patch-of-no-session", "A PATCH of a session that has ended is 404.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    session = await trickling(e)
    await session.ask("DELETE")
    same("status", (await session.trickle(CANDIDATE)).status, 404)


@case("delete", "DELETE of a session is 200, and 404 afterwards.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    session = await e.session()
    same("DELETE", (await session.ask("DELETE")).status, 200)
    one_of("DELETE again", (await session.ask("DELETE")).status, (404, 200))
    same("GET", (await session.ask("GET")).status, 404)


@case("delete-if-match", "DELETE does not look at If-Match.", "RFC 9725 4.3.1")
async def _(e: Endpoint) -> None:
    session = await e.session()
    same("status", (await session.ask("DELETE", If_Match='"stale"')).status, 200)
