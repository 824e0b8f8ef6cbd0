"""Calls to other nodes by gRPC: one HTTP/2 connection a call, as stock gateways do it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from relay.errors import (
    BadInput,
    ParseError,
    PeerError,
    PeerRefused,
    PeerTimeout,
    RateLimited,
    TooLarge,
    foreign_words,
)
from relay.rpc.address import NodeAddress
from relay.rpc.certificate import client_context
from relay.rpc.frame_meter import FrameMeter
from relay.rpc.grpc import CONTENT_TYPE, MessageReader, decode_text, frame
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.ping import PingPong
from relay.rpc.reach import ANYWHERE, refusal
from relay.rpc.trust import Guard, distrust
from relay.rpc.wire import MAX_MESSAGE

SERVICE: Final = "/net.Orchestrator"
GET_ORCHESTRATOR: Final = f"{SERVICE}/GetOrchestrator"
PING: Final = f"{SERVICE}/Ping"
END_SESSION: Final = f"{SERVICE}/EndTranscodingSession"

MAX_PLACES: Final = 8
"""Addresses of one name that are tried."""
MAX_HEADER_LIST: Final = 16 << 10
MAX_RECEIVED: Final = 2 * MAX_MESSAGE
"""Bytes of everything that a peer may send on one call's connection."""


async def get_orchestrator(
    url: str,
    request: OrchestratorRequest,
    *,
    timeout: float,
    guard: Guard | None = None,
) -> OrchestratorInfo:
    """Ask an orchestrator what it offers.

    Args:
        url: as operators write it: https without a scheme, 8935 without a port.
        timeout: seconds for all of it, the connection included.
        guard: what the peer's address and certificate are held to; None: to nothing.

    Raises:
        PeerTimeout: no answer in time.
        PeerRefused: it answered with an error, whose text is in the message. Code
            ``orchestrator_capped`` when it is full.
        PeerError: unreachable (``peer_unreachable``), or no gRPC, or an answer that is
            no OrchestratorInfo (``peer_answer``), ``untrusted`` or ``address_refused``
            as the guard has it.
        BadInput: ``url`` is no address.
    """
    answer = await call(
        url,
        GET_ORCHESTRATOR,
        request.serialise(),
        timeout=timeout,
        guard=guard,
    )
    try:
        return OrchestratorInfo.parse(answer)
    except ParseError as error:
        raise PeerError(f"{url}: {error}", code="peer_answer") from error


async def ping(
    url: str, value: bytes, *, timeout: float, ssl_context: ssl.SSLContext | None = None
) -> bytes:
    """Ping; stock orchestrators without a wallet answer with an empty value."""
    message = PingPong(value).serialise()
    answer = await call(url, PING, message, timeout=timeout, ssl_context=ssl_context)
    try:
        return PingPong.parse(answer).value
    except ParseError as error:
        raise PeerError(f"{url}: {error}", code="peer_answer") from error


