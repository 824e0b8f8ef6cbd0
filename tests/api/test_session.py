"""PATCH, DELETE and GET of a session's address, and the order of their checks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from relay.errors import RateLimited, RelayError, Unprocessable
from tests.api.conftest import MakeSite, Site
from tests.api.fake import FakeAnswer

TRICKLE = "a=ice-ufrag:EsAw\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 X 0\r\na=mid:0\r\n"
FRAG = "application/trickle-ice-sdpfrag"


async def open_session(site: Site, **headers: str) -> str:
    answer, _ = await site.post("/whip/cam", **headers)
    location: str = answer.headers["Location"]
    return location


async def patch(site: Site, path: str, body: Any = TRICKLE, **headers: str) -> Any:
    headers = {"Content_Type": FRAG, "If_Match": '"g1"'} | headers
    return await site.call("PATCH", path, body, **headers)


async def test_trickle_is_204_without_an_etag(site: Site) -> None:
    path = await open_session(site)
    answer, body = await patch(site, path)
    assert (answer.status, body) == (204, b"")
    assert "ETag" not in answer.headers
    (session,) = site.node.sessions.values()
    assert session.patched == [(TRICKLE.encode(), '"g1"')]


async def test_a_restart_is_200_with_the_new_etag(site: Site) -> None:
    path = await open_session(site)
    (session,) = site.node.sessions.values()
    session.next = FakeAnswer(200, "a=ice-ufrag:new\r\n", '"g2"')
    answer, body = await patch(site, path, If_Match="*")
    assert (answer.status, body) == (200, b"a=ice-ufrag:new\r\n")
    assert answer.headers["ETag"] == '"g2"'
    assert answer.headers["Content-Type"] == FRAG


async def test_several_if_match_lines_are_one_list(site: Site) -> None:
    path = await open_session(site)
    (session,) = site.node.sessions.values()
    session.etag = '"a", "g1"'
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FRAG}\r\nConnection: close\r\n"
    tags = 'If-Match: "a"\r\nIf-Match: "g1"\r\n'
    got = await site.raw(f"{head}{tags}Content-Length: {len(TRICKLE)}\r\n\r\n{TRICKLE}".encode())
    assert got.startswith(b"HTTP/1.1 204 ")


async def test_the_order_of_checks(make_site: MakeSite) -> None:
    site = await make_site(publish_key="k")
    path = await open_session(site, Authorization="Bearer k")
    wrong = {"Authorization": "Bearer no", "Content_Type": "text/plain", "If_Match": '"g0"'}
    large = b"x" * 200_000

    async def status(path: str, body: bytes | str, headers: dict[str, str]) -> int:
        answer, _ = await patch(site, path, body, **headers)
        return int(answer.status)

    assert await status("/session/nosuch", large, wrong) == 404
    assert await status(path, large, wrong) == 401
    wrong["Authorization"] = "Bearer k"
    assert await status(path, large, wrong) == 415
    wrong["Content_Type"] = FRAG
    assert await status(path, large, wrong) == 413
    assert await status(path, b"garbage", wrong) == 400
    assert await status(path, TRICKLE, wrong) == 412
    wrong["If_Match"] = '"g1"'
    assert await status(path, TRICKLE, wrong) == 204


async def test_no_if_match_is_428(site: Site) -> None:
    path = await open_session(site)
    answer, body = await site.call("PATCH", path, TRICKLE, Content_Type=FRAG)
    assert (answer.status, json.loads(body)["code"]) == (428, "precondition_required")


@pytest.mark.parametrize(
    "error", [RateLimited("slow", retry_after=1), Unprocessable("no restart", code="no_restart")]
)
async def test_a_refused_patch_leaves_the_session(site: Site, error: RelayError) -> None:
    path = await open_session(site)
    (session,) = site.node.sessions.values()

    async def refuse(body: bytes, if_match: str | None) -> FakeAnswer:
        raise error

    session.patch = refuse  # type: ignore[method-assign]
    answer, body = await patch(site, path)
    assert (answer.status, json.loads(body)["code"]) == (error.status, error.code)
    assert (await site.call("GET", path))[0].status == 204


async def test_the_secret_address_is_enough(make_site: MakeSite) -> None:
    site = await make_site(publish_key="k")
    path = await open_session(site, Authorization="Bearer k")
    assert (await patch(site, path))[0].status == 204
    assert (await site.call("DELETE", path))[0].status == 200


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_wrong_token_is_401_and_the_session_lives(make_site: MakeSite, method: str) -> None:
    site = await make_site(publish_key="k")
    path = await open_session(site, Authorization="Bearer k")
    answer, _ = await site.call(method, path, Authorization="Bearer other")
    assert answer.status == 401
    assert (await site.call("GET", path))[0].status == 204


async def test_delete_ends_it_whatever_if_match_says(site: Site) -> None:
    path = await open_session(site)
    assert (await site.call("DELETE", path, If_Match='"stale"'))[0].status == 200
    for method in ("DELETE", "GET"):
        assert (await site.call(method, path))[0].status == 404
    assert (await patch(site, path))[0].status == 404


async def test_get_and_head_tell_whether_it_lives(site: Site) -> None:
    path = await open_session(site)
    for method in ("GET", "HEAD"):
        answer, body = await site.call(method, path)
        assert (answer.status, body) == (204, b"")


async def test_post_and_put_are_405(site: Site) -> None:
    path = await open_session(site)
    for method in ("POST", "PUT"):
        answer, _ = await site.call(method, path)
        assert answer.status == 405
        assert {"PATCH", "DELETE"} <= set(answer.headers["Allow"].split(","))


async def test_two_patches_at_once_both_count(site: Site) -> None:
    path = await open_session(site)
    answers = await asyncio.gather(patch(site, path), patch(site, path))
    assert [answer.status for answer, _ in answers] == [204, 204]
