"""What is told of viewers, to whom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.gateway.status import ViewerStatus
from tests.api.conftest import MakeSite, Site


def viewer(number: int) -> ViewerStatus:
    return ViewerStatus(
        id=f"viewer-{number}",
        state="live",
        connected_for=12.345,
        packets=1000,
        octets=900_000,
        resent=3,
        nacked=4,
        keyframes_asked=1,
        fraction_lost=0.015625,
        jitter_ms=1.2345,
        round_trip_ms=None if number else 8.126,
        estimate=2_500_000,
        queue_ms=None if number else 0.126,
        pauses=1,
    )


async def get(site: Site, path: str) -> tuple[int, Any]:
    answer, body = await site.call("GET", path)
    return answer.status, json.loads(body)


async def test_a_viewer_is_shown_whole(site: Site) -> None:
    site.node.add("cam")
    site.node.watching = [viewer(0)]
    assert await get(site, "/v1/streams/cam/viewers") == (
        200,
        {
            "viewers": [
                {
                    "id": "viewer-0",
                    "state": "live",
                    "connected_for": 12.3,
                    "packets": 1000,
                    "octets": 900_000,
                    "resent": 3,
                    "nacked": 4,
                    "keyframes_asked": 1,
                    "fraction_lost": 0.0156,
                    "jitter_ms": 1.23,
                    "round_trip_ms": 8.13,
                    "estimate": 2_500_000,
                    "queue_ms": 0.13,
                    "pauses": 1,
                    "process": 0,
                }
            ],
            "next": None,
        },
    )


async def test_many_come_in_pages(site: Site) -> None:
    site.node.add("cam")
    site.node.watching = [viewer(number) for number in range(5)]
    seen, after = [], ""
    for _ in range(3):
        _, told = await get(site, f"/v1/streams/cam/viewers?limit=2&after={after}")
        seen += [given["id"] for given in told["viewers"]]
        after = told["next"]
    assert after is None
    assert seen == [f"viewer-{number}" for number in range(5)]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "1e3", "", "9" * 5000])
async def test_a_wrong_limit_is_refused(site: Site, limit: str) -> None:
    site.node.add("cam")
    status, told = await get(site, f"/v1/streams/cam/viewers?limit={limit}")
    assert (status, told["code"]) == (400, "bad_limit")


async def test_viewers_of_nothing_are_not_found(site: Site) -> None:
    assert (await get(site, "/v1/streams/nope/viewers"))[0] == 404
    assert (await get(site, "/v1/viewers/nope"))[0] == 404


async def test_strangers_do_not_read_the_list_and_a_viewer_reads_its_own(
    make_site: MakeSite,
) -> None:
    site = await make_site(publish_key="secret", host="0.0.0.0")
    site.node.add("cam")
    site.node.watching = [viewer(0)]
    assert (await get(site, "/v1/streams/cam/viewers"))[0] == 401
    session = await site.node.play("cam", "offer")
    status, told = await get(site, f"/v1/viewers/{session.id}")
    assert (status, told["id"]) == (200, "viewer-0")


async def test_a_viewer_is_ended_by_the_id_of_the_list(make_site: MakeSite) -> None:
    site = await make_site(publish_key="secret", host="0.0.0.0")
    site.node.watching = [viewer(0), viewer(1)]
    answer, _ = await site.call("DELETE", "/v1/viewers/viewer-1")
    assert answer.status == 401
    key = "Bearer secret"
    answer, body = await site.call("DELETE", "/v1/viewers/viewer-2", Authorization=key)
    assert (answer.status, json.loads(body)["code"]) == (404, "viewer_not_found")
    answer, body = await site.call("DELETE", "/v1/viewers/viewer-1", Authorization=key)
    assert (answer.status, body) == (204, b"")
    assert site.node.watching == [viewer(0)]


async def test_no_other_sites_page_ends_a_viewer(site: Site) -> None:
    site.node.watching = [viewer(0)]
    foreign = "https://elsewhere.example"
    answer, _ = await site.call("DELETE", "/v1/viewers/viewer-0", Origin=foreign)
    assert answer.status == 403
    assert site.node.watching == [viewer(0)]


async def test_the_processes_that_serve_viewers_are_told(site: Site) -> None:
    status, told = await get(site, "/v1/processes")
    assert status == 200
    assert told["processes"] == [
        {
            "kind": "gateway",
            "number": 0,
            "pid": 100,
            "state": "ready",
            "viewers": 40,
            "publishers": 3,
            "load": 0.432,
            "restarts": 0,
            "dropped": 0,
        },
        {
            "kind": "egress",
            "number": 1,
            "pid": 101,
            "state": "starting",
            "viewers": 0,
            "publishers": 0,
            "load": 0.0,
            "restarts": 2,
            "dropped": 7,
        },
        {
            "kind": "ingest",
            "number": 1,
            "pid": 102,
            "state": "ready",
            "viewers": 0,
            "publishers": 5,
            "load": 0.1,
            "restarts": 1,
            "dropped": 4,
        },
    ]
    answer, body = await site.call("GET", "/metrics")
    assert answer.status == 200
    assert 'relay_egress_viewers{process="0"} 40.0' in body.decode()
    assert 'relay_egress_pictures_dropped_total{process="1"} 7.0' in body.decode()
    assert 'relay_egress_viewers{process="1"} 0.0' in body.decode()
    assert 'relay_ingest_publishers{process="0"} 3.0' in body.decode()
    assert 'relay_ingest_publishers{process="1"} 5.0' in body.decode()
    assert 'relay_ingest_load{process="1"} 0.1' in body.decode()
    assert 'relay_ingest_pictures_dropped_total{process="1"} 4.0' in body.decode()
