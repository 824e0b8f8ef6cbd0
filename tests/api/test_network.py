"""The network's own live paths: stock keys and bodies."""

from __future__ import annotations

import json

import pytest

from relay.api.network import status_document
from relay.errors import NotFound, NotOffered
from relay.gateway.status import Delay, Input, Output, Serving
from tests.api.conftest import MakeSite, Site
from tests.api.fake import FakeNode

BASE = "http://127.0.0.1:9935"
RUNNER = {
    "type": "status",
    "pipeline": "effects",
    "state": "ONLINE",
    "input_status": {"fps": 30.0, "last_input_time": 1795442687974},
    "inference_status": {"fps": 30.0, "restart_count": 0},
    "timestamp": 1795442687974,
}


async def test_an_update_is_an_empty_200_whatever_its_type(site: Site) -> None:
    site.node.add("cam")
    for headers in ({}, {"Content_Type": "application/json"}, {"Content_Type": "text/plain"}):
        answer, body = await site.call(
            "POST", "/live/video-to-video/cam/update", b'{"n":0}', **headers
        )
        assert (answer.status, body) == (200, b"")
    assert site.node.updates == [b'{"n":0}'] * 3


async def test_an_update_has_a_bound(site: Site) -> None:
    site.node.add("cam")
    answer, _ = await site.call("POST", "/live/video-to-video/cam/update", b" " * 33_000)
    assert answer.status == 413


async def test_an_unknown_stream_is_the_stock_404(site: Site) -> None:
    for method, path in (("POST", "nosuch/update"), ("GET", "nosuch/status")):
        answer, body = await site.call(method, f"/live/video-to-video/{path}", b"{}")
        assert (answer.status, body) == (404, b"Stream not found\n")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_options_are_204(site: Site) -> None:
    for path in ("update", "status"):
        answer, body = await site.call("OPTIONS", f"/live/video-to-video/cam/{path}")
        assert (answer.status, body) == (204, b"")
    answer, _ = await site.call("GET", "/live/video-to-video/cam/update")
    assert answer.status == 405


async def test_before_the_first_event_there_is_only_the_gateways_part(site: Site) -> None:
    site.node.add("cam", stream_id="s1", request_id="11467777")
    answer, body = await site.call("GET", "/live/video-to-video/s1/status")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == {
        "gateway_status": {
            "whep_url": f"{site.server.url}/live/video-to-video/cam-11467777-out/whep"
        }
    }


async def test_status_goes_by_id_and_not_by_name(site: Site) -> None:
    site.node.add("cam", stream_id="s1")
    assert (await site.call("GET", "/live/video-to-video/cam/status"))[0].status == 404


def test_the_runners_event_and_the_measures_of_ingest() -> None:
    given = FakeNode().add(
        "cam",
        stream_id="s1",
        request_id="11467777",
        input=Input(True, 30.0, 2_000_000, 1280, 720, False, 351, 0, 0.1, 23.3, 322757),
        output=Output(30.0, 2_000_000, 1280, 720, Delay(60.0, 70.0, 66.0)),
        serving=Serving("https://127.0.0.1:8935", "effects", 0.0, "first", 1.0, 0, 1),
        runner=RUNNER,
    )
    assert status_document(given, BASE, 1.0) == RUNNER | {
        "gateway_status": {
            "whep_url": f"{BASE}/live/video-to-video/cam-11467777-out/whep",
            "ingest_metrics": {
                "stats": {
                    "peer_conn_stats": {
                        "ID": "iceTransport",
                        "BytesReceived": 322757,
                        "BytesSent": 0,
                    },
                    "track_stats": [
                        {
                            "type": "video",
                            "jitter": 23.3,
                            "packets_lost": 0,
                            "packets_received": 351,
                            "packet_loss_pct": 0.0,
                            "rtt": 0,
                            "latency": 0.066,
                        }
                    ],
                    "conn_quality": "good",
                }
            },
        },
        "orchestrator_info": {"address": "0x" + "0" * 40, "url": "https://127.0.0.1:8935"},
        "request_id": "11467777",
        "stream_id": "s1",
    }


def test_loss_and_jitter_make_a_connection_bad() -> None:
    for lost, jitter in ((30, 0.0), (0, 51.0)):
        seen = Input(True, 30.0, 1, None, None, False, 970, lost, None, jitter)
        given = FakeNode().add("cam", input=seen)
        told = status_document(given, BASE, 1.0)["gateway_status"]["ingest_metrics"]["stats"]
        assert told["conn_quality"] == "bad"


