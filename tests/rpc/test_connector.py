"""What the event loop does to connections, and what is made of it."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from relay.errors import PeerError
from relay.rpc.connector import GuardedConnector


async def test_a_socket_that_the_event_loop_has_mixed_up_is_a_failed_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = "File descriptor 22 is used by transport <TCPTransport closed=False>"

    async def mixed_up(*_: object) -> None:
        raise RuntimeError(words)

    loop = type(asyncio.get_running_loop())
    async with aiohttp.ClientSession(connector=GuardedConnector()) as session:
        monkeypatch.setattr(loop, "sock_connect", mixed_up, raising=False)
        with pytest.raises(PeerError, match=r"127\.0\.0\.1:9: File descriptor 22 is used"):
            await session.get("http://127.0.0.1:9/")
        words = "what nobody foresaw"
        with pytest.raises(RuntimeError, match=words):
            await session.get("http://127.0.0.1:9/")
