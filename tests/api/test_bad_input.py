"""Bad input at each door of the real gateway: the status, the code, and nothing lost.

A good stream, ``good``, is there before, and must be there after.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from tests.api.test_gateway import FRAG, SDP, TRICKLE, Live, MakeLive, live, make_live
from tests.network import eventually
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.offers import BUNDLE, SESSION, audio, join, video

__all__ = ["live", "make_live"]  # fixtures, found by their names

GOOD = offers.publisher()


async def raw(live: Live, method: str, path: str, *headers: bytes, body: bytes = b"") -> bytes:
    """One request byte by byte; the whole answer."""
    port = urlsplit(live.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [b"Host: 127.0.0.1", b"Connection: close", *headers]
    if not any(line.lower().startswith((b"content-length", b"transfer-e")) for line in lines):
        lines.append(b"Content-Length: %d" % len(body))
    head = f"{method} {path} HTTP/1.1\r\n".encode() + b"\r\n".join(lines)
    try:
        async with asyncio.timeout(5):
            writer.write(head + b"\r\n\r\n" + body)
            got = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", got)
            return got + await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()


def told(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer."""
    code = re.search(rb'"code": ?"([a-z0-9_]+)"', answer)
    return int(answer.split()[1]), code[1].decode() if code else ""


@pytest.fixture
async def session(live: Live) -> AsyncIterator[str]:
    """A session of another stream; nothing that a test does may touch it."""
    path: str = (await live.publish("good")).headers["Location"]
    yield path
    assert (await live.call("GET", path)).status == 204
    assert (await live.patch(path, TRICKLE)).status == 204
    assert [status.name for status in live.node.streams()] == ["good"]
    assert (await live.call("GET", "/readyz")).status in (200, 503)


# -- offers -----------------------------------------------------------------------------


def without(pattern: str) -> str:
    return re.sub(rf"a={pattern}[^\r]*\r\n", "", GOOD)


CANDIDATES = [f"a=candidate:{i} 1 udp {i + 1} 192.0.2.1 {i + 1} typ host" for i in range(1000)]
ODD_CANDIDATES = [
    "a=candidate:1 1 udp 1 0cb0e0c4-9a86-4c2e.local 5000 typ host",
    "a=candidate:1 1 udp 1 169.254.169.254 80 typ host",
    "a=candidate:1 1 udp 1 127.0.0.1 22 typ host",
    "a=candidate:1 1 udp 1 fe80::1%eth0 5000 typ host",
    "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
    "a=candidate:1 1 udp 99999999999999999999 192.0.2.1 99999999 typ host",
    "a=candidate:",
]

BAD_OFFERS = {
    "none": ("\r\n", 400, "sdp_empty"),
    "no section": (join(SESSION), 400, "sdp_no_media"),
    "200 sections": (join(SESSION, video()[:1] * 200), 422, "too_many_tracks"),
    "no ufrag": (without("ice-ufrag"), 400, "sdp_no_ice"),
    "no pwd": (without("ice-pwd"), 400, "sdp_no_ice"),
    "no fingerprint": (without("fingerprint"), 400, "sdp_no_fingerprint"),
    "sha-1": (GOOD.replace("sha-256", "sha-1"), 422, "fingerprint_hash"),
    "no bundle": (GOOD.replace(BUNDLE, "a=x"), 422, "not_bundled"),
    "recvonly": (offers.viewer(), 422, "direction"),
    "inactive": (offers.viewer("inactive"), 422, "direction"),
    "VP8": (GOOD.replace("H264", "VP8"), 422, "no_h264"),
    "same mids": (GOOD.replace("a=mid:1", "a=mid:0"), 400, "sdp_duplicate_mid"),
    "long mid": (GOOD.replace("a=mid:1", "a=mid:" + "m" * 300), 400, "sdp_parse"),
    "NUL": (GOOD.replace("s=-", "s=\0"), 400, "sdp_parse"),
    "bare CR": (GOOD.replace("s=-", "s=-\ra=ice-lite"), 400, "sdp_parse"),
    "long ufrag": (GOOD.replace(offers.UFRAG, "u" * 257), 400, "sdp_ice"),
    "simulcast": (
        join(SESSION, BUNDLE, audio(), video(extra=["a=simulcast:send h;l"])),
        422,
        "simulcast",
    ),
    "two videos": (
        join(SESSION, "a=group:BUNDLE 1 2", video(), video(mid="2")),
        422,
        "too_many_tracks",
    ),
    "large": (GOOD + "a=x\r\n" * 40_000, 413, "too_large"),
}


