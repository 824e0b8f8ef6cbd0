"""WHIP and WHEP cases: what stands in offers, and in the answers to them."""

from __future__ import annotations

from dataclasses import replace

from relay.conformance.case import Book, NotOffered, holds, one_of, same
from relay.conformance.endpoint import Endpoint, Side
from relay.conformance.offer import AUDIO, CANDIDATE, DATA, VIDEO, VP8, sections

BOOK: Book[Endpoint] = Book()

case = BOOK.case

UNPROCESSABLE = (422, 400)


@case(
    "answer-matches", "The answer has the offer's sections, mids and one BUNDLE.", "RFC 9725 4.4.1"
)
async def _(e: Endpoint) -> None:
    session, media = (await e.session()).sections()
    same("sections", [one.kind for one in media], ["audio", "video"])
    same("mids", [one.values("mid") for one in media], [["0"], ["1"]])
    holds("group:BUNDLE 0 1" in session, f"{session}", "a=group:BUNDLE 0 1")
    holds(all(one.port for one in media), "a section with port 0", "none")


@case("answer-direction", "Each section of the answer has the one right direction.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    _, media = (await e.session()).sections()
    for one in media:
        holds(e.answers in one.attributes, f"{one.kind} without {e.answers}", e.answers)


@case("answer-mux", "The answer has rtcp-mux and rtcp-mux-only.", "RFC 9725 4.4.1")
async def _(e: Endpoint) -> None:
    _, media = (await e.session()).sections()
    for name in ("rtcp-mux", "rtcp-mux-only"):
        holds(any(name in one.attributes for one in media), f"no {name}", name)


@case(
    "answer-ice",
    "The answer has ICE credentials, a sha-256 fingerprint and a candidate.",
    "RFC 9725 4.4.5",
)
async def _(e: Endpoint) -> None:
    session = await e.session()
    holds(len(session.word("ice-ufrag")) >= 4, "a short ufrag", "4 characters or more")
    holds(len(session.word("ice-pwd")) >= 22, "a short pwd", "22 characters or more")
    holds(session.word("fingerprint").lower().startswith("sha-256 "), "no sha-256", "sha-256")
    first = session.word("candidate").split()
    holds(len(first) > 7 and first[2].lower() == "udp", f"first candidate {first}", "UDP first")
    holds(len(session.reply.body) <= 8192, f"{len(session.reply.body)} bytes", "8192 at most")


@case("answer-is-whole", "All candidates are in the answer: none is sent later.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    (await e.session()).word("candidate")


@case("setup-actpass", "actpass is answered with passive or active.", "RFC 9725 4.4.4")
async def _(e: Endpoint) -> None:
    one_of("setup", (await e.session()).word("setup"), ("passive", "active"))


@case("setup-active", "active is answered with passive.", "RFC 9725 4.4.4")
async def _(e: Endpoint) -> None:
    same("setup", (await e.session(e.offer(setup="active"))).word("setup"), "passive")


@case(
    "setup-passive", "passive, FFmpeg's own, is answered with active or refused.", "RFC 9725 4.4.4"
)
async def _(e: Endpoint) -> None:
    reply = await e.post(e.offer(setup="passive"))
    one_of("status", reply.status, (201, *UNPROCESSABLE))
    if reply.status == 201:
        holds(b"a=setup:active" in reply.body, "another setup", "a=setup:active")


@case("wrong-direction", "An offer of the other direction is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer(direction="recvonly" if e.side is Side.WHIP else "sendonly"))


@case("inactive", "An inactive offer is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer(direction="inactive"))


@case("sendrecv", "sendrecv is taken, and answered with one direction.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    _, media = (await e.session(e.offer(direction="sendrecv"))).sections()
    for one in media:
        holds(e.answers in one.attributes, f"{one.kind} without {e.answers}", e.answers)


@case("direction-absent", "No direction means sendrecv.", "RFC 8866 6.7")
async def _(e: Endpoint) -> None:
    await e.session(e.offer(direction=""))


@case("two-videos", "Two videos are refused as a whole, or both taken.", "RFC 9725 4.4.2")
async def _(e: Endpoint) -> None:
    second = replace(VIDEO, mid="2")
    reply = await e.post(e.offer(media=(AUDIO, VIDEO, second)))
    one_of("status", reply.status, (201, *UNPROCESSABLE))
    holds(reply.status != 201 or b"m=video 0" not in reply.body, "a zeroed section", "none")


@case("two-streams", "Two msid streams are refused as a whole, or both taken.", "RFC 9725 4.4.2")
async def _(e: Endpoint) -> None:
    apart = [replace(one, extra=(f"a=msid:{one.kind} {one.mid}",)) for one in (AUDIO, VIDEO)]
    reply = await e.post(e.offer(media=apart, msid=""))
    one_of("status", reply.status, (201, *UNPROCESSABLE))
    holds(reply.status != 201 or b" 0 UDP" not in reply.body, "a zeroed section", "none")


@case(
    "one-stream",
    "A viewer's answer has all sections in one msid stream.",
    "WHEP 4.6.2",
)
async def _(e: Endpoint) -> None:
    _, media = (await e.session()).sections()
    if e.side is Side.WHIP:
        raise NotOffered("a publisher's answer sends no stream")
    named = [one.values("msid") for one in media if "inactive" not in one.attributes]
    holds(all(named), "a section without msid", "msid")
    streams = {words[0].split()[0] for words in named}
    holds(len(streams) == 1, f"streams {sorted(streams)}", "one")


@case(
    "simulcast",
    "Three layers are all taken in a=simulcast:recv, or the offer is 4xx.",
    "RFC 9725 4.8",
)
async def _(e: Endpoint) -> None:
    if e.side is Side.WHEP:
        raise NotOffered("viewers send no layers")
    rids = ("l", "m", "h")
    layers = (*(f"a=rid:{rid} send" for rid in rids), "a=simulcast:send l;m;h")
    reply = await e.post(e.offer(media=(AUDIO, replace(VIDEO, extra=layers))))
    one_of("status", reply.status, (201, *UNPROCESSABLE))
    if reply.status == 201:
        _, media = sections(reply.body.decode())
        found = [value for one in media for value in one.values("simulcast")]
        same(
            "simulcast",
            [sorted(v.removeprefix("recv ").split(";")) for v in found],
            [["h", "l", "m"]],
        )


@case("video-alone", "Video alone is taken.", "RFC 9725 4.4.2")
async def _(e: Endpoint) -> None:
    await e.session(e.offer(media=(VIDEO,)))


@case("audio-alone", "Audio alone is taken, or refused with a 4xx.", "RFC 9725 4.4.2")
async def _(e: Endpoint) -> None:
    reply = await e.post(e.offer(media=(AUDIO,)))
    holds(reply.status == 201 or 400 <= reply.status < 500, f"status {reply.status}", "201 or 4xx")


@case(
    "no-common-codec",
    "An offer without a codec of the server's is 4xx, not a zeroed line.",
    "RFC 9725 4.4.3",
)
async def _(e: Endpoint) -> None:
    strange = replace(VIDEO, lines=("a=rtpmap:96 NOSUCH/90000",))
    await e.refuses(e.offer(media=(strange,)))


@case(
    "no-h264",
    "An offer without H.264 is taken or 4xx, never a line that carries nothing.",
    "RFC 9725 4.4.3",
)
async def _(e: Endpoint) -> None:
    reply = await e.post(e.offer(media=(AUDIO, replace(VIDEO, lines=VP8))))
    one_of("status", reply.status, (201, *range(400, 500)))
    holds(reply.status != 201 or b"m=video 0" not in reply.body, "a zeroed section", "none")


@case("other-codecs-beside", "Unknown codecs beside H.264 do no harm.", "RFC 9725 4.4.3")
async def _(e: Endpoint) -> None:
    more = replace(VIDEO, extra=("a=rtpmap:97 NOSUCH/90000", "a=fmtp:97 x=1"))
    text = e.offer(media=(AUDIO, more)).text.replace("SAVPF 96", "SAVPF 97 96")
    reply = await e.post(text)
    same("status", reply.status, 201)
    holds(b"NOSUCH" not in reply.body, "the unknown codec", "none")


@case("h264-profiles", "High, main and mode 0 are taken or refused as a whole.", "RFC 6184 8.2")
async def _(e: Endpoint) -> None:
    for words in (
        "packetization-mode=1;profile-level-id=64001f",
        "packetization-mode=1;profile-level-id=4d001f",
        "packetization-mode=0;profile-level-id=42e01f",
    ):
        lines = ("a=rtpmap:96 H264/90000", f"a=fmtp:96 {words}")
        reply = await e.post(e.offer(media=(AUDIO, replace(VIDEO, lines=lines))))
        one_of(words, reply.status, (201, *UNPROCESSABLE))
        holds(reply.status != 201 or b"m=video 0" not in reply.body, "a zeroed section", "none")


@case("no-ufrag", "An offer without ice-ufrag is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer(ufrag=""))


@case("no-fingerprint", "An offer without a fingerprint is 4xx.", "RFC 9725 4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer(fingerprint=""))


@case("weak-fingerprint", "A sha-1 fingerprint alone is 4xx.", "RFC 8122 5")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer(fingerprint="sha-1 " + ":".join(["AB"] * 20)))


@case("no-sections", "An offer without a media section is 4xx.", "RFC 9725 4.4.2")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer(media=(), bundle=()))


@case(
    "lines-at-the-session",
    "ICE and DTLS lines may stand before the sections (OBS).",
    "RFC 8829 5.2.1",
)
async def _(e: Endpoint) -> None:
    await e.session(e.offer(at_session=True))


@case("no-candidates", "An offer without candidates is taken.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    await e.session(e.offer(candidates=()))


@case("odd-candidates", "mDNS, zones, TCP and many candidates do no harm.", "RFC 9725 4.3.2")
async def _(e: Endpoint) -> None:
    odd = (
        "candidate:1 1 udp 2122260223 4f1a2b3c-0000-4000-8000-abcdefabcdef.local 61764 typ host",
        "candidate:2 1 udp 2122260223 fe80::1%eth0 61764 typ host",
        "candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        "candidate:4 1 sctp 1 192.0.2.7 9 typ host",
        *[CANDIDATE] * 300,
    )
    await e.session(e.offer(candidates=odd))


@case(
    "no-bundle",
    "Two sections without BUNDLE are refused, or taken; one alone is taken.",
    "RFC 9725 4.4.1",
)
async def _(e: Endpoint) -> None:
    one_of("two", (await e.post(e.offer(bundle=()))).status, (201, *UNPROCESSABLE))
    await e.session(e.offer(media=(VIDEO,), bundle=()))


@case(
    "bundle-only", "A section with port 0 and bundle-only is not a rejected one.", "RFC 9725 4.4.1"
)
async def _(e: Endpoint) -> None:
    second = replace(VIDEO, port=0, extra=("a=bundle-only",))
    _, media = (await e.session(e.offer(media=(AUDIO, second)))).sections()
    holds(media[1].port, "video refused", "video taken")


@case("missing-mid-in-bundle", "A BUNDLE that names a mid that is not there is taken.", "RFC 9143")
async def _(e: Endpoint) -> None:
    await e.session(e.offer(media=(VIDEO,), bundle=("0", "1")))


@case("same-mid-twice", "Two sections with one mid are 4xx.", "RFC 5888 4")
async def _(e: Endpoint) -> None:
    await e.refuses(e.offer(media=(AUDIO, replace(VIDEO, mid="0")), bundle=("0",)))


@case("long-mid", "A mid of 64 characters is taken and handed back.", "RFC 5888 4")
async def _(e: Endpoint) -> None:
    mid = "m" * 64
    _, media = (await e.session(e.offer(media=(replace(VIDEO, mid=mid),)))).sections()
    same("mid", media[0].values("mid"), [mid])


@case("few-lines", "An offer without rtcp-mux-only, msid and ssrc is taken.", "RFC 9725 4.4.1")
async def _(e: Endpoint) -> None:
    await e.session(e.offer(rtcp_mux_only=False, msid=""))


@case("data-channel", "A data channel is refused, or answered with port 0.", "RFC 9725 4.4.2")
async def _(e: Endpoint) -> None:
    reply = await e.post(e.offer(media=(AUDIO, VIDEO, DATA), bundle=("0", "1", "2")))
    if reply.status == 201:
        holds(b"m=application 0" in reply.body, "m=application answered", "port 0")
    else:
        one_of("status", reply.status, UNPROCESSABLE)
