"""One gRPC call as a server sees it, and the bounds on calls. No socket here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field

from relay.errors import ParseError
from relay.rpc.grpc import CONTENT_TYPE, MessageReader, Status, parse_timeout

Handler = Callable[[bytes], Awaitable[bytes]]
"""One unary call: the request's bytes in, the answer's bytes out. A RelayError that it
raises goes to the caller as status 2 with its text, as stock nodes do it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may hold and how long it may take.

    Attributes:
        streams: calls at once.
        header_list: bytes of one request's headers (RFC 9113 6.5.2 counts them).
        message: bytes of one request.
        buffered: bytes of all requests of a connection that are not answered yet.
        total: the same of all connections of a server.
        call_timeout: seconds for a call, from its headers to its last byte out.
        idle_timeout: seconds that a connection stays open without a call.
    """

    streams: int = 100
    header_list: int = 16 << 10
    message: int = 256 << 10
    buffered: int = 512 << 10
    total: int = 32 << 20
    call_timeout: float = 10.0
    idle_timeout: float = 60.0


@dataclass(slots=True)
class Call:
    """A request whose headers are in, until the last byte of its answer is out."""

    stream: int
    path: str
    reader: MessageReader
    deadline: float
    messages: list[bytes] = field(default_factory=list)
    task: asyncio.Task[bytes] | None = None
    answer: bytearray | None = None  # what of it is not sent yet

    @property
    def held(self) -> int:
        """Bytes of the request that are kept."""
        return self.reader.buffered + sum(map(len, self.messages))


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Attributes:
        http: a status of HTTP for what is no gRPC at all; empty otherwise.
    """

    http: str = ""
    status: Status = Status.UNKNOWN
    text: str = ""


def open_call(
    stream: int,
    fields: Iterable[tuple[bytes, bytes]],
    paths: Collection[str],
    limits: Limits,
    now: float,
) -> Call | Refusal:
    """A call from the headers of its request.

    Args:
        paths: what can be called.
        now: monotonic seconds.
    """
    headers = {
        bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in fields
    }
    if headers.get(":method") != "POST":
        return Refusal(http="405")
    if not headers.get("content-type", "").startswith(CONTENT_TYPE):
        return Refusal(http="415")
    timeout = limits.call_timeout
    if "grpc-timeout" in headers:
        try:
            timeout = min(timeout, parse_timeout(headers["grpc-timeout"]))
        except ParseError as error:
            return Refusal(status=Status.INTERNAL, text=str(error))
    path = headers.get(":path", "")
    if path not in paths:
        return Refusal(status=Status.UNIMPLEMENTED, text=_unknown(path, paths))
    return Call(stream, path, MessageReader(limits.message), now + timeout)


def _unknown(path: str, paths: Collection[str]) -> str:
    service, _, method = path.lstrip("/").rpartition("/")
    if any(name.startswith(f"/{service}/") for name in paths):
        return f"unknown method {method} for service {service}"
    return f"unknown service {service}"
