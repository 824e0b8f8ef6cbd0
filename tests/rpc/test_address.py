"""Addresses of nodes as operators type them and as peers tell them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput
from relay.rpc.address import NodeAddress


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("host", "https://host:8935"),
        ("host:1234", "https://host:1234"),
        ("http://host", "http://host:8935"),
        ("https://host:443/", "https://host:443"),
        (" 10.0.0.1:1 ", "https://10.0.0.1:1"),
        ("http://[::1]:80/path", "http://[::1]:80"),
        ("http://host:0", "http://host:0"),
    ],
)
def test_what_is_missing_is_filled_in(text: str, url: str) -> None:
    address = NodeAddress.parse(text)
    assert str(address) == url
    assert NodeAddress.parse(url) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://x",
        "http://",
        "http://user@host",
        "host:99999",
        "host:x",
        "a b",
        "x" * 3000,
        "http://[::1",
        "http://a..b",
        "http://..",
        "x" * 64 + ".com",
        "http://\u2024",
        "http://\ud800",
        "http://host:-1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        NodeAddress.parse(text)
    assert caught.value.code == "bad_address"


@given(st.text(max_size=60))
def test_text_from_strangers_is_an_address_or_refused(text: str) -> None:
    try:
        address = NodeAddress.parse(text)
    except BadInput:
        return
    assert NodeAddress.parse(address.url) == address
