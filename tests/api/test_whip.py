"""WHIP endpoints: RFC 9725 as clients in the field need it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator

import pytest

from relay.api import whip
from relay.errors import Unavailable, Unprocessable
from tests.api.conftest import OFFER, MakeSite, Site

PATHS = ("/whip/cam", "/live/video-to-video/cam/whip")


@pytest.mark.parametrize("path", PATHS)
async def test_an_offer_is_answered_with_all_that_a_client_needs(site: Site, path: str) -> None:
    answer, body = await site.post(path)
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/sdp"
    assert body.startswith(b"v=0\r\n")
    assert re.fullmatch(r"/session/[\w-]{22,}", answer.headers["Location"])
    assert re.fullmatch(r'"[^"]+"', answer.headers["ETag"])
    assert answer.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
    request_id = site.node.live["cam"].request_id
    assert answer.headers["Livepeer-Playback-URL"] == (
        f"{site.server.url}/live/video-to-video/cam-{request_id}-out/whep"
    )
    assert "Link" not in answer.headers


async def test_the_query_says_model_parameters_and_id(site: Site) -> None:
    await site.post("/whip/cam?pipeline=effects&streamId=s1&params=%7B%22effect%22:%22blur%22%7D")
    (asked,) = site.node.published
    assert (asked["model"], asked["stream_id"]) == ("effects", "s1")
    assert asked["params"] == {"effect": "blur"}
    assert asked["offer"] == OFFER


async def test_long_first_parameters_fit_into_the_query(site: Site) -> None:
    answer, _ = await site.post("/whip/cam?params=%7B%22prompt%22:%22" + "x" * 20_000 + "%22%7D")
    assert answer.status == 201


@pytest.mark.parametrize("text", ["x", "[1]", "%7B", "NaN", "1"])
async def test_parameters_that_are_no_object_are_refused(site: Site, text: str) -> None:
    answer, body = await site.post(f"/whip/cam?params={text}")
    assert (answer.status, json.loads(body)["code"]) == (400, "bad_params_json")
    assert not site.node.published


async def test_a_public_url_makes_addresses_absolute(make_site: MakeSite) -> None:
    site = await make_site(public_url="https://live.example/")
    answer, _ = await site.post("/whip/cam", Host="evil.example")
    assert answer.headers["Location"].startswith("https://live.example/session/")
    assert answer.headers["Livepeer-Playback-URL"].startswith("https://live.example/live/")


async def test_a_host_header_does_not_reach_any_address(site: Site) -> None:
    answer, _ = await site.post("/whip/cam", Host="evil.example")
    assert "evil" not in str(answer.headers)


async def test_each_ice_server_has_a_header_line_of_its_own(make_site: MakeSite) -> None:
    site = await make_site(
        webrtc={
            "ice_servers": [
                {"url": "stun:stun.example:3478"},
                {"url": "turn:turn.example?transport=udp", "username": "u", "credential": 'p"'},
            ]
        }
    )
    answer, _ = await site.post("/whip/cam")
    stun, turn = answer.headers.getall("Link")
    assert stun == '<stun:stun.example:3478>; rel="ice-server"'
    assert turn == (
        '<turn:turn.example?transport=udp>; rel="ice-server"; username="u"; '
        'credential="p\\""; credential-type="password"'
    )
    plain, _ = await site.call("OPTIONS", "/whip/cam")
    assert len(plain.headers.getall("Link")) == 2
    preflight, _ = await site.call("OPTIONS", "/whip/cam", Access_Control_Request_Method="POST")
    assert "Link" not in preflight.headers


async def test_turn_credentials_are_not_told_to_strangers(make_site: MakeSite) -> None:
    site = await make_site(publish_key="k", webrtc={"ice_servers": [{"url": "stun:s.example"}]})
    stranger, _ = await site.call("OPTIONS", "/whip/cam")
    assert stranger.status == 200
    assert "Link" not in stranger.headers
    friend, _ = await site.call("OPTIONS", "/whip/cam", Authorization="Bearer k")
    assert "Link" in friend.headers


@pytest.mark.parametrize("path", PATHS)
async def test_get_and_head_are_empty_successes(site: Site, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer, body = await site.call(method, path)
        assert (answer.status, body) == (204, b"")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_other_methods_are_told_which_there_are(site: Site, method: str) -> None:
    answer, body = await site.call(method, "/whip/cam")
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert json.loads(body)["code"] == "method_not_allowed"


async def test_options_tells_what_may_be_posted(site: Site) -> None:
    answer, body = await site.call("OPTIONS", "/whip/cam")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Accept-Post"] == "application/sdp"
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("kind", ["application/sdp; charset=utf-8", "APPLICATION/SDP"])
async def test_the_content_type_is_read_leniently(site: Site, kind: str) -> None:
    answer, _ = await site.call("POST", "/whip/cam", OFFER, Content_Type=kind)
    assert answer.status == 201


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "", None, "sdp"])
async def test_another_content_type_is_415_and_takes_nothing_over(
    site: Site, kind: str | None
) -> None:
    headers = {} if kind is None else {"Content_Type": kind}
    answer, body = await site.call("POST", "/whip/cam", OFFER, **headers)
    assert (answer.status, json.loads(body)["code"]) == (415, "content_type")
    assert not site.node.published


@pytest.mark.parametrize("data", [b"", b"  \r\n"])
async def test_an_empty_body_is_400(site: Site, data: bytes) -> None:
    answer, body = await site.post("/whip/cam", data)
    assert (answer.status, json.loads(body)["code"]) == (400, "sdp_empty")


async def test_bytes_that_are_no_text_are_400(site: Site) -> None:
    answer, body = await site.post("/whip/cam", b"v=0\xff\xfe")
    assert (answer.status, json.loads(body)["code"]) == (400, "sdp_parse")


async def test_chunks_are_accepted(site: Site) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for line in OFFER.splitlines(keepends=True):
            yield line.encode()

    answer, _ = await site.post("/whip/cam", parts())
    assert answer.status == 201
    assert site.node.published[0]["offer"] == OFFER


async def test_a_large_body_is_refused_before_it_is_read(site: Site) -> None:
    head = b"POST /whip/cam HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
    got = await site.raw(head + b"Content-Length: 10000000\r\n\r\n" + b"v=0", until=b'"code"')
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b'"too_large"' in got


async def test_large_chunks_are_refused_once_over_the_bound(site: Site) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"a" * 1024

    answer, _ = await site.post("/whip/cam", parts())
    assert answer.status == 413


async def test_an_encoded_body_is_refused_and_never_unpacked(site: Site) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    answer, body = await site.post("/whip/cam", bomb, Content_Encoding="gzip")
    assert (answer.status, json.loads(body)["code"]) == (415, "encoding")
    identity, _ = await site.post("/whip/cam", Content_Encoding="identity")
    assert identity.status == 201


async def test_expect_gets_its_interim_answer(site: Site) -> None:
    head = (
        "POST /whip/cam HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
        f"Content-Length: {len(OFFER)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    got = await site.raw(head.encode() + OFFER.encode())
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created")


async def test_a_body_that_never_comes_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.api.body.READ_TIMEOUT", 0.05)
    head = b"POST /whip/cam HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
    got = await site.raw(head + b"Content-Length: 100\r\n\r\nv=0", until=b'"code"')
    assert got.startswith(b"HTTP/1.1 408 ")
    assert not site.node.published


async def test_broken_chunks_are_400_and_do_not_fill_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /whip/cam HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
    got = await site.raw(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert b" 400 " in got.splitlines()[0]
    assert not site.node.published
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "header", ["Bearer k", "bearer k", "BEARER  k", "k"], ids=["plain", "lower", "upper", "bare"]
)
async def test_tokens_are_read_as_clients_send_them(make_site: MakeSite, header: str) -> None:
    site = await make_site(publish_key="k")
    answer, _ = await site.post("/whip/cam", Authorization=header)
    assert answer.status == 201


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic azpr", "wrong"])
async def test_a_missing_or_wrong_token_is_401_with_a_challenge(
    make_site: MakeSite, header: str | None
) -> None:
    site = await make_site(publish_key="k")
    headers = {} if header is None else {"Authorization": header}
    answer, body = await site.post("/whip/cam", **headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert ("invalid_token" in answer.headers["WWW-Authenticate"]) is (header is not None)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert b'"k"' not in body


async def test_a_name_that_is_live_elsewhere_is_409_with_a_time(site: Site) -> None:
    await site.post("/whip/cam")
    answer, body = await site.post("/whip/cam")
    assert (answer.status, answer.headers["Retry-After"]) == (409, "1")
    assert json.loads(body)["code"] == "name_live"


async def test_refusals_are_problems_with_the_reason_in_words(site: Site) -> None:
    site.node.fail = Unprocessable("Send H.264.", code="no_h264")
    answer, body = await site.post("/whip/cam")
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(body) == {
        "type": "urn:relay:problem:no_h264",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "Send H.264.",
        "code": "no_h264",
        "error": "Send H.264.",
    }


async def test_no_capacity_is_503_with_a_time(site: Site) -> None:
    site.node.fail = Unavailable("full", code="no_capacity", retry_after=2)
    answer, _ = await site.post("/whip/cam")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")


async def test_too_many_offers_at_once_are_told_to_come_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whip, "OFFERS_AT_ONCE", 2)
    site.node.hold = asyncio.Event()
    waiting = [asyncio.ensure_future(site.post(f"/whip/cam{n}")) for n in range(2)]
    for _ in waiting:
        await site.node.full.acquire()
    answer, body = await site.post("/whip/x")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert json.loads(body)["code"] == "busy"
    site.node.hold.set()
    assert [(await answer)[0].status for answer in waiting] == [201, 201]
    assert (await site.post("/whip/later"))[0].status == 201


@pytest.mark.parametrize(
    "path",
    [
        "/whip/",
        "/whip/%2e%2e",
        "/whip/a%2Fb",
        "/whip/a/b",
        "/whip",
        "/whip/" + "a" * 4096,
        "/whip/%00",
        "/nosuch",
        "//",
    ],
)
async def test_odd_addresses_are_refused_without_a_failure(site: Site, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
    got = await site.raw(
        (head + f"Content-Length: {len(OFFER)}\r\nConnection: close\r\n\r\n{OFFER}").encode()
    )
    status = int(got.split()[1])
    assert 400 <= status < 500
    assert not site.node.published


async def test_a_defect_of_ours_shows_an_id_and_nothing_else(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.node.fail = ZeroDivisionError("the secret inside")
    answer, body = await site.post("/whip/cam")
    told = json.loads(body)
    assert (answer.status, told["code"]) == (500, "internal")
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert told["incident"] in caplog.text
    assert "the secret inside" in caplog.text
