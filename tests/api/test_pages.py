"""The pages as files: what they are, what they may load, and what they may not."""

from __future__ import annotations

import json
import re

import pytest

from pipelines.effects import Effects
from relay.api.pages import WEB
from tests.api.conftest import Site

MODULES = sorted(path.name for path in WEB.glob("*.js"))


@pytest.mark.parametrize("path", ["/", "/watch/cam"])
async def test_pages_allow_nothing_from_elsewhere(site: Site, path: str) -> None:
    answer, body = await site.call("GET", path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert not re.search(rb"https?://|style=|\son\w+=", body)


@pytest.mark.parametrize("name", MODULES)
async def test_modules_import_what_is_there(site: Site, name: str) -> None:
    answer, body = await site.call("GET", f"/web/{name}")
    assert answer.headers["Content-Type"] == "text/javascript"
    for wanted in re.findall(r'from "\./([^"]+)"', body.decode()):
        assert wanted in MODULES


async def test_what_the_pages_name_is_there(site: Site) -> None:
    for page in ("/", "/watch/cam"):
        _, body = await site.call("GET", page)
        for wanted in re.findall(r'(?:src|href)="(/web/[^"]+)"', body.decode()):
            assert (await site.call("GET", wanted))[0].status == 200
    _, body = await site.call("GET", "/web/effects/index.json")
    for pictures in json.loads(body).values():
        for wanted in pictures.values():
            answer, _ = await site.call("GET", wanted)
            assert (answer.status, answer.headers["Content-Type"]) == (200, "image/webp")


@pytest.mark.parametrize(
    "path",
    [
        "/web/../app.py",
        "/web/%2e%2e/app.py",
        "/web/..%2fapp.py",
        "/web/effects",
        "/web/",
        "/web/nosuch.js",
        "/web/%00",
        "/web//etc/passwd",
    ],
)
async def test_no_address_leaves_the_folder(site: Site, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    got = await site.raw(head.encode())
    assert got.split()[1] == b"404"


async def test_a_page_that_has_not_changed_is_not_sent_again(site: Site) -> None:
    first, _ = await site.call("GET", "/web/style.css")
    again, body = await site.call("GET", "/web/style.css", If_None_Match=first.headers["ETag"])
    assert (again.status, body) == (304, b"")


def test_each_effect_has_its_picture() -> None:
    effects = Effects.schema["properties"]["effect"]["enum"]
    index = json.loads((WEB / "effects/index.json").read_text())
    assert index == {"effects": {name: f"/web/effects/{name}.webp" for name in effects}}, (
        "run: python -m tests.api.thumbnails"
    )
    assert {path.stem for path in WEB.glob("effects/*.webp")} == set(effects)
