"""WHIP and WHEP cases: the endpoint by HTTP, and who may use it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from statistics import median
from urllib.parse import urljoin

from relay.conformance.case import Book, Failed, NotOffered, holds, one_of, same
from relay.conformance.endpoint import CLIENT_ERRORS, SDP, Endpoint, Side

BOOK: Book[Endpoint] = Book()

case = BOOK.case

ORIGIN = "https://page.example"
TWO_HUNDREDS = range(200, 300)
GUESSES = 15
NOISE = 0.05
"""Seconds: what a look into a table does not take."""


def words(value: str) -> set[str]:
    """Of a comma-separated header, in lower case."""
    return {word.strip().lower() for word in value.split(",")}


@case("post", "A good offer is 201 with an SDP answer and a Location.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    session = await e.session()
    holds(session.at, "a 201 without Location", "Location")
    kind = session.reply.headers.get("Content-Type", "").partition(";")[0]
    same("content-type", kind, SDP)
    holds(session.answer.startswith("v=0"), session.answer[:20], "v=0")


@case("etag", "The 201 has a strong, quoted ETag.", "RFC 9725 4.3.1")
async def _(e: Endpoint) -> None:
    etag = (await e.session()).etag
    holds(re.fullmatch(r'"[^"]+"', etag), f"ETag {etag or 'absent'}", 'ETag "..."')


@case(
    "unguessable",
    "Two sessions have different, long Locations and other credentials.",
    "RFC 9725 5",
)
async def _(e: Endpoint) -> None:
    one, two = await e.session(), await e.session()
    holds(one.url != two.url, "the same Location twice", "two")
    holds(one.word("ice-ufrag") != two.word("ice-ufrag"), "the same ufrag twice", "two")
    secret = max(re.split(r"[/?=]", one.url), key=len)
    holds(len(secret) >= 22, f"Location with {secret}", "128 random bits: 22 characters or more")


@case("location", "The Location is an address that can be asked.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    session = await e.session()
    holds(session.at, "a 201 without Location", "Location")
    reply = await session.ask("OPTIONS")
    holds(reply.status in TWO_HUNDREDS, f"OPTIONS {reply.status}", "2xx")


@case(
    "location-is-whole",
    "The Location has a whole path and no query: encoders lose others.",
    "RFC 9725 4.2",
)
async def _(e: Endpoint) -> None:
    session = await e.session()
    holds(session.at, "a 201 without Location", "Location")
    location = session.reply.headers["Location"]
    holds(re.match(r"https?://|/", location), f"Location {location}", "a whole path")
    holds("?" not in location, f"Location {location}", "no query")


@case("type-with-parameters", "application/sdp with parameters is taken.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    same("status", (await e.post(Content_Type="application/sdp; charset=utf-8")).status, 201)


@case("type-in-capitals", "APPLICATION/SDP is taken.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    same("status", (await e.post(Content_Type="APPLICATION/SDP")).status, 201)


@case("other-type", "Another content type is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer().text, Content_Type="text/plain")


@case("no-type", "No content type is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    one_of("status", (await e.ask("POST", e.url, e.offer().text.encode())).status, CLIENT_ERRORS)


@case("empty-body", "An empty body is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(b"")


@case("random-body", "Random bytes are 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(secrets.token_bytes(500))


@case("json-body", "JSON that says it is SDP is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(b'{"sdp": "v=0"}')


@case("line-feeds", "An offer with bare line feeds is taken.", "RFC 8866 5")
async def _(e: Endpoint) -> None:
    same("status", (await e.post(e.offer().text.replace("\r\n", "\n"))).status, 201)


@case("chunked", "An offer in chunks is taken.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        body = e.offer().text.encode()
        yield body[:100]
        yield body[100:]

    same("status", (await e.post(pieces())).status, 201)


@case("expect-continue", "Expect: 100-continue is answered.", "RFC 9110 10.1.1")
async def _(e: Endpoint) -> None:
    same("status", (await e.post(Expect="100-continue")).status, 201)


@case("get", "GET of the endpoint is 2xx without content.", "RFC 9725 4.1")
async def _(e: Endpoint) -> None:
    reply = await e.ask("GET", e.url)
    holds(reply.status in TWO_HUNDREDS, f"status {reply.status}", "2xx")
    same("body", reply.body, b"")


@case("head", "HEAD of the endpoint is 2xx.", "RFC 9725 4.1")
async def _(e: Endpoint) -> None:
    reply = await e.ask("HEAD", e.url)
    holds(reply.status in TWO_HUNDREDS, f"status {reply.status}", "2xx")
    if e.side is Side.WHEP:
        kind = reply.headers.get("Content-Type", "").partition(";")[0]
        same("content-type", kind, SDP)


@case(
    "other-methods", "PUT, PATCH and DELETE of the endpoint are 405 with Allow.", "RFC 9110 15.5.6"
)
async def _(e: Endpoint) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        reply = await e.ask(method, e.url)
        same(f"{method}", reply.status, 405)
        holds("POST" in reply.headers.get("Allow", ""), f"{method} without Allow", "Allow: POST")


@case("options", "OPTIONS is 2xx with Accept-Post: application/sdp.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    reply = await e.ask("OPTIONS", e.url)
    one_of("status", reply.status, (200, 204))
    same("accept-post", reply.headers.get("Accept-Post"), SDP)


@case(
    "preflight",
    "A page's preflight of POST is allowed, without a token or ICE servers.",
    "RFC 9725 4.7.1",
)
async def _(e: Endpoint) -> None:
    reply = await e.ask(
        "OPTIONS",
        e.url,
        Authorization="",
        Origin=ORIGIN,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type",
    )
    holds(reply.status in TWO_HUNDREDS, f"status {reply.status}", "2xx")
    one_of("allow-origin", reply.headers.get("Access-Control-Allow-Origin"), ("*", ORIGIN))
    allowed = words(reply.headers.get("Access-Control-Allow-Headers", ""))
    holds({"authorization", "content-type"} <= allowed, f"allow-headers {allowed}", "both")
    holds("ice-server" not in reply.headers.get("Link", ""), "ICE servers", "none")


@case(
    "preflight-of-the-session",
    "A page's preflights of PATCH and DELETE are allowed.",
    "RFC 9725 4.7.1",
)
async def _(e: Endpoint) -> None:
    session = await e.session()
    for method in ("PATCH", "DELETE"):
        reply = await e.ask(
            "OPTIONS",
            session.url,
            Authorization="",
            Origin=ORIGIN,
            Access_Control_Request_Method=method,
            Access_Control_Request_Headers="if-match,authorization,content-type",
        )
        holds(reply.status in TWO_HUNDREDS, f"{method}: {reply.status}", "2xx")
        methods = words(reply.headers.get("Access-Control-Allow-Methods", ""))
        holds(method.lower() in methods or "*" in methods, f"allow-methods {methods}", method)
        allowed = words(reply.headers.get("Access-Control-Allow-Headers", ""))
        holds("if-match" in allowed, f"allow-headers {allowed}", "if-match")


@case("exposed", "A page may read Location, ETag and Link.", "RFC 9725 4.7.1")
async def _(e: Endpoint) -> None:
    reply = await e.post(Origin=ORIGIN)
    same("status", reply.status, 201)
    exposed = words(reply.headers.get("Access-Control-Expose-Headers", ""))
    holds({"location", "etag", "link"} <= exposed, f"expose-headers {exposed}", "all three")


@case("refusals-are-readable", "A page can read a refusal too.", "RFC 9725 4.7.1")
async def _(e: Endpoint) -> None:
    reply = await e.post(b"nonsense", Origin=ORIGIN)
    one_of("status", reply.status, CLIENT_ERRORS)
    one_of("allow-origin", reply.headers.get("Access-Control-Allow-Origin"), ("*", ORIGIN))


@case("no-redirect-by-301", "A redirect of POST is 307, never 301, 302 or 303.", "RFC 9725 4.5")
async def _(e: Endpoint) -> None:
    reply = await e.post()
    if reply.status not in range(300, 400):
        raise NotOffered("the endpoint does not redirect")
    one_of("status", reply.status, (307, 308))


@case(
    "ice-servers", "Each ICE server has a Link line of its own, in the usual order.", "RFC 9725 4.6"
)
async def _(e: Endpoint) -> None:
    reply = await e.post()
    links = [v for v in getattr(reply.headers, "getall", _none)("Link", []) if "ice-server" in v]
    if not links:
        raise NotOffered("the endpoint names no ICE servers")
    for link in links:
        holds(re.match(r"<(stun|turn|turns):", link), f"Link {link}", "<stun: or <turn: first")
        same("servers in one line", link.count("ice-server"), 1)


def _none(_name: str, default: list[str]) -> list[str]:
    return default


@case("token-needed", "Without the token a POST is 401 with WWW-Authenticate.", "RFC 9725 4.7.1")
async def _(e: Endpoint) -> None:
    _needs_token(e)
    reply = await e.post(Authorization="")
    if reply.status == 201 and e.side is Side.WHEP:
        raise NotOffered("viewers need no token")
    same("status", reply.status, 401)
    holds("WWW-Authenticate" in reply.headers, "no WWW-Authenticate", "WWW-Authenticate")


@case("wrong-token", "A wrong token is 401 or 403.", "RFC 9725 4.7.1")
async def _(e: Endpoint) -> None:
    _needs_token(e)
    reply = await e.post(Authorization="Bearer wrong")
    if reply.status == 201 and e.side is Side.WHEP:
        raise NotOffered("viewers need no token")
    one_of("status", reply.status, (401, 403))


@case("bearer-in-small-letters", "The scheme's case does not matter.", "RFC 9110 11.1")
async def _(e: Endpoint) -> None:
    _needs_token(e)
    same("status", (await e.post(Authorization=f"bearer {e.token}")).status, 201)


@case(
    "session-wrong-token",
    "PATCH and DELETE with a wrong token are refused; it lives on.",
    "RFC 9725 4.7.1",
)
async def _(e: Endpoint) -> None:
    _needs_token(e)
    if e.side is Side.WHEP:
        raise NotOffered("viewers need no token")
    session = await e.session()
    for method in ("PATCH", "DELETE"):
        reply = await session.ask(method, b"", Authorization="Bearer wrong")
        one_of(method, reply.status, (401, 403))
    await session.lives()


@case("guessed-session", "A guessed session's address is 404.", "RFC 9725 5")
async def _(e: Endpoint) -> None:
    session = await e.session()
    last = session.url.rstrip("/").rpartition("/")[2]
    guessed = urljoin(session.url, secrets.token_hex(len(last) // 2 + 1)[: len(last)])
    same("DELETE", (await e.ask("DELETE", guessed)).status, 404)
    same("PATCH", (await e.ask("PATCH", guessed, b"")).status, 404)


@case(
    "guess-tells-nothing",
    "A guessed session's address is answered as fast as a real one's.",
    "RFC 9725 5",
)
async def _(e: Endpoint) -> None:
    session = await e.session()
    last = session.url.rstrip("/").rpartition("/")[2]
    guessed = urljoin(session.url, secrets.token_hex(len(last) // 2 + 1)[: len(last)])
    spent: dict[str, list[float]] = {session.url: [], guessed: []}
    for _number in range(GUESSES):
        for url, times in spent.items():
            began = time.monotonic()
            await e.ask("PATCH", url, b"", Authorization="Bearer wrong")
            times.append(time.monotonic() - began)
    real, guess = (median(times) for times in spent.values())
    seen = f"{1000 * guess:.1f} ms of a guess, {1000 * real:.1f} ms of a real one"
    holds(abs(real - guess) < NOISE, seen, f"less than {1000 * NOISE:.0f} ms apart")


@case("unknown-path", "A path beside the endpoint's is 404 or another 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    reply = await e.ask(
        "POST", f"{e.url.partition('?')[0]}/no/such/path", e.offer().text, Content_Type=SDP
    )
    one_of("status", reply.status, CLIENT_ERRORS)


def _needs_token(e: Endpoint) -> None:
    if not e.token:
        raise NotOffered("no --token was given")


@case("get-of-a-session", "GET of a session is 2xx without content.", "RFC 9725 4.1")
async def _(e: Endpoint) -> None:
    session = await e.session()
    reply = await session.ask("GET")
    if reply.status == 404:
        raise Failed("404", "2xx")
    holds(reply.status in TWO_HUNDREDS, f"status {reply.status}", "2xx")
    same("body", reply.body, b"")
