"""One port for everything that a node answers: gRPC, REST and trickle.

The first bytes of a connection decide, never its ALPN: a stock gateway offers both
protocols once it has made a REST call, and then speaks HTTP/2 whatever was selected. The
preface ``PRI * HTTP/2.0`` goes to gRPC, all else to aiohttp. After that decision the
chosen protocol is the transport's own: nothing of this module is on its path.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Final, cast

from aiohttp import web

from relay.errors import ConfigError
from relay.rpc.frame_meter import PREFACE
from relay.rpc.grpc_server import GrpcConnection, GrpcServer, Handler, Limits
from relay.rpc.strangers import http_log

log = logging.getLogger(__name__)
_http = http_log(__name__)

HEAD_TIMEOUT: Final = 10.0
"""Seconds for a TLS handshake, and again for the preface or the first request's head."""

MAX_HEAD: Final = 16 << 10
MAX_FIELD: Final = 32 << 10
"""Bytes of one header line: a hundred tickets are some ten thousand."""

MAX_OPENING: Final = 1024
MAX_GRPC: Final = 512
KEEPALIVE: Final = 75.0


class Front:
    """
    Args:
        app: answers HTTP/1.1.
        grpc: path (``/net.Orchestrator/Ping``) to handler.
        ssl_context: with ALPN ``http/1.1, h2``; None serves plain text.
        head_timeout: seconds until a connection that has not said what it is is cut.
    """

    def __init__(
        self,
        app: web.Application,
        grpc: Mapping[str, Handler],
        ssl_context: ssl.SSLContext | None = None,
        *,
        head_timeout: float = HEAD_TIMEOUT,
        limits: Limits | None = None,
    ) -> None:
        # A handler ends with its client: a waiting trickle reader that is gone must not
        # stay. Bodies stay as they were sent: no decompression, so no bomb.
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_http,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE,
            auto_decompress=False,
            max_field_size=MAX_FIELD,
            shutdown_timeout=0.1,
        )
        self._ssl = ssl_context
        self._server: asyncio.Server | None = None
        self.grpc = GrpcServer(grpc, limits)
        self.head_timeout = head_timeout
        self.opening: set[_Opening] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which differs from ``port`` when that is 0.

        Raises:
            ConfigError: the address cannot be bound.
        """
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Opening(self),
                host,
                port,
                ssl=self._ssl,
                backlog=512,
                ssl_handshake_timeout=HEAD_TIMEOUT if self._ssl else None,
            )
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(f"cannot listen on {host}:{port}: {error}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace: float) -> None:
        """Take no more connections, give running requests ``grace`` seconds, close."""
        if self._server is not None:
            self._server.close()
        for item in list(self.opening):
            item.abort()
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await asyncio.gather(self.grpc.stop(grace), server.shutdown(grace))
        await self._runner.cleanup()
        self._server = None

    def http(self) -> asyncio.Protocol | None:
        """A protocol of aiohttp for one more connection; None when it is stopped."""
        server = self._runner.server
        return server() if server is not None else None


class _Opening(asyncio.Protocol):
    """A connection that has not yet said which protocol it speaks."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._head = bytearray()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._front.opening) >= MAX_OPENING:
            log.warning("too many connections that say nothing: one more is cut")
            self._transport.abort()
            return
        self._front.opening.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._front.head_timeout, self.abort)

    def data_received(self, data: bytes) -> None:
        if self not in self._front.opening:
            return
        self._head += data
        if PREFACE.startswith(self._head[: len(PREFACE)]):
            if len(self._head) >= len(PREFACE):
                self._hand_over_to_grpc()
        elif _is_whole_head(self._head):
            self._hand_over(self._front.http())

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        self._front.opening.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _hand_over_to_grpc(self) -> None:
        if not self._front.grpc.make_room(MAX_GRPC):
            log.warning("too many gRPC connections: one more is cut")
            self._hand_over(None)
        else:
            self._hand_over(GrpcConnection(self._front.grpc))

    def _hand_over(self, protocol: asyncio.Protocol | None) -> None:
        self._leave()
        if protocol is None:
            self._transport.abort()
            return
        head = bytes(self._head)
        self._head.clear()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(head)


def _is_whole_head(head: bytearray) -> bool:
    """Whether aiohttp may have it: a whole head, or one that it will refuse at once."""
    return b"\r\n\r\n" in head or len(head) >= MAX_HEAD or not head[:1].isalpha()