@pytest.mark.parametrize("name", BAD_OFFERS)
async def test_a_bad_offer(live: Live, session: str, name: str) -> None:
    offer, status, code = BAD_OFFERS[name]
    answer = await live.publish("bad", offer)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.text) < 2000
    assert len(live.node.peers) == 1


ODD_OFFERS = {
    "a thousand candidates": join(SESSION, BUNDLE, audio(), video(extra=CANDIDATES)),
    "candidates of all kinds": join(SESSION, BUNDLE, audio(), video(extra=ODD_CANDIDATES)),
    "passive": GOOD.replace("actpass", "passive"),
    "LF": GOOD.replace("\r\n", "\n"),
    "mid of 17": GOOD.replace("a=mid:1", "a=mid:" + "m" * 17).replace("0 1", "0 " + "m" * 17),
    "no packetization-mode": GOOD.replace("packetization-mode=1;", ""),
    "mode 0": GOOD.replace("packetization-mode=1", "packetization-mode=0"),
    "unicode": GOOD.replace("s=-", "s=caméra 🎥\u2028"),
    "10 000 attributes": GOOD + "a=x\r\n" * 10_000,
}


@pytest.mark.parametrize("name", ODD_OFFERS)
async def test_an_odd_offer_is_answered(live: Live, session: str, name: str) -> None:
    answer = await live.publish("odd", ODD_OFFERS[name])
    assert answer.status == 201
    assert len(answer.text) < 8192
    assert "169.254" not in answer.text
    assert (await live.call("DELETE", answer.headers["Location"])).status == 200
    await eventually(lambda: len(live.node.streams()) == 1, 5, every=0.02)


# -- bodies, at each door that takes one --------------------------------------------------

KEY = b"Authorization: Bearer k"
DOORS = [
    ("POST", "/whip/x", b"application/sdp"),
    ("POST", "/live/video-to-video/x/whip", b"application/sdp"),
    ("POST", "/whep/x", b"application/sdp"),
    ("POST", "/live/video-to-video/x-out/whep", b"application/sdp"),
    ("PATCH", "/session/{id}", b"application/trickle-ice-sdpfrag"),
    ("PATCH", "/v1/streams/good", b"application/json"),
    ("POST", "/v1/streams/good/model", b"application/json"),
    ("POST", "/live/video-to-video/good/update", b"application/json"),
]
BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(("method", "path", "kind"), DOORS, ids=[door[1] for door in DOORS])
async def test_a_bad_body(
    live: Live, session: str, monkeypatch: pytest.MonkeyPatch, method: str, path: str, kind: bytes
) -> None:
    path = path.replace("/session/{id}", session)
    typed = b"Content-Type: " + kind
    answer = await raw(live, method, path, typed, b"Content-Length: 10000000", body=b"v=0")
    assert told(answer) == (413, "too_large")
    answer = await raw(live, method, path, typed, b"Content-Encoding: gzip", body=BOMB)
    assert told(answer) == (415, "encoding")
    chunks = b"%x\r\n%b\r\n" % (200_000, b"a" * 200_000)
    answer = await raw(live, method, path, typed, b"Transfer-Encoding: chunked", body=chunks)
    assert told(answer) == (413, "too_large")
    deep = b'{"params":' * 500 + b"1" + b"}" * 500
    for body in (b"", b"\xff\xfe\0", b"null", b"[" * 5000, deep):
        answer = await raw(live, method, path, typed, b"If-Match: *", body=body)
        status, code = told(answer)
        assert 400 <= status < 500
        assert code
    monkeypatch.setattr("relay.api.body.READ_TIMEOUT", 0.05)
    answer = await raw(live, method, path, typed, b"Content-Length: 100", body=b"v=0")
    assert told(answer) == (408, "request_timeout")


# -- heads --------------------------------------------------------------------------------

