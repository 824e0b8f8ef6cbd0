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


@pytest.fixture(params=[False, True], ids=["pure", "native"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Peers]:
    """Peers whose media pure Python receives, and peers where the native part does."""
    made = await Peers.open(WebRtc(host="127.0.0.1", port=0, native=request.param))
    assert (made.udp.native is not None) == request.param
    yield made
    await made.close()
    assert made.udp.idle


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
