"""A trickle server: named channels over HTTP, in memory, with bounds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from relay.errors import BadInput, Forbidden, NotFound, RelayError, SegmentGone, Unavailable
from relay.protocols.trickle import answers
from relay.protocols.trickle.channel import Budget, Channel, Limits
from relay.protocols.trickle.delivery import Delivery
from relay.protocols.trickle.intake import Intake
from relay.protocols.trickle.passes import Access, Pass, Passes
from relay.protocols.trickle.paths import (
    check_name,
    clean_mime,
    is_name,
    parse_exact_sequence,
    parse_sequence,
    parse_write_sequence,
)
from relay.protocols.trickle.segment import Segment

log = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ChannelActivity:
    """What a channel has seen.

    Attributes:
        last_write: when the last byte came (or the channel was made), monotonic seconds.
        next_write: one more than the number of the segment begun most recently.
        bytes: ever written to it.
        readers: requests that read it now.
        writers: requests that write it now.
        cut: the last of them to end lost its connection before the end of its request.
    """

    last_write: float
    next_write: int
    bytes: int
    readers: int
    writers: int
    cut: bool


class TrickleServer:
    """Channels of segments, written by POST and read by GET while they are written.

    Args:
        base_path: where the routes hang, as a path.
        autocreate: whether strangers may make channels by writing to them.
        tokens: every request needs a token that ``let`` has made known for its channel;
            there is none for a channel that strangers would make.
        limits: every bound there is.
    """

    def __init__(
        self,
        *,
        base_path: str = "/ai/trickle/",
        autocreate: bool = False,
        tokens: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.base_path = f"/{base_path.strip('/')}/"
        self.limits = limits or Limits()
        self._autocreate = autocreate
        self._budget = Budget(self.limits.total_bytes)
        self._channels: dict[str, Channel] = {}
        self._names: dict[str, tuple[str, Access]] = {}  # other names, and narrowed ones
        self._passes = Passes(self.limits.channels) if tokens else None
        self._callbacks: dict[str, list[Callable[[str], None]]] = {}
        self._deliveries: set[Delivery] = set()
        self._intakes: set[Intake] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        """The routes of this server, for one application."""
        channel = f"{self.base_path}{{channel}}"
        # In the order in which they are tried: most requests are for segments.
        yield web.route("*", f"{channel}/{{sequence}}", self._guarded(self._on_segment))
        yield web.route("*", channel, self._guarded(self._on_channel))

    def attach(self, app: web.Application) -> None:
        """Add the routes to ``app``, and have its shutdown end every request that waits."""
        app.add_routes(list(self.routes()))

        async def shut_down(_: web.Application) -> None:
            self.close_all()

        app.on_shutdown.append(shut_down)

    # What the process that holds the server may do.

    def create(self, name: str, mime: str) -> None:
        """Make a channel; nothing when it is there already (its content type stays).

        Raises:
            BadInput: the name may not name a channel.
            Unavailable: there are too many channels.
        """
        check_name(name)
        if name in self._channels:
            return
        if len(self._channels) >= self.limits.channels:
            raise Unavailable("Too many channels", code="too_many_channels")
        self._channels[name] = Channel(
            name, clean_mime(mime), time.monotonic(), self.limits, self._budget
        )

    def grant(self, name: str, channel: str, access: Access) -> None:
        """Let ``name`` stand for a channel, with that access only; it may be the channel's
        own, which is narrowed by this. It goes with the channel.

        Raises:
            BadInput: the name may not name a channel.
            NotFound: there is no such channel.
        """
        check_name(name)
        self._get(channel)
        self._names[name] = (channel, access)

    def let(self, name: str, one: Pass, access: Access) -> None:
        """Let the holder of a token do that much under a name of a channel. It goes with the
        channel; nothing where no tokens are asked for.

        Raises:
            NotFound: there is no channel of that name.
        """
        self._get(self._names.get(name, (name, access))[0])
        if self._passes is not None:
            self._passes.let(name, one, access)

    def exists(self, name: str) -> bool:
        return name in self._channels

    async def close(self, name: str) -> None:
        """Close and remove a channel: readers end, writers are told. Unknown: nothing."""
        self._close(name, "closed")

    def close_all(self) -> None:
        """Close every channel; whoever only took ``routes`` calls it before its server ends."""
        for name in list(self._channels):
            self._close(name, "closed")
        for intake in self._intakes:
            intake.expire()

    def on_closed(self, name: str, callback: Callable[[str], None]) -> None:
        """Have ``callback`` called once, with a word why: ``deleted``, ``idle``, ``closed``.

        Raises:
            NotFound: there is no such channel.
        """
        self._get(name)
        self._callbacks.setdefault(name, []).append(callback)

    def activity(self, name: str) -> ChannelActivity:
        """Raises NotFound when there is no such channel."""
        channel = self._get(name)
        # A reader that waits is told by the next sweep only that its socket is closed.
        gone = sum(one.gone for one in self._deliveries if one.channel is channel)
        return ChannelActivity(
            last_write=channel.last_write,
            next_write=channel.next_write,
            bytes=channel.received,
            readers=channel.readers - gone,
            writers=channel.writers,
            cut=channel.cut,
        )

    async def run(self) -> None:
        """Sweep idle channels, stuck writers and stuck or vanished readers; never returns."""
        while True:
            await asyncio.sleep(self.limits.sweep)
            self.sweep(time.monotonic())

    def sweep(self, now: float) -> None:
        """One round of ``run`` at ``now``, monotonic seconds."""
        limits = self.limits
        for name, channel in list(self._channels.items()):
            if now - channel.last_write > limits.idle:
                self._close(name, "idle")
        for intake in list(self._intakes):
            stalled = intake.last_byte is not None and now - intake.last_byte > limits.stall
            if stalled or intake.broken:
                intake.expire()
        for delivery in list(self._deliveries):
            if delivery.gone:
                delivery.wake()
            elif delivery.stuck_since is not None and now - delivery.stuck_since > limits.stall:
                delivery.abort()

    # Routes.

    def _guarded(self, handler: _Handler) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except RelayError as error:
                response = answers.refusal(error)
                unread = request.body_exists and not request.content.is_eof()
                if unread or (request.method == "POST" and isinstance(error, NotFound)):
                    response.force_close()
                return response
            except ConnectionError:
                log.debug("trickle %s: the other side is gone", request.method)
                return answers.empty()

        return handle

    def _named(self, request: web.Request) -> str:
        """The channel of a request.

        Raises:
            Unauthorized: it needs a token, and has none.
            Forbidden: its token, or the name in its path, is for other things.
        """
        told = request.match_info["channel"]
        needed = Access.READ if request.method in ("GET", "HEAD") else Access.WRITE
        if request.match_info.get("sequence") == "next":
            needed = Access.ALL  # any of both
        if self._passes is not None:
            # First of all: nobody else learns what there is.
            self._passes.check(told, request.headers.getall("Authorization", ()), needed)
        name, access = self._names.get(told, (told, Access.ALL))
        if needed is not Access.ALL and needed not in access:
            raise Forbidden("Not with this name", code="wrong_name")
        return name

    async def _on_channel(self, request: web.Request) -> web.StreamResponse:
        name = self._named(request)
        match request.method:
            case "POST":
                if not self.exists(name):
                    self._autocreated(name, request.headers.get(answers.EXPECT_CONTENT))
                return answers.empty()
            case "DELETE":
                if not self._close(name, "deleted"):
                    raise BadInput("Invalid stream", code="no_channel")
                return answers.empty()
        return answers.not_allowed("DELETE", "POST")

    async def _on_segment(self, request: web.Request) -> web.StreamResponse:
        name = self._named(request)
        sequence = request.match_info["sequence"]
        match request.method:
            case "GET" | "HEAD" if sequence == "next":
                return self._next(self._get(name))
            case "GET" | "HEAD":
                return await self._read(self._get(name), parse_sequence(sequence), request)
            case "POST":
                if not self.exists(name):
                    self._autocreated(name, request.headers.get("Content-Type"))
                return await self._write(self._get(name), parse_write_sequence(sequence), request)
            case "DELETE":
                self._get(name).delete(parse_exact_sequence(sequence))
                return answers.empty()
        return answers.not_allowed("DELETE", "GET", "HEAD", "POST")

    def _next(self, channel: Channel) -> web.Response:
        latest = str(channel.next_write)
        return answers.plain(latest, headers={answers.LATEST: latest})

    async def _read(
        self, channel: Channel, sequence: int, request: web.Request
    ) -> web.StreamResponse:
        try:
            reading = channel.read(sequence)
        except SegmentGone as error:
            return answers.gone(sequence, error)
        delivery = Delivery(channel, reading, request)
        channel.readers += 1
        self._deliveries.add(delivery)
        try:
            return await delivery.run()
        finally:
            self._deliveries.discard(delivery)
            channel.readers -= 1

    async def _write(
        self, channel: Channel, sequence: int, request: web.Request
    ) -> web.StreamResponse:
        channel.admit(time.monotonic())
        reset = bool(request.headers.get(answers.RESET))
        writer = channel.write(sequence, reset=reset)
        intake = Intake(channel, writer, request, keepalive=self.limits.keepalive)
        self._intakes.add(intake)
        try:
            return await intake.run()
        finally:
            self._intakes.discard(intake)
            channel.cut = intake.cut
            if intake.abandoned:
                self._expire_later(channel, writer.segment)

    # Channels.

    def _get(self, name: str) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            raise answers.no_channel()
        return channel

    def _autocreated(self, name: str, mime: str | None) -> None:
        if not self._autocreate or not is_name(name):
            raise answers.no_channel()
        self.create(name, clean_mime(mime))

    def _close(self, name: str, reason: str) -> bool:
        channel = self._channels.pop(name, None)
        if channel is None:
            return False
        channel.close(reason)
        others = [other for other, (held, _) in self._names.items() if held == name]
        for other in others:
            del self._names[other]
        if self._passes is not None:
            for ended in {name, *others}:
                self._passes.end(ended)
        for callback in self._callbacks.pop(name, []):
            callback(reason)
        return True

    def _expire_later(self, channel: Channel, segment: Segment) -> None:
        asyncio.get_running_loop().call_later(
            self.limits.abandoned, channel.expire, segment, segment.abandonments
        )
