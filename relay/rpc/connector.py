"""Connections to other nodes: each is held to the guard that comes with its request."""

from __future__ import annotations

import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from relay.errors import PeerError, foreign_words
from relay.rpc.reach import Address, Reach, refusal
from relay.rpc.trust import UNTRUSTED, GuardedContext, Pinned, distrust, mismatch

MIXED_UP: Final = "is used by transport"
"""In uvloop's words for a new socket whose number it holds for that of a connection it still has.
Seen once as connections ended and began together (MagicStack/uvloop#653); another try is well."""


@dataclass(slots=True)
class _Watch:
    """One attempt to connect: where it may go, and where it was kept from going."""

    reach: Reach | None
    refused: list[Address] = field(default_factory=list)


_watch: ContextVar[_Watch | None] = ContextVar("_watch", default=None)


class GuardedConnector(aiohttp.TCPConnector):
    """Judges the address of each connection, after the name is resolved and before it is made.

    Requests whose ``ssl`` is that of a ``Guard`` are held to it, others go anywhere: the
    operator named their addresses. Raises PeerError in place of aiohttp's errors with the
    codes ``untrusted`` and ``address_refused``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(socket_factory=_open_socket, **options)

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        guard = req.ssl
        watch = _Watch(guard.reach if isinstance(guard, GuardedContext | Pinned) else None)
        token = _watch.set(watch)
        where = f"{req.url.host}:{req.url.port}"
        try:
            return await super().connect(req, traces, timeout)
        except aiohttp.ServerFingerprintMismatch as error:
            raise mismatch(where, error.expected, error.got) from error
        except aiohttp.ClientConnectorCertificateError as error:
            if isinstance(error.certificate_error, ssl.SSLCertVerificationError):
                raise distrust(where, error.certificate_error) from error
            words = foreign_words(error.certificate_error)
            raise PeerError(f"{where}: {words}", code=UNTRUSTED) from error
        except aiohttp.ClientConnectorError:
            if watch.refused:
                raise refusal(where, watch.refused[0]) from None
            raise
        except RuntimeError as error:
            if MIXED_UP not in str(error):
                raise
            raise PeerError(f"{where}: {error}") from error
        finally:
            _watch.reset(token)


def _open_socket(info: tuple[Any, ...]) -> socket.socket:
    """What aiohttp calls for each address that it is about to connect to."""
    family, kind, protocol, _, name = info
    watch = _watch.get()
    if watch is not None and watch.reach is not None:
        address = ip_address(name[0])
        if not watch.reach.allows(address):
            watch.refused.append(address)
            raise OSError(f"{address} is refused")
    return socket.socket(family=family, type=kind, proto=protocol)
