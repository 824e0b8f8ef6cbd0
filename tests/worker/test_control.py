from __future__ import annotations

import pytest

from relay.errors import BadInput
from relay.rpc.events import KEEPALIVE_MESSAGE, KEYFRAME_MESSAGE
from relay.worker.control import Change, Keepalive, KeyframeWanted, parse_control


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (KEEPALIVE_MESSAGE, Keepalive()),
        (b'{ "keep": "alive" }', Keepalive()),
        (b'{"keep":"alive","n":1}', Change({"keep": "alive", "n": 1})),
        (KEYFRAME_MESSAGE, KeyframeWanted()),
        (b'{"n":0,"t":1795442679.054425}', Change({"n": 0, "t": 1795442679.054425})),
        (b"{}", Change({})),
        (b"", None),
        (b" \n", None),
    ],
)
def test_messages_are_told_apart(data: bytes, message: object) -> None:
    assert parse_control(data) == message


@pytest.mark.parametrize("data", [b"x", b"[1]", b'"keep"'])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_control(data)
