"""What ``relay publish`` tells of its stream, and when it says nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.cli import lookout
from relay.cli.lookout import Place, in_words, look


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://a:1/whip/cam", Place("http://a:1", "cam")),
        ("https://a/under/whip/cam?pipeline=x", Place("https://a/under", "cam")),
        ("http://[::1]:1/live/video-to-video/cam/whip", Place("http://[::1]:1", "cam")),
        ("http://a/whip/", None),
        ("http://a/whip/cam/more", None),
        ("http://a/live/video-to-video/cam/other", None),
        ("http://a/rtc/v1/whip?app=live", None),
        ("/whip/cam", None),
    ],
)
def test_a_place_is_read_off_our_addresses_only(url: str, place: Place | None) -> None:
    assert Place.of(url) == place


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"state": "live", "reason": ""}, "live"),
        ({"state": "switching", "reason": "no output"}, "switching worker: no output"),
        (
            {"state": "switching", "reason": "switching worker: gone", "output": {"fps": 30.0}},
            "switching worker: gone",
        ),
        (
            {
                "state": "switching",
                "reason_code": "no_orchestrator",
                "reason": "nobody offers it",
                "output": {"fps": 30.0},
            },
            "switching worker: nobody offers it",
        ),
        ({"state": "failed", "reason": "nobody offers it"}, "failed: nobody offers it"),
        ({"state": "failed", "reason": "full; trying again"}, "not served: full; trying again"),
        ({"state": 1}, None),
        ([], None),
    ],
)
def test_a_status_in_words(status: Any, words: str | None) -> None:
    assert in_words(status) == words


async def _heard(
    answers: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], int]:
    """What was told, and how often the server was asked; its last answer goes on."""
    monkeypatch.setattr(lookout, "INTERVAL", 0.0)
    said: list[str] = []
    asked = 0
    enough = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        assert request.headers["Authorization"] == "Bearer key"
        asked += 1
        if asked > len(answers):
            enough.set()
        status, text = answers[min(asked, len(answers)) - 1]
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/v1/streams/cam", answer)
    server = TestServer(app)
    await server.start_server()
    place = Place(str(server.make_url("")).rstrip("/"), "cam")
    looking = asyncio.create_task(look(place, said.append, token="key"))
    waiting = asyncio.create_task(enough.wait())
    await asyncio.wait({looking, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    for task in (looking, waiting):
        task.cancel()
    await asyncio.wait({looking, waiting})
    await server.close()
    return said, asked


async def test_each_change_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    live, moving = '{"state": "live"}', '{"state": "switching", "reason": "it died"}'
    answers = [(404, ""), (200, live), (200, live), (503, ""), (200, moving), (200, live)]
    said, _ = await _heard(answers, monkeypatch)
    assert said == ["live", "switching worker: it died", "live"]


@pytest.mark.parametrize("answer", [(404, "no"), (200, "<html>"), (200, "[]"), (401, "{}")])
async def test_another_server_is_left_alone(
    answer: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said, asked = await _heard([answer] * 10, monkeypatch)
    assert said == []
    assert asked == lookout.NOT_OURS
