"""gRPC for other nodes: unary calls over `h2`, on connections that the front hands over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Final, cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from relay.errors import BadInput, ParseError, RateLimited, RelayError, TooLarge
from relay.rpc.frame_meter import FrameMeter
from relay.rpc.grpc import CONTENT_TYPE, Status, encode_text, frame
from relay.rpc.grpc_call import Call, open_call
from relay.rpc.grpc_call import Handler as Handler
from relay.rpc.grpc_call import Limits as Limits

log = logging.getLogger(__name__)

STREAM_GONE: Final = (h2.exceptions.NoSuchStreamError, h2.exceptions.StreamIDTooLowError)
"""What h2 raises for a stream that the peer has reset, in its two forms."""

GONE_WITHIN: Final = 0.5
"""Seconds that a connection gets to end when the server stops."""
CLOSE_GRACE: Final = 5.0
"""Seconds that a closing connection gets to take its last bytes."""


class GrpcServer:
    """The calls that are offered, and the connections that make them."""

    def __init__(self, handlers: Mapping[str, Handler], limits: Limits | None = None) -> None:
        self.handlers = dict(handlers)
        self.limits = limits or Limits()
        self.connections: set[GrpcConnection] = set()
        self.held = 0  # bytes of requests, of all connections
        self._empty = asyncio.Event()

    def make_room(self, limit: int) -> bool:
        """Whether one more connection is under ``limit``.

        Where it is not, the one that has been without a call for longest is let go for
        it: whoever opens connections and calls nothing keeps nobody else out.
        """
        if len(self.connections) < limit:
            return True
        idle = [item for item in self.connections if item.idle_since is not None]
        # Those that were let go stay a little, until their goodbye is out.
        if not idle or len(self.connections) >= 2 * limit:
            return False
        min(idle, key=lambda item: item.idle_since or 0.0).close()
        return True

    async def stop(self, grace: float) -> None:
        """Let the running calls end for ``grace`` seconds, then close every connection."""
        tasks = [task for item in self.connections for task in item.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for item in list(self.connections):
            item.close()
        if tasks:
            await asyncio.wait(tasks)
        if not await self._is_empty():  # a client that does not answer the goodbye
            for item in list(self.connections):
                item.abort()
            await self._is_empty()

    async def _is_empty(self) -> bool:
        """Whether all connections have ended, in a while."""
        self._empty.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), GONE_WITHIN)
        return not self.connections

    def forget(self, connection: GrpcConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()


class GrpcConnection(asyncio.Protocol):
    """One HTTP/2 connection: ``h2`` in the middle, bounds around it."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._limits = server.limits
        self._meter = FrameMeter(preface=True)
        self._calls: dict[int, Call] = {}
        self._paused = False
        self._last_call = time.monotonic()
        self._held = 0
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: self._limits.streams,
                codes.MAX_HEADER_LIST_SIZE: self._limits.header_list,
            },
        )
        self._h2.decoder.max_header_list_size = self._limits.header_list

    @property
    def tasks(self) -> list[asyncio.Task[bytes]]:
        """The calls that run now."""
        return [call.task for call in self._calls.values() if call.task is not None]

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._transport.get_write_buffer_size()

    @property
    def idle_since(self) -> float | None:
        """When its last call ended, monotonic seconds; None while there is one, and once
        it closes. Only calls count: pings keep no connection open.
        """
        return None if self._calls or self._closing else self._last_call

    def close(self) -> None:
        """Say goodbye and close; the calls that still run are cancelled."""
        self._goodbye(h2.errors.ErrorCodes.NO_ERROR)

    def abort(self) -> None:
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._meter.feed(data, time.monotonic())
            for event in self._h2.receive_data(data):
                self._event(event)
        except (TooLarge, RateLimited) as error:
            calm = isinstance(error, RateLimited)
            codes = h2.errors.ErrorCodes
            log.warning("gRPC connection refused: %s", error)
            self._goodbye(codes.ENHANCE_YOUR_CALM if calm else codes.FRAME_SIZE_ERROR)
        except h2.exceptions.ProtocolError as error:
            # h2 has put a GOAWAY with the right code among the bytes to send.
            log.info("gRPC connection broke the protocol: %s", error)
            self._goodbye(None)
        else:
            self._flush()

    def eof_received(self) -> bool:
        # A client that has closed its side cannot send another call, nor acknowledge.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._server.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        self._cancel_calls()

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.resume_reading()
        self._pump_all()
        self._flush()

    # events of h2

    def _event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._request(event)
            case h2.events.DataReceived():
                self._data(event)
            case h2.events.StreamEnded():
                self._ended(event.stream_id)
            case h2.events.StreamReset():
                self._forget(event.stream_id)
                if not event.remote_reset:
                    # h2 resets what breaks the rules of its stream.
                    self._meter.reset(time.monotonic())
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._pump_all()
            case h2.events.ConnectionTerminated():
                # h2 sends nothing more on a connection that its peer has ended.
                self._goodbye(None)

    def _request(self, event: h2.events.RequestReceived) -> None:
        call = open_call(
            event.stream_id,
            event.headers,
            self._server.handlers,
            self._limits,
            time.monotonic(),
        )
        if isinstance(call, Call):
            self._calls[call.stream] = call
        elif call.http:
            self._end_stream(event.stream_id, [(":status", call.http)])
        else:
            self._refuse(event.stream_id, call.status, call.text)

    def _data(self, event: h2.events.DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        call = self._calls.get(event.stream_id)
        if call is None or call.task is not None or event.data is None:
            return
        try:
            call.messages += call.reader.feed(event.data)
        except ParseError as error:
            compressed = error.code == "compressed"
            status = Status.UNIMPLEMENTED if compressed else Status.INTERNAL
            self._refuse(call.stream, status, str(error))
            return
        except TooLarge as error:
            self._refuse(call.stream, Status.RESOURCE_EXHAUSTED, str(error))
            return
        self._weigh()
        if len(call.messages) > 1:
            self._refuse(call.stream, Status.INTERNAL, "more than one message in a unary call")
        elif self._held > self._limits.buffered or self._server.held > self._limits.total:
            self._refuse(call.stream, Status.RESOURCE_EXHAUSTED, "too much at once")

    def _ended(self, stream: int) -> None:
        call = self._calls.get(stream)
        if call is None or call.task is not None:
            return
        if len(call.messages) != 1 or call.reader.buffered:
            self._refuse(stream, Status.INTERNAL, "the stream ends without a whole message")
            return
        call.task = asyncio.get_running_loop().create_task(self._run(call))
        call.task.add_done_callback(lambda task: self._finished(call, task))

    async def _run(self, call: Call) -> bytes:
        async with asyncio.timeout(call.deadline - time.monotonic()):
            return await self._server.handlers[call.path](call.messages[0])

    def _finished(self, call: Call, task: asyncio.Task[bytes]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if self._closing or self._calls.get(call.stream) is not call:
            return
        if error is None:
            self._answer(call, task.result())
        elif isinstance(error, BadInput):
            self._refuse(call.stream, Status.INVALID_ARGUMENT, str(error))
        elif isinstance(error, RelayError):
            self._refuse(call.stream, Status.UNKNOWN, str(error))
        elif isinstance(error, TimeoutError):
            self._refuse(call.stream, Status.DEADLINE_EXCEEDED, "deadline exceeded")
        else:
            log.error("gRPC %s failed", call.path, exc_info=error)
            self._refuse(call.stream, Status.INTERNAL, "internal error")
        self._flush()

    # answers

    def _answer(self, call: Call, message: bytes) -> None:
        call.answer = bytearray(frame(message))
        headers = [(":status", "200"), ("content-type", CONTENT_TYPE)]
        self._send_headers(call.stream, headers, end=False)
        self._pump(call)

    def _pump_all(self) -> None:
        for call in list(self._calls.values()):
            self._pump(call)

    def _pump(self, call: Call) -> None:
        """Send what the peer's window and the socket take."""
        if call.answer is None or self._closing:
            return
        try:
            while call.answer:
                window = self._h2.local_flow_control_window(call.stream)
                size = min(window, self._h2.max_outbound_frame_size)
                if self._paused or size <= 0:
                    return
                self._h2.send_data(call.stream, bytes(call.answer[:size]))
                del call.answer[:size]
                # The socket says when it is full, and only of what it has got.
                self._flush()
        except STREAM_GONE:
            self._forget(call.stream)
            return
        self._send_headers(call.stream, [("grpc-status", "0")], end=True)
        self._forget(call.stream)

    def _refuse(self, stream: int, status: Status, text: str) -> None:
        """An error in trailers only: one HEADERS frame, as stock nodes expect it."""
        self._end_stream(
            stream,
            [
                (":status", "200"),
                ("content-type", CONTENT_TYPE),
                ("grpc-status", str(int(status))),
                ("grpc-message", encode_text(text)),
            ],
        )

    def _end_stream(self, stream: int, headers: list[tuple[str, str]]) -> None:
        self._forget(stream)
        self._send_headers(stream, headers, end=True)
        # The peer may not have finished its side: it need not send the rest.
        self._reset(stream, h2.errors.ErrorCodes.NO_ERROR)

    def _send_headers(self, stream: int, headers: list[tuple[str, str]], *, end: bool) -> None:
        try:
            self._h2.send_headers(stream, headers, end_stream=end)
        except STREAM_GONE:
            # Reset by the peer, in the same bytes that brought what is answered here.
            return

    def _reset(self, stream: int, code: h2.errors.ErrorCodes) -> None:
        try:
            self._h2.reset_stream(stream, code)
        except STREAM_GONE:
            return

    # ends

    def _forget(self, stream: int) -> None:
        """A call is over, answered or not; nothing when it was before."""
        call = self._calls.pop(stream, None)
        if call is None:
            return
        if call.task is not None and not call.task.done():
            call.task.cancel()
        self._last_call = time.monotonic()
        self._weigh()

    def _weigh(self) -> None:
        held = sum(call.held for call in self._calls.values())
        self._server.held += held - self._held
        self._held = held

    def _cancel_calls(self) -> None:
        for stream in list(self._calls):
            self._forget(stream)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._closing:
            return
        for call in list(self._calls.values()):
            if now >= call.deadline and call.answer is not None:
                # The peer's window stays shut: nobody reads the answer.
                self._forget(call.stream)
                self._reset(call.stream, h2.errors.ErrorCodes.CANCEL)
            elif now >= call.deadline:
                self._refuse(call.stream, Status.DEADLINE_EXCEEDED, "deadline exceeded")
        self._flush()
        if not self._calls and now - self._last_call >= self._limits.idle_timeout:
            self._goodbye(h2.errors.ErrorCodes.NO_ERROR)
        else:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)

    def _goodbye(self, code: h2.errors.ErrorCodes | None) -> None:
        """Close; ``code`` None when h2 has written the GOAWAY itself."""
        if self._closing:
            return
        self._closing = True
        self._cancel_calls()
        if code is not None:
            self._h2.close_connection(code)
        self._flush()
        self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_GRACE, self._transport.abort)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
