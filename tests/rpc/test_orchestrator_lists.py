"""Lists of orchestrators from elsewhere: a webhook's, and a remote signer's."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError, PeerError, PeerRefused, PeerTimeout, TooLarge, Unavailable
from relay.market.sources import MAX_LISTED, Listed, Roll
from relay.rpc import orchestrator_webhook as module
from relay.rpc.orchestrator_webhook import fetch_list, parse_list
from relay.rpc.remote_discovery import discover, discovery_url
from tests.rpc.peers import Answer, answering, http_peer

A, B, C = "https://a:8935", "http://b:1", "c.example"


def addresses(roll: Roll) -> list[str]:
    return [entry.address for entry in roll.entries]


def parsed(value: Any) -> Roll:
    return parse_list(orjson.dumps(value))


def test_the_trusted_come_first_and_otherwise_the_lists_order_holds() -> None:
    roll = parsed(
        [{"address": A}, {"address": B, "score": 1}, {"address": C, "score": 1.0, "more": {}}]
    )
    assert addresses(roll) == [B, C, A]
    assert roll.skipped == 0


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "https://a:8935",
        [],
        {},
        {"address": 5},
        {"address": ""},
        {"address": "ftp://a"},
        {"address": "https://u:p@a"},
        {"address": "https://a b"},
        {"address": "https://a:99999"},
        {"address": "x" * 3000},
    ],
)
def test_a_bad_entry_is_skipped_and_counted(bad: Any) -> None:
    roll = parsed([bad, {"address": A, "score": "high", "capabilities": "all"}, bad])
    assert roll == Roll((Listed(A, 0.0, ()),), skipped=2)


def test_a_list_has_a_bound() -> None:
    roll = parsed([{"address": f"https://h{n}"} for n in range(MAX_LISTED + 7)])
    assert (len(roll.entries), roll.skipped) == (MAX_LISTED, 7)
    with pytest.raises(TooLarge):
        parse_list(b" " * ((1 << 20) + 1))


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[", b"[" * 5000, b'"x"', b"\xff"])
def test_what_is_no_list_is_an_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        parse_list(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_an_error_of_ours(body: bytes) -> None:
    with suppress(ParseError):
        parse_list(body)


async def fetched(answer: Answer) -> Roll:
    async with http_peer({"GET /list": answer}) as url, aiohttp.ClientSession() as session:
        return await fetch_list(session, f"{url}/list", headers={"Authorization": "Bearer t"})


async def test_the_webhook_is_asked_with_the_operators_headers() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer t"
        return web.json_response([{"address": A, "score": 1}])

    assert addresses(await fetched(answer)) == [A]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, "no", PeerRefused),
        (302, "", PeerRefused),
        (200, "<html>", PeerError),
        (200, "[" + " " * (1 << 20) + "]", PeerError),
    ],
)
async def test_a_webhook_that_gives_no_list(status: int, body: str, kind: type[PeerError]) -> None:
    with pytest.raises(kind):
        await fetched(answering(status, body))


async def test_a_webhook_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)

    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    with pytest.raises(PeerTimeout):
        await fetched(never)


def test_a_signer_is_asked_for_everyone_or_for_those_with_a_model() -> None:
    assert discovery_url("https://s/") == "https://s/discover-orchestrators"
    assert discovery_url("https://s/base", ["noop", "a b&c"]) == (
        "https://s/base/discover-orchestrators"
        "?caps=live-video-to-video/noop&caps=live-video-to-video/a+b%26c"
    )


async def test_a_signers_answer_tells_capabilities() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.query.getall("caps") == ["live-video-to-video/noop"]
        assert request.headers["X-Key"] == "k"
        runner = {"url": "https://r", "app": "acme/x", "price_info": {"price": 1}}
        capabilities = ["live-video-to-video/noop", 5, "acme/x", "y" * 600]
        entry = {"address": A, "score": 1, "capabilities": capabilities, "runners": [runner]}
        return web.json_response([entry, {"address": B, "score": 1, "capabilities": None}])

    routes = {"GET /discover-orchestrators": answer}
    async with http_peer(routes) as url, aiohttp.ClientSession() as session:
        roll = await discover(session, url, models=["noop"], headers={"X-Key": "k"})
    assert roll.entries == (
        Listed(A, 1, ("live-video-to-video/noop", "acme/x")),
        Listed(B, 1, ()),
    )


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (503, Unavailable, "discovery_pending"),
        (404, PeerRefused, "peer_refused"),
        (200, PeerError, "peer_answer"),
    ],
)
async def test_a_signer_that_has_no_list(status: int, kind: type[Exception], code: str) -> None:
    routes = {"GET /discover-orchestrators": answering(status, "cache empty", "text/plain")}
    async with http_peer(routes) as url, aiohttp.ClientSession() as session:
        with pytest.raises(kind) as caught:
            await discover(session, url)
    assert getattr(caught.value, "code", "") == code