async def call(
    url: str,
    path: str,
    message: bytes,
    *,
    timeout: float,
    ssl_context: ssl.SSLContext | None = None,
    guard: Guard | None = None,
) -> bytes:
    """One unary call; errors as ``get_orchestrator``.

    Args:
        ssl_context: with ALPN ``h2``; for calls without a guard, by default one that
            verifies nothing.
    """
    address = NodeAddress.parse(url)
    context = ssl_context or (guard.h2 if guard is not None else _default_context())
    try:
        async with asyncio.timeout(timeout):
            return await _call(address, path, message, context if address.tls else None, guard)
    except TimeoutError as error:
        raise PeerTimeout(f"{address}: no answer within {timeout:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise distrust(str(address), error) from error
    except OSError as error:
        raise PeerError(f"{address}: {foreign_words(error)}", code="peer_unreachable") from error
    except h2.exceptions.ProtocolError as error:
        raise PeerError(f"{address} broke HTTP/2: {error}", code="peer_answer") from error
    except (BadInput, TooLarge, RateLimited) as error:
        raise PeerError(f"{address}: {error}", code="peer_answer") from error


@cache
def _default_context() -> ssl.SSLContext:
    return client_context(verify=False, alpn=("h2",))


async def _call(
    address: NodeAddress,
    path: str,
    message: bytes,
    context: ssl.SSLContext | None,
    guard: Guard | None,
) -> bytes:
    reader, writer = await _connect(address, context, guard)
    done = False
    try:
        if guard is not None:
            _show(guard, writer)
        exchange = Exchange(address, path, message)
        while not exchange.ended:
            writer.write(exchange.to_send())
            await writer.drain()
            data = await reader.read(65536)
            if not data:
                raise PeerError(f"{address} closed without an answer", code="peer_answer")
            exchange.receive(data, time.monotonic())
        answer = exchange.result()
        writer.write(exchange.goodbye())
        done = True
        return answer
    finally:
        if done:
            writer.close()
        else:
            writer.transport.abort()


async def _connect(
    address: NodeAddress, context: ssl.SSLContext | None, guard: Guard | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first of the peer's addresses that takes it, of those that are allowed."""
    error: Exception | None = None
    for host in await _places(address, guard):
        try:
            return await asyncio.open_connection(
                host,
                address.port,
                ssl=context,
                server_hostname=address.host if context else None,
                ssl_shutdown_timeout=1.0 if context else None,
            )
        except OSError as failure:
            error = failure
    raise error or OSError("no address")


async def _places(address: NodeAddress, guard: Guard | None) -> list[str]:
    """What to connect to: addresses, once they are judged, so that no name changes after."""
    if guard is None or guard.reach == ANYWHERE:
        return [address.host]
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )
    hosts = list(dict.fromkeys(str(info[4][0]) for info in found))[:MAX_PLACES]
    allowed = [host for host in hosts if guard.reach.allows(ip_address(host))]
    if hosts and not allowed:
        raise refusal(str(address), ip_address(hosts[0]))
    return allowed


def _show(guard: Guard, writer: asyncio.StreamWriter) -> None:
    """Before a byte is sent."""
    shown = writer.get_extra_info("ssl_object")
    peer, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    guard.met(
        shown.getpeercert(binary_form=True) if shown is not None else None,
        peer[0] if peer else None,
        here[0] if here else None,
    )


class Exchange:
    """One call on one HTTP/2 connection, as bytes in and bytes out."""

    def __init__(self, address: NodeAddress, path: str, message: bytes) -> None:
        self._address = address
        self._rest = bytearray(frame(message))
        self._reader = MessageReader(MAX_MESSAGE)
        self._meter = FrameMeter(preface=False)
        self._messages: list[bytes] = []
        self._trailers: dict[str, str] = {}
        self._received = 0
        self.ended = False
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={codes.ENABLE_PUSH: 0, codes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST},
        )
        self._h2.decoder.max_header_list_size = MAX_HEADER_LIST
        self._h2.initiate_connection()
        self._h2.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", "https" if address.tls else "http"),
                (":path", path),
                (":authority", address.authority),
                ("content-type", CONTENT_TYPE),
                ("user-agent", "relay"),
                ("te", "trailers"),
            ],
        )
        self._send_message()

    def to_send(self) -> bytes:
        return self._h2.data_to_send()

    def goodbye(self) -> bytes:
        self._h2.close_connection()
        return self._h2.data_to_send()

    def receive(self, data: bytes, now: float) -> None:
        self._received += len(data)
        if self._received > MAX_RECEIVED:
            raise TooLarge(f"more than {MAX_RECEIVED} bytes for one answer")
        self._meter.feed(data, now)
        for event in self._h2.receive_data(data):
            self._event(event)
        self._send_message()

    def result(self) -> bytes:
        """The answer's message.

        Raises:
            PeerRefused: the status is not 0.
            PeerError: there is no status, or not exactly one message.
        """
        status = self._trailers.get("grpc-status")
        if status is None:
            raise PeerError(f"{self._address} sent no grpc-status", code="peer_answer")
        if status != "0":
            text = decode_text(self._trailers.get("grpc-message", ""))
            code = "orchestrator_capped" if "OrchestratorCapped" in text else "peer_refused"
            raise PeerRefused(f"{self._address}: {text or 'no reason given'}", code=code)
        self._reader.finish()
        if len(self._messages) != 1:
            count = len(self._messages)
            raise PeerError(f"{self._address} sent {count} messages", code="peer_answer")
        return self._messages[0]

    def _event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self._headers(_text(event.headers))
            case h2.events.TrailersReceived():
                self._trailers |= _text(event.headers)
            case h2.events.DataReceived() if event.data is not None:
                self._h2.acknowledge_received_data(event.flow_controlled_length, 1)
                self._messages += self._reader.feed(event.data)
            case h2.events.StreamEnded():
                self.ended = True
            case h2.events.StreamReset():
                if not self.ended:
                    code = event.error_code
                    raise PeerError(f"{self._address} reset the call ({code})")
            case h2.events.ConnectionTerminated():
                if not self.ended and (event.error_code or not event.last_stream_id):
                    raise PeerError(f"{self._address} went away ({event.error_code})")

    def _headers(self, headers: dict[str, str]) -> None:
        status, kind = headers.get(":status"), headers.get("content-type", "")
        if status != "200" or not kind.startswith(CONTENT_TYPE):
            raise PeerError(
                f"{self._address} answered HTTP {status} {kind}, no gRPC", code="peer_answer"
            )
        self._trailers = headers

    def _send_message(self) -> None:
        """Send what of the message the peer's window takes."""
        while self._rest:
            size = min(self._h2.local_flow_control_window(1), self._h2.max_outbound_frame_size)
            if size <= 0:
                return
            piece = bytes(self._rest[:size])
            del self._rest[:size]
            self._h2.send_data(1, piece, end_stream=not self._rest)


def _text(headers: Iterable[tuple[bytes | str, bytes | str]]) -> dict[str, str]:
    return {_latin(name): _latin(value) for name, value in headers}


def _latin(value: bytes | str) -> str:
    return value if isinstance(value, str) else bytes(value).decode("latin-1")
