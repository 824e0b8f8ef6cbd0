"""The authentication webhook decides before a publisher is let in, and fails closed."""

from __future__ import annotations

import asyncio
import re
import time
from urllib.parse import quote, unquote

import pytest

from relay.gateway import doorman
from tests.api.test_gateway import SDP, Live, MakeLive, live, make_live
from tests.gateway.hook import Reply, breaks_off, endless, hook, never, says
from tests.network import eventually
from tests.protocols.webrtc import offers

__all__ = ["live", "make_live"]

PATH = "/live/video-to-video/cam/whip"
GOOD = {
    "pipeline": "theirs",
    "pipeline_id": "pip_1",
    "stream_id": "str_1",
    "pipeline_parameters": {"strength": 1},
}


async def publish(live: Live, query: str = "") -> tuple[int, str]:
    """Status and the problem's code."""
    answer = await live.call("POST", PATH + query, offers.publisher(), SDP)
    return answer.status, answer.code if answer.status >= 400 else ""


async def test_it_is_asked_in_the_networks_words(make_live: MakeLive) -> None:
    async with hook(says({})) as asked:
        live = await make_live(auth_webhook=asked.url, auth_webhook_key="secret")
        params = quote('{"a": 1}')
        answer = await live.call(
            "POST", f"{PATH}?pipeline=p&params={params}&streamId=s1", offers.publisher(), SDP
        )
        assert answer.status == 201
        (got,) = asked.got
        assert got.headers["x-api-key"] == got.headers["Authorization"] == "secret"
        assert got.headers["Content-Type"] == "application/json"
        told = got.json
        query = told.pop("query_params")
        assert "%22a%22" in query  # as it came, not decoded
        assert unquote(query) == 'pipeline=p&params={"a": 1}&streamId=s1'
        assert told == {
            "stream": "cam",
            "stream_key": "cam",
            "type": "livepeer-whip",
            "gateway_host": live.url.removeprefix("http://"),
            "whep_url": answer.headers["Livepeer-Playback-URL"],
            "status_url": f"{live.url}/live/video-to-video/s1/status",
            "update_url": f"{live.url}/live/video-to-video/cam/update",
        }
        (status,) = live.node.streams()
        assert (status.model, status.params, status.stream_id) == ("p", {"a": 1}, "s1")


async def test_the_public_url_is_what_it_is_told(make_live: MakeLive) -> None:
    async with hook(says({})) as asked:
        live = await make_live(
            auth_webhook=asked.url, public_url="https://gw.example", publish_key=None, open=True
        )
        assert await publish(live) == (201, "")
        told = asked.got[0].json
        assert told["gateway_host"] == "gw.example"
        assert re.fullmatch(
            r"https://gw\.example/live/video-to-video/cam-[0-9a-f]{8}-out/whep", told["whep_url"]
        )
        # The id that is not given is ours, and it is the one that status is kept under.
        made = live.node.streams()[0].stream_id
        assert told["status_url"].endswith(f"/{made}/status")


async def test_its_word_goes_before_the_publishers(make_live: MakeLive) -> None:
    async with hook(says(GOOD | {"rtmp_output_url": "rtmp://out.example/x"})) as asked:
        live = await make_live(auth_webhook=asked.url)
        query = f"?pipeline=mine&streamId=mine&params={quote('{}')}"
        assert await publish(live, query) == (201, "")
        (status,) = live.node.streams()
        assert (status.model, status.params) == ("theirs", {"strength": 1})
        assert status.stream_id == "str_1"
        assert status.not_offered == ("rtmp_output",)
        shown = await live.call("GET", "/live/video-to-video/str_1/status")
        assert '"not_offered": ["rtmp_output"]' in shown.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
async def test_a_no_is_a_403_before_any_media(make_live: MakeLive, status: int) -> None:
    async with hook(says(GOOD, status=status)) as asked:
        live = await make_live(auth_webhook=asked.url)
        assert await publish(live) == (403, "auth_webhook_refused")
        assert not live.node.streams()
        asked.reply = says(GOOD)
        assert await publish(live) == (201, "")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (says(GOOD, status=500), "auth_webhook_failed"),
        (says(GOOD, status=302, headers={"Location": "/elsewhere"}), "auth_webhook_failed"),
        (breaks_off, "auth_webhook_failed"),
        (endless, "auth_webhook_failed"),
        (says(b""), "auth_webhook_answer"),
        (says(b"<html>"), "auth_webhook_answer"),
        (says([GOOD]), "auth_webhook_answer"),
        (says(None), "auth_webhook_answer"),
        (says({"pipeline": 7}), "auth_webhook_answer"),
        (says(b"[" * 5000), "auth_webhook_answer"),
    ],
    ids=["500", "302", "reset", "endless", "empty", "html", "list", "null", "types", "deep"],
)
async def test_an_answer_that_is_none_lets_nobody_in(
    make_live: MakeLive, reply: Reply, code: str
) -> None:
    async with hook(reply) as asked:
        live = await make_live(auth_webhook=asked.url)
        assert await publish(live) == (502, code)
        assert not live.node.streams()
        assert len(asked.got) == 1  # a redirect is not followed


async def test_a_slow_one_is_given_up_in_time(
    make_live: MakeLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorman, "TIMEOUT", 0.3)
    async with hook(never) as asked:
        live = await make_live(auth_webhook=asked.url)
        began = time.monotonic()
        assert await publish(live) == (504, "auth_webhook_failed")
        assert time.monotonic() - began < 3
        assert not live.node.streams()


async def test_nobody_there_is_a_502_and_tells_nothing(make_live: MakeLive) -> None:
    async with hook(never) as asked:
        url = asked.url
    live = await make_live(auth_webhook=url)
    answer = await live.call("POST", PATH, offers.publisher(), SDP)
    assert (answer.status, answer.code) == (502, "auth_webhook_failed")
    assert url not in answer.text
    assert answer.headers["Retry-After"]


async def test_it_is_not_asked_about_who_may_not_publish_anyway(make_live: MakeLive) -> None:
    async with hook(says(GOOD)) as asked:
        live = await make_live(auth_webhook=asked.url, publish_key="k")
        assert await publish(live) == (401, "key_required")
        assert not asked.got


async def test_a_slow_one_bounds_who_waits_and_viewers_are_served(make_live: MakeLive) -> None:
    async with hook(never) as asked:
        live = await make_live(auth_webhook=asked.url)
        waiting = [
            asyncio.create_task(live.publish(f"cam{number}")) for number in range(doorman.AT_ONCE)
        ]
        try:
            await eventually(lambda: len(asked.got) == doorman.AT_ONCE, 3, every=0.01)
            assert await publish(live) == (503, "busy")
            assert (await live.play()).status == 201
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def test_limits_hold_for_those_who_waited_together(make_live: MakeLive) -> None:
    async with hook(says({})) as asked:
        live = await make_live(auth_webhook=asked.url, max_streams=1)
        answers = await asyncio.gather(live.publish("one"), live.publish("two"))
        assert sorted(answer.status for answer in answers) == [201, 503]
