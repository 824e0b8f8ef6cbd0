"""The parameters' schema on its way: found, not there, or no schema at all."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from relay.errors import BadInput, PeerError, PeerRefused
from relay.rpc.schema import RunnerSchema, fetch_schema
from tests.rpc.peers import Answer, answering, http_peer

SCHEMA = RunnerSchema("effects", "3", {"type": "object", "properties": {}})


async def fetch(answer: Answer) -> RunnerSchema | None:
    async with http_peer({"GET /relay/schema": answer}) as url, aiohttp.ClientSession() as session:
        return await fetch_schema(session, url + "/", "effects")


async def test_a_schema_is_asked_for_by_pipeline_and_model() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert dict(request.query) == {
            "pipeline": "live-video-to-video",
            "model_id": "effects",
        }
        return web.Response(body=SCHEMA.serialise(), content_type="application/json")

    assert await fetch(answer) == SCHEMA


@pytest.mark.parametrize("status", [404, 405])
async def test_a_stock_orchestrator_tells_none(status: int) -> None:
    assert await fetch(answering(status, "404 page not found", "text/plain")) is None


async def test_an_empty_200_is_none_too() -> None:
    assert await fetch(answering(200, "", "text/plain")) is None


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (500, "{}", "application/json"),
        (200, "hello", "text/plain"),
        (200, "{}", "application/json"),
        (200, '{"model_id": "m", "schema": []}', "application/json"),
        (200, "x" * (300 << 10), "application/json"),
    ],
)
async def test_what_is_no_schema_is_an_error(status: int, text: str, kind: str) -> None:
    with pytest.raises(PeerError):
        await fetch(answering(status, text, kind))


@pytest.mark.parametrize(
    ("status", "text", "code", "words"),
    [
        (500, '{"detail": {"msg": "it broke"}}', "model_broken", "it broke"),
        (500, "it broke\n", "model_broken", "it broke"),
        (503, '{"detail": {"msg": "later"}}', "peer_refused", "later"),
    ],
)
async def test_a_model_that_is_broken_differs_from_one_that_is_loading(
    status: int, text: str, code: str, words: str
) -> None:
    with pytest.raises(PeerRefused) as caught:
        await fetch(answering(status, text))
    assert caught.value.code == code
    assert str(caught.value) == words if status == 500 else words in str(caught.value)


def test_a_schema_survives_the_wire() -> None:
    assert RunnerSchema.parse(SCHEMA.serialise()) == SCHEMA


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model_id": "m"}', b'{"schema": {}}'])
def test_bytes_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        RunnerSchema.parse(body)
