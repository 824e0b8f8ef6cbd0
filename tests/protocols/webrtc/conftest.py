"""What many tests of this room begin with: peers on loopback, and the far end's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.config import WebRtc
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc.show import Show


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    yield made
    await made.close()
    assert made.udp.idle
    assert len(made) == 0


@pytest.fixture
async def mine() -> AsyncIterator[Peers]:
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    yield made
    await made.close()


@pytest.fixture
async def show() -> AsyncIterator[Show]:
    made = Show()
    yield made
    await made.egress.close("show", "test over")
    assert made.egress._timer is None