HEADS = {
    "a token of bytes": (
        "POST",
        "/whip/x",
        [b"Authorization: Bearer \xff\xfe"],
        401,
        "key_unknown",
    ),
    "a long token": ("POST", "/whip/x", [b"Authorization: " + b"x" * 8000], 401, "key_unknown"),
    "a type of bytes": ("POST", "/whip/x", [KEY, b"Content-Type: \xff/\xfe"], 415, "content_type"),
    "a long type": (
        "POST",
        "/whip/x",
        [KEY, b"Content-Type: a/" + b"b" * 7000],
        415,
        "content_type",
    ),
    "an encoding of bytes": ("POST", "/whip/x", [KEY, b"Content-Encoding: \xff"], 415, "encoding"),
    "odd expectations": ("POST", "/whip/x", [KEY, b"Expect: \xff"], 417, "expectation_failed"),
    "more expectations": ("GET", "/", [b"Expect: miracles"], 417, "expectation_failed"),
    "a broken origin": ("GET", "/v1/streams", [b"Origin: http://[bad"], 401, "key_required"),
    "an origin of bytes": ("PATCH", "/v1/streams/x", [b"Origin: \xff\xfe"], 401, "key_required"),
    "a tag of bytes": ("GET", "/", [b"If-None-Match: \xff", b"If-Modified-Since: \xff"], 200, ""),
    "an endless range": ("GET", "/", [b"Range: bytes=" + b"9" * 30 + b"-"], 416, ""),
    "two lengths": ("POST", "/whip/x", [KEY, b"Content-Length: 3", b"Content-Length: 4"], 400, ""),
    "a length below zero": ("POST", "/whip/x", [KEY, b"Content-Length: -1"], 400, ""),
    "length and chunks": (
        "POST",
        "/whip/x",
        [KEY, b"Content-Length: 3", b"Transfer-Encoding: chunked"],
        400,
        "",
    ),
}


@pytest.mark.parametrize("name", HEADS)
async def test_a_bad_head(make_live: MakeLive, caplog: pytest.LogCaptureFixture, name: str) -> None:
    method, path, headers, status, code = HEADS[name]
    live = await make_live(publish_key="k")
    if not any(line.startswith(b"Content-Type") for line in headers):
        headers = [b"Content-Type: application/sdp", *headers]
    answer = await raw(live, method, path, *headers, body=GOOD.encode())
    assert told(answer)[0] == status
    assert code in answer.decode("utf-8", "replace")
    assert len(answer) < 10_000
    assert "Traceback" not in caplog.text
    assert not live.node.streams()


@pytest.mark.parametrize("value", ["http://[bad", "\xff\xfe", "null", "http://evil.example"])
async def test_an_origin_that_cannot_be_ours_changes_nothing(
    live: Live, session: str, value: str
) -> None:
    origin = b"Origin: " + value.encode("latin-1")
    for method, path in (("GET", "/v1/streams"), ("DELETE", "/v1/streams/good")):
        assert told(await raw(live, method, path, origin)) == (403, "cross_origin")


# -- names, ids and queries ---------------------------------------------------------------

NAMES = ["%00", "%0d%0aX:1", "a" * 4096, "%ff%fe", "%ed%a0%80", "%F0%9F%8E%A5", "..%2f..", ".x"]


def named(name: str) -> Iterator[tuple[str, str]]:
    yield "POST", f"/whip/{name}"
    yield "POST", f"/whep/{name}"
    yield "POST", f"/live/video-to-video/{name}/whip"
    yield "POST", f"/live/video-to-video/{name}-out/whep"
    yield "POST", f"/live/video-to-video/{name}-01234567-out/whep"
    yield "POST", f"/live/video-to-video/{name}/update"
    yield "GET", f"/live/video-to-video/{name}/status"
    yield "GET", f"/v1/streams/{name}"
    yield "DELETE", f"/v1/streams/{name}"
    yield "DELETE", f"/session/{name}"
    yield "GET", f"/web/{name}"


@pytest.mark.parametrize("name", NAMES)
async def test_a_bad_name(live: Live, session: str, name: str) -> None:
    for method, path in named(name):
        typed = b"Content-Type: application/sdp"
        answer = await raw(live, method, path, typed, body=GOOD.encode())
        assert told(answer)[0] in (400, 404)
        assert len(answer) < 4000
        assert b"\r\nX:1" not in answer


QUERIES = [
    ("params=" + "[" * 5000, 400, "bad_params_json"),
    ("params=%ff", 400, "bad_params_json"),
    ('params={"a":1e999}', 400, "bad_params_json"),
    ('params={"a":"' + "x" * 40_000 + '"}', 413, "params_too_large"),
    ("streamId=%00%0a", 400, "bad_stream_id"),
    ("streamId=" + "x" * 300, 400, "bad_stream_id"),
    ("pipeline=a%1bb", 400, "bad_model"),
    ("pipeline=" + "x" * 60_000, 400, "bad_model"),
]


