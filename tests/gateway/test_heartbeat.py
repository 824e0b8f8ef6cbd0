"""The heartbeat tells who lives, ends whom it is told to, and hurts nobody when it fails."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import pytest

from relay.gateway import courier, heartbeat
from relay.gateway.status import StreamState
from tests.gateway.desk import NAME, gateway
from tests.gateway.hook import breaks_off, endless, hook, never, says
from tests.gateway.seller import Seller
from tests.network import eventually


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TIMEOUT", 0.3)
    monkeypatch.setattr(courier, "MAX_WAIT", 0.05)


async def test_it_tells_who_lives_and_nobody_is_null() -> None:
    async with (
        hook(says({})) as to,
        gateway(
            heartbeat_url=to.url, heartbeat_interval=0.1, heartbeat_headers={"X-Who": "gw"}
        ) as desk,
    ):
        await eventually(lambda: to.got)
        assert to.got[0].json == {"ids": None}
        assert to.got[0].headers["X-Who"] == "gw"
        assert to.got[0].headers["Content-Type"] == "application/json"
        async with desk.filming(streamId="str_1"):
            await eventually(lambda: to.got[-1].json == {"ids": ["str_1"]})
        await eventually(lambda: to.got[-1].json == {"ids": None})


async def test_a_stream_that_is_not_paid_for_ends_with_its_reason() -> None:
    async with (
        hook(says({})) as to,
        hook(says({})) as listener,
        Seller().running() as seller,
        gateway(
            seller, heartbeat_url=to.url, heartbeat_interval=0.1, events_webhook=listener.url
        ) as desk,
    ):
        async with desk.filming(streamId="str_1") as camera:
            await desk.live_at(seller)
            to.reply = says({"terminatedStreamIds": ["another"]})
            seen = len(to.got)
            await eventually(lambda: len(to.got) > seen + 2)
            assert desk.stream.state is StreamState.LIVE
            to.reply = says({"terminatedStreamIds": ["another", "str_1"]})
            await camera.whip.wait_closed()
            assert not desk.node.streams()
            await eventually(lambda: seller.jobs[0].over.is_set())
            resource = camera.whip._link.resource.location or ""
            async with aiohttp.ClientSession() as http, http.get(resource) as answer:
                told = await answer.json()
            assert (answer.status, told["code"]) == (404, "stream_stopped")
            assert told["detail"] == "stream terminated: credit_exhaustion"

        def errors() -> list[str]:
            found = [event for got in listener.got for event in got.json]
            return [e["data"]["message"] for e in found if e["type"] == "ai_stream_events"]

        await eventually(errors)
        assert errors() == ["stream terminated: credit_exhaustion"]


async def test_its_name_is_free_again() -> None:
    async with (
        hook(says({"terminatedStreamIds": ["str_1"]})) as to,
        gateway(heartbeat_url=to.url, heartbeat_interval=0.1) as desk,
    ):
        async with desk.filming(streamId="str_1") as camera:
            await camera.whip.wait_closed()
        async with desk.filming(streamId="str_2"):
            await eventually(lambda: to.got[-1].json == {"ids": ["str_2"]})
            assert desk.stream.name == NAME


@pytest.mark.parametrize(
    "reply",
    [
        says({"terminatedStreamIds": ["str_1"]}, status=500),
        says({"terminatedStreamIds": "str_1"}),
        says(["str_1"]),
        says(b"str_1"),
        breaks_off,
        endless,
        never,
    ],
    ids=["500", "text", "list", "garbage", "reset", "endless", "never"],
)
async def test_a_bad_answer_ends_nothing_and_is_one_line(
    reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        hook(reply) as to,
        gateway(heartbeat_url=to.url, heartbeat_interval=0.1) as desk,
        desk.filming(streamId="str_1"),
    ):
        await eventually(lambda: to.got and to.got[-1].json["ids"] == ["str_1"])
        seen = len(to.got)
        await eventually(lambda: len(to.got) > seen + 2)
        assert desk.stream.stream_id == "str_1"
        said = [text for text in caplog.messages if "heartbeat does not arrive" in text]
        assert len(said) == 1
        to.reply = says(b"")
        await eventually(lambda: "the heartbeat arrives again" in caplog.messages)
