"""The bounds on the socket side."""

from __future__ import annotations

import pytest

from tests.api.conftest import MakeSite, Site


async def test_headers_that_never_end_are_given_up(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.api.server.IDLE_TIMEOUT", 0.05)
    site = await make_site()
    assert await site.raw(b"POST /whip/cam HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 1000 + b"\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["line", "field", "fields", "bytes", "http2"],
)
async def test_what_is_no_request_gets_400_and_no_log(
    site: Site, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    got = await site.raw(data, until=b"\r\n\r\n")
    assert b" 400 " in got.splitlines()[0]
    assert "Traceback" not in caplog.text


async def test_many_requests_share_a_connection(site: Site) -> None:
    one = b"GET /whip/cam HTTP/1.1\r\nHost: x\r\n\r\n"
    got = await site.raw(one * 3 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert got.count(b"HTTP/1.1 204 ") == 4