@pytest.mark.parametrize(("query", "status", "code"), QUERIES, ids=range(len(QUERIES)))
async def test_a_bad_query(live: Live, session: str, query: str, status: int, code: str) -> None:
    typed = b"Content-Type: application/sdp"
    answer = await raw(live, "POST", f"/whip/x?{query}", typed, body=GOOD.encode())
    assert told(answer) == (status, code)


async def test_a_session_cannot_be_guessed_or_ended_by_another(live: Live, session: str) -> None:
    secret = session.rpartition("/")[2]
    other = (await live.play("good")).headers["Location"]
    guesses = {
        secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        secret[:-1],
        secret + "=",
        secret + "%00",
        secret.swapcase(),
        "..%2f" + secret,
        *(secrets.token_urlsafe(24) for _ in range(100)),
    }
    for guess in guesses:
        for method in ("DELETE", "PATCH", "GET"):
            answer = await live.call(method, f"/session/{guess}", headers=FRAG)
            assert answer.status == 404
    for status in (200, 404, 404):
        assert (await live.call("DELETE", other)).status == status


# -- storms ---------------------------------------------------------------------------------


async def test_of_many_publishers_at_once_one_gets_the_name(live: Live, session: str) -> None:
    answers = await asyncio.gather(*(live.publish("one") for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    for answer in answers:
        if answer.status == 409:
            assert answer.headers["Retry-After"] == "1"
            assert answer.code in ("name_taken", "name_live")
        else:
            assert (await live.call("DELETE", answer.headers["Location"])).status == 200
    await eventually(lambda: len(live.node.streams()) == 1, 5, every=0.02)


async def test_restarts_in_a_storm_are_429_and_the_last_one_counts(
    live: Live, session: str
) -> None:
    path = (await live.publish("one")).headers["Location"]
    bodies = [
        TRICKLE.replace(offers.UFRAG, f"u{number:07}").replace(offers.PWD, "p" * 24)
        for number in range(40)
    ]
    codes = [(await live.patch(path, body)).status for body in bodies]
    assert set(codes) == {200, 429}
    assert codes.count(200) < 15
    last = max(number for number, code in enumerate(codes) if code == 200)

    async def answered() -> int | None:
        status = (await live.patch(path, bodies[last])).status
        return status if status != 429 else None

    assert await eventually(answered, 5, every=0.1) == 204  # it is the one in force
    assert (await live.call("DELETE", path)).status == 200
    await eventually(lambda: len(live.node.streams()) == 1, 5, every=0.02)


async def test_a_page_reloaded_a_hundred_times_leaves_nothing(make_live: MakeLive) -> None:
    live = await make_live(webrtc={"port": 0, "connect_timeout": 0.3})
    await live.play()
    tasks, files = len(asyncio.all_tasks()), psutil.Process().num_fds()
    for number in range(100):  # no DELETE: the tab was just closed
        answer = await live.play(
            f"cam{number % 3}", offers.CHROMIUM.replace("sendonly", "recvonly")
        )
        assert answer.status == 201
    await eventually(lambda: len(live.node.peers) == 0, 5, every=0.02)
    assert live.node.peers.udp.idle
    await eventually(lambda: not live.node._sessions, 5, every=0.02)
    assert psutil.Process().num_fds() <= files + 1
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 1, 5, every=0.02)


async def test_a_viewer_may_come_while_there_is_no_worker(live: Live, session: str) -> None:
    answer = await live.play("good")
    assert answer.status == 201
    assert answer.text.count("a=sendonly") == 2
    shown = json.loads((await live.call("GET", "/v1/streams/good")).text)
    assert shown["viewers"] <= 1
    assert (await live.call("DELETE", answer.headers["Location"])).status == 200


async def test_many_connections_that_say_nothing_hold_nobody_up(live: Live, session: str) -> None:
    port = urlsplit(live.url).port
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    for number, (_, writer) in enumerate(idle):
        writer.write(b"POST /whip/x HTTP/1.1\r\nHost: x\r\nX-Slow: " + bytes([97]) * (number + 1))
    async with asyncio.timeout(2):
        assert (await live.call("GET", "/healthz")).status == 200
        assert (await live.call("POST", "/whep/good", offers.viewer(), SDP)).status == 201
    for _, writer in idle:
        writer.close()
