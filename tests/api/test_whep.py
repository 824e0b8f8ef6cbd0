"""WHEP endpoints: where they differ from WHIP."""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import MakeSite, Site

PATHS = ("/whep/cam", "/live/video-to-video/cam-out/whep")


@pytest.mark.parametrize("path", PATHS)
async def test_a_viewer_may_come_before_the_publisher(site: Site, path: str) -> None:
    answer, body = await site.post(path)
    assert answer.status == 201
    assert body.startswith(b"v=0")
    assert answer.headers["Location"].startswith("/session/")
    assert "Livepeer-Playback-URL" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
async def test_players_know_the_address_by_its_content_type(site: Site, path: str) -> None:
    for method in ("HEAD", "GET"):
        answer, body = await site.call(method, path)
        assert (answer.status, body) == (200, b"")
        assert answer.headers["Content-Type"] == "application/sdp"


async def test_an_address_may_name_one_start_of_a_stream(site: Site) -> None:
    site.node.add("cam", request_id="0123abcd")
    answer, _ = await site.post("/live/video-to-video/cam-0123abcd-out/whep")
    assert answer.status == 201


async def test_the_start_before_is_gone(site: Site) -> None:
    site.node.add("cam", request_id="0123abcd")
    answer, body = await site.post("/live/video-to-video/cam-deadbeef-out/whep")
    assert (answer.status, json.loads(body)["code"]) == (404, "stream_not_found")


async def test_names_with_dashes_can_be_played(site: Site) -> None:
    site.node.add("my-cam-0123abcd", request_id="11111111")
    for element in ("my-cam-0123abcd-out", "my-cam-0123abcd-11111111-out", "other-cam-out"):
        answer, _ = await site.post(f"/live/video-to-video/{element}/whep")
        assert answer.status == 201


@pytest.mark.parametrize("element", ["cam", "-out", "out"])
async def test_an_element_without_out_is_404(site: Site, element: str) -> None:
    answer, body = await site.post(f"/live/video-to-video/{element}/whep")
    assert (answer.status, json.loads(body)["code"]) == (404, "bad_playback")


async def test_viewing_needs_no_key(make_site: MakeSite) -> None:
    site = await make_site(publish_key="k")
    for headers in ({}, {"Authorization": "Bearer undefined"}):
        answer, _ = await site.post("/whep/cam", **headers)
        assert answer.status == 201
        deleted, _ = await site.call("DELETE", answer.headers["Location"], **headers)
        assert deleted.status == 200


async def test_an_empty_body_is_no_request_for_an_offer(site: Site) -> None:
    answer, _ = await site.post("/whep/cam", b"")
    assert answer.status == 400


async def test_other_methods_are_405(site: Site) -> None:
    answer, _ = await site.call("PATCH", "/live/video-to-video/cam-out/whep")
    assert answer.status == 405
