"""An orchestrator that stops reading for a moment: what waited too long is dropped and told,
and the stream goes on from a new key frame, at the same orchestrator.
"""

from __future__ import annotations

import socket

import pytest

from relay import metrics
from relay.gateway import session
from relay.gateway.session import SLOW_READER
from relay.gateway.status import StreamState
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller
from tests.network import eventually


def dropped() -> float:
    value = metrics.registry.get_sample_value("relay_job_input_dropped_total")
    assert value is not None
    return value


async def test_what_waited_too_long_is_dropped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_AGE", 0.2)
    before = dropped()
    async with Seller().running() as seller:
        assert seller.front is not None
        assert seller.front._server is not None
        for listening in seller.front._server.sockets:
            # Otherwise seconds of these small pictures fit into the kernel's buffers.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        async with (
            gateway(seller, output_timeout=20) as desk,
            desk.filming() as camera,
            desk.watching() as viewer,
        ):
            camera.moving = True
            await desk.live_at(seller)
            await viewer.sees(10)
            stopped = [intake._request.protocol for intake in seller.trickle._intakes]
            for protocol in stopped:
                protocol.pause_reading()
            (told,) = await eventually(lambda: desk.stream.warnings)
            for protocol in stopped:
                if protocol.transport is not None:
                    protocol.resume_reading()
            assert told.code == "input_dropped"
            assert told.words.startswith("dropped ")
            assert told.words.endswith(SLOW_READER)
            assert dropped() > before
            shown = viewer.video[-1][0]
            await viewer.sees(30, after=shown)
            assert camera.asked >= 1
            assert desk.stream.state is StreamState.LIVE
            assert desk.stream.swaps == 0
