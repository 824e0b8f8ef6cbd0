"""What browser pages of other sites may do, and what they may not."""

from __future__ import annotations

import pytest

from tests.api.conftest import Site

ORIGIN = "https://studio.example"


@pytest.mark.parametrize(
    ("path", "method", "wanted"),
    [
        ("/whip/cam", "POST", "authorization,content-type"),
        ("/whep/cam", "POST", "content-type"),
        ("/session/x", "PATCH", "if-match,authorization,content-type"),
        ("/session/x", "DELETE", "authorization"),
        ("/whip/cam", "POST", "etag"),
    ],
)
async def test_a_preflight_allows_what_clients_send(
    site: Site, path: str, method: str, wanted: str
) -> None:
    answer, body = await site.call(
        "OPTIONS",
        path,
        Origin=ORIGIN,
        Access_Control_Request_Method=method,
        Access_Control_Request_Headers=wanted,
    )
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert set(wanted.split(",")) <= set(allowed)


async def test_a_preflight_never_needs_a_token(make_site: object) -> None:
    site: Site = await make_site(publish_key="k")  # type: ignore[operator]
    answer, _ = await site.call(
        "OPTIONS", "/whip/cam", Origin=ORIGIN, Access_Control_Request_Method="POST"
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/whip/cam"), ("POST", "/nosuch"), ("PUT", "/whip/cam"), ("GET", "/session/x")],
)
async def test_every_answer_can_be_read_by_the_page(site: Site, method: str, path: str) -> None:
    answer, _ = await site.call(method, path, Origin=ORIGIN)
    assert answer.status >= 400
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Location", "ETag", "Link", "Retry-After", "WWW-Authenticate"} <= set(exposed)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_created_session_exposes_its_headers(site: Site) -> None:
    answer, _ = await site.post("/whip/cam", Origin=ORIGIN)
    assert answer.status == 201
    assert "Livepeer-Playback-URL" in answer.headers["Access-Control-Expose-Headers"]
