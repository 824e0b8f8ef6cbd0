"""Orchestrators that lie, drown or confuse: the real gateway goes on with those that do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.client import GET_ORCHESTRATOR
from relay.rpc.front import Front
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.price_info import PriceInfo
from relay.rpc.schema import ORCHESTRATOR_PATH
from tests.api.test_gateway import Live, MakeLive, make_live
from tests.network import eventually

__all__ = ["make_live"]  # a fixture, found by its name

TOKEN = AuthToken(b"t", "s", 0)


def info(*models: str, **fields: Any) -> OrchestratorInfo:
    offered = Capabilities.live(dict.fromkeys(models, ModelConstraint(warm=True)))
    values: dict[str, Any] = {"capabilities": offered, "auth_token": TOKEN}
    return OrchestratorInfo(address=bytes(20), **(values | fields))


@asynccontextmanager
async def seller(answer: OrchestratorInfo | bytes, schema: bytes = b"") -> AsyncIterator[str]:
    """An orchestrator that says just this; an empty transcoder in it stands for its own."""
    url = ""

    async def get(_: bytes) -> bytes:
        if isinstance(answer, bytes):
            return answer
        told = answer.transcoder or url
        return OrchestratorInfo(
            told, answer.address, answer.capabilities, answer.auth_token, answer.price_info
        ).serialise()

    async def tell_schema(_: web.Request) -> web.Response:
        return web.Response(body=schema, content_type="application/json")

    app = web.Application()
    app.router.add_get(ORCHESTRATOR_PATH, tell_schema)
    front = Front(app, {GET_ORCHESTRATOR: get})
    url = f"http://127.0.0.1:{await front.start('127.0.0.1', 0)}"
    try:
        yield url
    finally:
        await front.stop(0.1)


def schema_of(model: str, schema: Any) -> bytes:
    return json.dumps({"model_id": model, "version": "1", "schema": schema}).encode()


async def models(live: Live) -> dict[str, Any]:
    told = json.loads((await live.call("GET", "/v1/models")).text)
    return {each["model"]: each for each in told["models"]}


HOSTILE: dict[str, OrchestratorInfo | bytes] = {
    "junk": b"\xff" * 100,
    "nothing": b"",
    "no pixels": info("bad", transcoder="", price_info=PriceInfo(1, 0)),
    "fewer than no pixels": info("bad", transcoder="", price_info=PriceInfo(1, -5)),
    "an address that resolves to an error": info("odd", transcoder="http://a..b"),
    "no address": info("odd", transcoder="http://[bad"),
    "a file": info("odd", transcoder="file:///etc/passwd"),
    "the cloud's own": info("odd", transcoder="http://169.254.169.254:0"),
    "models with odd names": info("", "\0", "a" * 5000, "../x", "“x”\r\nA: b", transcoder=""),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_good_seller_is_heard_beside_a_bad_one(make_live: MakeLive, name: str) -> None:
    async with AsyncExitStack() as stack:
        bad = await stack.enter_async_context(seller(HOSTILE[name]))
        good = await stack.enter_async_context(
            seller(info("good", transcoder=""), schema_of("good", {"type": "object"}))
        )
        live = await make_live(orchestrators=[bad, good])
        await eventually(lambda: live.node.ready, 5, every=0.02)

        async def known() -> Any:
            return (await models(live)).get("good", {}).get("params_schema")

        assert await eventually(known, 10, every=0.05) == {"type": "object"}
        assert "bad" not in await models(live)
        (watching,) = [task for task in live.node._tasks if task.get_name() == "sellers"]
        assert not watching.done()


async def test_two_thousand_models_hide_no_other(make_live: MakeLive) -> None:
    many = info(*(f"m{number}" for number in range(2000)), transcoder="")
    async with seller(many) as bad, seller(info("good", transcoder="")) as good:
        live = await make_live(orchestrators=[bad, good])

        async def known() -> int:
            told = await models(live)
            return len(told) if "good" in told else 0

        assert await eventually(known, 5, every=0.05) == 2001


@pytest.mark.parametrize(
    "schema",
    [
        b"[" * 100_000,
        schema_of("good", {"properties": {"a": {"type": "number", "multipleOf": 0}}}),
        schema_of("good", {"$ref": "http://127.0.0.1:1/x"}),
        schema_of("good", {"$ref": "#"}),
        schema_of("good", {"properties": {"a": {"pattern": "(a+)+$"}}}),
        schema_of("good", {"properties": "x" * 250_000}),
        schema_of("good", {"properties": {"a" * 300_000: {}}}),
        schema_of("other", {"type": "string"}),
    ],
    ids=range(8),
)
async def test_a_hostile_schema_is_none(make_live: MakeLive, schema: bytes) -> None:
    async with seller(info("good", transcoder=""), schema) as url:
        live = await make_live(orchestrators=[url], default_model="good")

        async def known() -> bool:
            return "good" in await models(live)

        assert await eventually(known, 5, every=0.02)
        await live.node.sellers.refresh()
        async with asyncio.timeout(2):
            query = '/whip/cam?params={"a":"' + "a" * 40 + '!"}'
            answer = await live.call("POST", query, "v=0", {"Content-Type": "application/sdp"})
        assert (answer.status, answer.code) == (400, "sdp_no_media")