def test_an_error_has_its_words_and_its_time() -> None:
    given = FakeNode().add("cam", reason="switching worker", reason_since=12.5)
    told = status_document(given, BASE, 99.0)["gateway_status"]["error"]
    assert told == {"error_message": "switching worker", "error_time": 12500}
    crashed = FakeNode().add("cam", runner_error="pipeline raised")
    told = status_document(crashed, BASE, 99.0)["gateway_status"]["error"]
    assert told == {"error_message": "pipeline raised", "error_time": 99000}


SMOKE = "/live/video-to-video/smoketest"


async def test_a_smoke_test_begins_at_once(site: Site) -> None:
    for more, seconds in ((b', "duration_secs": 9', 9), (b"", 300)):
        asked = b'{"stream_url": "rtmp://h/x"' + more + b"}"
        answer, body = await site.call("PUT", SMOKE, asked)
        assert (answer.status, body) == (200, b"")
        assert site.node.smoked[-1] == ("rtmp://h/x", seconds, site.server.url)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (b"", "bad_json"),
        (b"[]", "bad_json"),
        (b"{}", "bad_stream_url"),
        (b'{"stream_url": ""}', "bad_stream_url"),
        (b'{"stream_url": 7}', "bad_stream_url"),
        (b'{"stream_url": "rtmp://h/x", "duration_secs": 3601}', "bad_duration"),
        (b'{"stream_url": "rtmp://h/x", "duration_secs": -1}', "bad_duration"),
        (b'{"stream_url": "rtmp://h/x", "duration_secs": "9"}', "bad_duration"),
        (b'{"stream_url": "rtmp://h/x", "duration_secs": true}', "bad_duration"),
    ],
)
async def test_a_smoke_test_that_is_not_understood_is_400(
    site: Site, asked: bytes, code: str
) -> None:
    answer, body = await site.call("PUT", SMOKE, asked)
    assert (answer.status, json.loads(body)["code"]) == (400, code)
    assert not site.node.smoked


async def test_a_smoke_test_takes_put_alone(site: Site) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (await site.call(method, SMOKE, b"{}"))[0].status == 405


async def test_what_is_not_offered_is_501(site: Site) -> None:
    site.node.fail = NotOffered("no ffmpeg", code="no_ffmpeg")
    answer, body = await site.call("PUT", SMOKE, b'{"stream_url": "rtmp://h/x"}')
    assert (answer.status, json.loads(body)["code"]) == (501, "no_ffmpeg")


async def test_a_smoke_test_needs_the_key_where_others_reach_us(make_site: MakeSite) -> None:
    asked = b'{"stream_url": "rtmp://h/x"}'
    site = await make_site(publish_key="k")
    assert (await site.call("PUT", SMOKE, asked))[0].status == 401
    answer, _ = await site.call("PUT", SMOKE, asked, Authorization="Bearer k")
    assert answer.status == 200
    site = await make_site(public_url="https://gw.example", open=True)
    answer, body = await site.call("PUT", SMOKE, asked)
    assert (answer.status, json.loads(body)["code"]) == (403, "key_needed")
    assert not site.node.smoked


async def test_what_a_publisher_asks_for_goes_along(site: Site) -> None:
    query = "orchestrator=orch.example&rtmpOutput=rtmp://out/x&streamId=s"
    await site.post(f"/live/video-to-video/cam/whip?{query}")
    visit = site.node.published[0]["visit"]
    assert (visit.orchestrator, visit.rtmp_output) == ("orch.example", "rtmp://out/x")
    assert (visit.base, visit.query) == (site.server.url, query)
    long = f"/live/video-to-video/b/whip?orchestrator={'x' * 257}"
    assert (await site.post(long))[0].status == 400


async def test_viewers_alone_are_no_stream_to_update(site: Site) -> None:
    site.node.add("cam")
    site.node.fail = NotFound("not live", code="stream_not_live")
    answer, body = await site.call("POST", "/live/video-to-video/cam/update", b"{}")
    assert (answer.status, body) == (404, b"Stream not found\n")


async def test_what_is_not_offered_is_named_in_the_status(site: Site) -> None:
    site.node.add("cam", stream_id="s1", not_offered=("rtmp_output",))
    _, body = await site.call("GET", "/live/video-to-video/s1/status")
    assert json.loads(body)["gateway_status"]["not_offered"] == ["rtmp_output"]
