"""/v1/: streams and models, who may read and who may change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import Unavailable, Unprocessable
from relay.gateway.status import (
    Caution,
    Delay,
    Departure,
    Input,
    ModelOffer,
    Move,
    Output,
    Serving,
    StreamState,
)
from tests.api.conftest import MakeSite, Site

JSON = "application/json"
FOREIGN = "https://evil.example"


def full(site: Site, name: str = "cam") -> None:
    site.node.add(
        name,
        stream_id="s1",
        input=Input(True, 29.97, 2_400_000, 1280, 720, True, 1000, 3, 0.512),
        output=Output(30.02, 2_100_000, 1280, 720, Delay(8.123, 14.987, 9.0)),
        warnings=(Caution("output_silent", "no sound comes back"),),
        serving=Serving("https://o:8935", "effects", 1_795_442_690.0, "first", 12.34, 0, 1),
        runner={"type": "status", "state": "ONLINE"},
        departure=Departure(1_795_442_690.0, "it ended"),
        moves=(
            Move(
                *(1_795_442_690.0, "no_output", "no picture", "https://p:8935", "https://o:8935"),
                dark=1.0374,
            ),
        ),
    )


async def get(site: Site, path: str, **headers: str) -> Any:
    answer, body = await site.call("GET", path, **headers)
    assert answer.status == 200, body
    return json.loads(body)


async def test_a_stream_is_shown_whole(site: Site) -> None:
    full(site)
    assert await get(site, "/v1/streams/cam") == {
        "name": "cam",
        "state": "live",
        "reason": "",
        "reason_code": "",
        "model": "effects",
        "started_at": "2026-11-23T14:04:47.500000Z",
        "viewers": 2,
        "swaps": 1,
        "whip_url": f"{site.server.url}/whip/cam",
        "whep_url": f"{site.server.url}/whep/cam",
        "watch_url": f"{site.server.url}/watch/cam",
        "input": {
            "connected": True,
            "fps": 30.0,
            "bitrate": 2_400_000,
            "width": 1280,
            "height": 720,
            "has_audio": True,
            "packets": 1000,
            "lost": 3,
            "keyframe_age": 0.51,
            "process": 0,
        },
        "output": {
            "fps": 30.0,
            "bitrate": 2_100_000,
            "width": 1280,
            "height": 720,
            "delay": {"p50_ms": 8.12, "p95_ms": 14.99, "last_ms": 9.0},
        },
        "warnings": [{"code": "output_silent", "reason": "no sound comes back"}],
        "stream_id": "s1",
        "request_id": site.node.live["cam"].request_id,
        "params": {"effect": "cartoon"},
        "serving": {
            "orchestrator": "https://o:8935",
            "model": "effects",
            "since": "2026-11-23T14:04:50Z",
            "why": "first",
            "connect_ms": 12.3,
            "price_per_unit": 0,
            "pixels_per_unit": 1,
        },
        "runner": {"type": "status", "state": "ONLINE"},
        "runner_error": None,
        "previous_publisher": {"at": "2026-11-23T14:04:50Z", "reason": "it ended"},
        "moves": [
            {
                "at": "2026-11-23T14:04:50Z",
                "code": "no_output",
                "reason": "no picture",
                "from_orchestrator": "https://p:8935",
                "to_orchestrator": "https://o:8935",
                "seconds_without_picture": 1.04,
            }
        ],
    }


async def test_which_orchestrators_cannot_be_had_is_told_to_holders_of_the_key(
    make_site: MakeSite,
) -> None:
    site = await make_site(publish_key="k", public_url="https://live.example")
    site.node.add("cam", reason="nobody sells", reason_details="https://o.example: refused")
    answer, body = await site.call("GET", "/v1/streams/cam", Authorization="Bearer k")
    assert json.loads(body)["reason"] == "nobody sells (https://o.example: refused)"
    answer, body = await site.call("GET", "/v1/streams/cam")
    assert (answer.status, b"o.example" in body) == (200, False)


async def test_a_stream_without_media_is_shown_too(site: Site) -> None:
    site.node.add("cam", state=StreamState.WAITING, started=None, params={}, viewers=1)
    shown = await get(site, "/v1/streams/cam")
    assert (shown["state"], shown["started_at"], shown["input"]) == ("waiting", None, None)


async def test_the_list_is_all_or_the_one_of_a_name(site: Site) -> None:
    site.node.add("a")
    site.node.add("b")
    assert [s["name"] for s in (await get(site, "/v1/streams"))["streams"]] == ["a", "b"]
    assert [s["name"] for s in (await get(site, "/v1/streams?name=b"))["streams"]] == ["b"]
    assert (await get(site, "/v1/streams?name=c"))["streams"] == []


async def test_an_unknown_stream_is_404_with_a_code(site: Site) -> None:
    for method in ("GET", "DELETE"):
        answer, body = await site.call(method, "/v1/streams/nosuch")
        assert (answer.status, json.loads(body)["code"]) == (404, "stream_not_found")


async def test_parameters_change(site: Site) -> None:
    site.node.add("cam")
    answer, body = await site.call(
        "PATCH", "/v1/streams/cam", b'{"strength": 0.5}', Content_Type=JSON
    )
    assert answer.status == 200
    assert json.loads(body) == {"params": {"effect": "cartoon", "strength": 0.5}}
    assert site.node.updates == [b'{"strength": 0.5}']


@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (b"{", JSON, 400, "bad_params_json"),
        (b"[1]", JSON, 400, "bad_params_json"),
        (b'{"a": NaN}', JSON, 400, "bad_params_json"),
        (b"", JSON, 400, "bad_params_json"),
        (b"{}", "text/plain", 415, "content_type"),
        (b'{"a":"' + b"x" * 33_000 + b'"}', JSON, 413, "too_large"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, JSON, 400, "bad_params_json"),
    ],
    ids=["cut", "array", "nan", "empty", "type", "large", "deep"],
)
async def test_bad_parameters_change_nothing(
    site: Site, data: bytes, kind: str, status: int, code: str
) -> None:
    site.node.add("cam")
    answer, body = await site.call("PATCH", "/v1/streams/cam", data, Content_Type=kind)
    assert (answer.status, json.loads(body)["code"]) == (status, code)
    assert not site.node.updates


async def test_the_schemas_reason_reaches_the_caller(site: Site) -> None:
    site.node.add("cam")
    site.node.fail = Unprocessable("strength: 2 is more than 1", code="bad_params")
    answer, body = await site.call("PATCH", "/v1/streams/cam", b'{"strength":2}', Content_Type=JSON)
    told = json.loads(body)
    assert (answer.status, told["code"]) == (422, "bad_params")
    assert told["detail"] == "strength: 2 is more than 1"


async def test_the_model_changes(site: Site) -> None:
    site.node.add("cam")
    answer, body = await site.call(
        "POST", "/v1/streams/cam/model", b'{"model": "echo"}', Content_Type=JSON
    )
    assert (answer.status, json.loads(body)["model"]) == (200, "echo")


@pytest.mark.parametrize(
    "data", [b"{}", b'{"model": ""}', b'{"model": 1}', b'{"model":"a","x":1}', b'{"model":"a"']
)
async def test_a_bad_choice_of_model_is_400(site: Site, data: bytes) -> None:
    site.node.add("cam")
    answer, _ = await site.call("POST", "/v1/streams/cam/model", data, Content_Type=JSON)
    assert answer.status == 400
    assert site.node.live["cam"].model == "effects"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{}", "model: it is missing"),
        (b'{"model": 5}', "model: 5 is no text"),
        (b'{"model": "a", "params": []}', "params: [] is no section of keys with values"),
        (b'{"model": ""}', "model: '' is too short: the least is 1"),
    ],
)
async def test_what_is_wrong_with_a_choice_is_one_line(site: Site, data: bytes, words: str) -> None:
    answer, text = await site.call("POST", "/v1/streams/cam/model", data, Content_Type=JSON)
    assert answer.status == 400
    told = json.loads(text)
    assert (told["code"], told["detail"]) == ("bad_model_choice", words)


async def test_no_capacity_for_a_model_is_503(site: Site) -> None:
    site.node.add("cam")
    site.node.fail = Unavailable("nobody offers it", code="no_orchestrator", retry_after=5)
    answer, _ = await site.call(
        "POST", "/v1/streams/cam/model", b'{"model": "x"}', Content_Type=JSON
    )
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_a_stream_stops(site: Site) -> None:
    site.node.add("cam")
    answer, body = await site.call("DELETE", "/v1/streams/cam")
    assert (answer.status, body) == (204, b"")
    assert site.node.stopped == ["cam"]


async def test_models_come_with_their_schemas(site: Site) -> None:
    schema = {"type": "object", "properties": {"effect": {"enum": ["blur"]}}}
    site.node.offers = [
        ModelOffer("effects", "live-video-to-video", 2, "1", schema),
        ModelOffer("stock", "live-video-to-video", 1),
    ]
    told = (await get(site, "/v1/models"))["models"]
    assert told[0] == {
        "model": "effects",
        "pipeline": "live-video-to-video",
        "orchestrators": 2,
        "version": "1",
        "params_schema": schema,
    }
    assert told[1]["params_schema"] is None


async def test_the_gateway_tells_a_page_what_it_needs(make_site: MakeSite) -> None:
    site = await make_site(publish_key="k")
    site.node.draining = True
    told = await get(site, "/v1/gateway")
    assert told.pop("version")
    assert told == {
        "default_model": "effects",
        "needs_publish_key": True,
        "ready": False,
        "draining": True,
    }


CHANGES = [
    ("PATCH", "/v1/streams/cam", b"{}"),
    ("POST", "/v1/streams/cam/model", b'{"model":"echo"}'),
    ("DELETE", "/v1/streams/cam", None),
    ("POST", "/live/video-to-video/cam/update", b"{}"),
]


@pytest.mark.parametrize(("method", "path", "data"), CHANGES)
async def test_changes_need_the_key_where_there_is_one(
    make_site: MakeSite, method: str, path: str, data: bytes | None
) -> None:
    site = await make_site(publish_key="s3cret")
    site.node.add("cam")
    for headers in ({}, {"Authorization": "Bearer no"}):
        answer, body = await site.call(method, path, data, Content_Type=JSON, **headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert b"s3cret" not in body
    answer, _ = await site.call(
        method, path, data, Content_Type=JSON, Authorization="Bearer s3cret", Origin=FOREIGN
    )
    assert answer.status in (200, 204)


@pytest.mark.parametrize(("method", "path", "data"), CHANGES)
async def test_other_sites_pages_change_nothing_where_there_is_no_key(
    site: Site, method: str, path: str, data: bytes | None
) -> None:
    site.node.add("cam")
    for headers in ({"Origin": FOREIGN}, {"Origin": "null"}, {"Host": "rebound.example"}):
        answer, body = await site.call(method, path, data, Content_Type=JSON, **headers)
        assert (answer.status, json.loads(body)["code"]) == (403, "cross_origin")
    own = {"Origin": site.server.url}
    answer, _ = await site.call(method, path, data, Content_Type=JSON, **own)
    assert answer.status in (200, 204)


async def test_other_sites_pages_cannot_list_what_runs_here(site: Site) -> None:
    full(site)
    for path in ("/v1/streams", "/metrics", "/live/video-to-video/s1/status"):
        answer, _ = await site.call("GET", path, Origin=FOREIGN)
        assert answer.status == 403


async def test_viewers_of_a_public_gateway_see_no_more_than_they_need(
    make_site: MakeSite,
) -> None:
    site = await make_site(publish_key="k", public_url="https://live.example")
    full(site)
    for path in ("/v1/streams", "/metrics", "/live/video-to-video/s1/status"):
        assert (await site.call("GET", path))[0].status == 401
        assert (await site.call("GET", path, Authorization="Bearer k"))[0].status == 200
    shown = await get(site, "/v1/streams/cam")
    assert (shown["state"], shown["watch_url"]) == ("live", "https://live.example/watch/cam")
    hidden = (
        *("params", "serving", "runner", "stream_id", "request_id"),
        *("moves", "previous_publisher"),
    )
    assert all(shown[name] is None for name in hidden)
    assert (await get(site, "/v1/streams?name=cam"))["streams"] == [shown]
    whole = await get(site, "/v1/streams/cam", Authorization="Bearer k")
    assert whole["params"] == {"effect": "cartoon"}


async def test_parameters_in_a_wrapper_are_refused_with_a_hint(site: Site) -> None:
    site.node.add("cam")
    site.node.fail = Unprocessable("'params' was unexpected", code="bad_params")
    hint = "The body is the parameters themselves"
    for data, hinted in ((b'{"params": {"effect": "none"}}', True), (b'{"effect": 1}', False)):
        answer, body = await site.call("PATCH", "/v1/streams/cam", data, Content_Type=JSON)
        problem = json.loads(body)
        assert (answer.status, problem["code"]) == (422, "bad_params")
        assert (hint in problem["detail"]) is hinted
