"""Stands in, in the gateway, for the session of a peer that another process serves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from relay import errors
from relay.errors import NotFound, ParseError, PeerError, RelayError
from relay.protocols.webrtc.egress_session import ViewerStatistics
from relay.protocols.webrtc.processes.messages import Close, Farewell, Patch, Statistics
from relay.protocols.webrtc.session import PatchAnswer
from relay.protocols.webrtc.stun import Address

Ask = Callable[[Patch | Close | Statistics], Awaitable[Mapping[str, Any]]]
"""Sends a call, of whatever number, and waits for its reply; raises what it was refused by."""

MAX_FAREWELL: Final = 4
"""Datagrams."""
MAX_CREDENTIALS: Final = 2
"""The last two: a restart that was answered is used in its time."""

_UFRAG: Final = re.compile(r"^a=ice-ufrag:([^\r\n]+)", re.MULTILINE)
_PASSWORD: Final = re.compile(r"^a=ice-pwd:([^\r\n]+)", re.MULTILINE)


class ServedSession(Protocol):
    """A peer's session, wherever it is served."""

    @property
    def id(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def close_reason(self) -> str: ...

    async def patch(self, body: bytes, if_match: str | None) -> PatchAnswer: ...
    async def close(self, reason: str) -> None: ...


class FarSession:
    """A ``ServedSession`` of another process.

    Attributes:
        process: number of the process.
        close_reason: why it has ended.
        farewell: where the peer is, and the datagrams that tell it that its process is lost.
        credentials: ICE user names and passwords that the peer was told, the newest last.
    """

    def __init__(self, reply: Mapping[str, Any], ask: Ask, process: int) -> None:
        self.id: str = reply["id"]
        self.answer: str = reply["answer"]
        self.etag: str = reply["etag"]
        self.process = process
        self.close_reason = ""
        self.farewell: tuple[Address, list[bytes]] = (("", 0), [])
        self.credentials = told_in(self.answer)
        self._ask = ask
        self._closed = asyncio.Event()

    async def patch(self, body: bytes, if_match: str | None) -> PatchAnswer:
        """As ``Session.patch``."""
        if self.is_closed:
            raise NotFound("the session has ended", code="session_ended")
        try:
            reply = await self._ask(Patch(0, self.id, body.decode("latin-1"), if_match))
        except PeerError as error:
            why = self.close_reason or str(error)
            raise NotFound(f"the session has ended: {why}", code="session_ended") from error
        self.etag = reply["current"]
        self.credentials = [*self.credentials, *told_in(reply["body"] or "")][-MAX_CREDENTIALS:]
        return PatchAnswer(reply["status"], reply["body"], reply["etag"])

    async def close(self, reason: str) -> None:
        """End it; over at once to whoever asks here, whatever its process does."""
        if self.is_closed:
            return
        self.ended(reason)
        try:
            await self._ask(Close(0, self.id, reason))
        except (PeerError, NotFound):
            return  # it has ended, with its process or without

    def keep(self, farewell: Farewell) -> None:
        """For when its process is lost.

        Raises:
            ParseError: these are no datagrams.
        """
        if len(farewell.datagrams) > MAX_FAREWELL:
            return
        try:
            datagrams = [bytes.fromhex(each) for each in farewell.datagrams]
        except (TypeError, ValueError) as error:
            raise ParseError(f"no datagrams: {error}") from error
        self.farewell = (tuple(farewell.address), datagrams)

    def ended(self, reason: str) -> None:
        """Its process says so, or is gone."""
        if not self._closed.is_set():
            self.close_reason = reason
            self._closed.set()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def wait_closed(self) -> str:
        """Wait for the end, by either side; returns why."""
        await self._closed.wait()
        return self.close_reason


class FarViewer(FarSession):
    """
    Attributes:
        rendition: number of the rendition.
    """

    def __init__(self, reply: Mapping[str, Any], ask: Ask, process: int, rendition: int) -> None:
        super().__init__(reply, ask, process)
        self.rendition = rendition

    async def statistics(self) -> ViewerStatistics:
        """
        Raises:
            NotFound: it has just ended.
            PeerError: its process does not answer.
        """
        found = await self._ask(Statistics(0, [self.id]))
        for given in found["viewers"]:
            return ViewerStatistics(**{**given, "process": self.process})
        raise NotFound("the session has ended", code="session_ended")


def told_in(text: str) -> list[tuple[str, str]]:
    """ICE user name and password of a description or a fragment of ours, as a list of one."""
    name, password = _UFRAG.search(text), _PASSWORD.search(text)
    return [(name[1], password[1])] if name is not None and password is not None else []


_KNOWN: Final = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RelayError)
}


def error_of(given: Mapping[str, Any]) -> RelayError:
    """The exception that a ``Reply`` tells of."""
    kind = _KNOWN.get(given.get("type", ""), RelayError)
    if kind is errors.SegmentGone:  # no process of ours raises it, and it has one argument more
        kind = PeerError
    return kind(
        str(given.get("message", "")),
        code=given.get("code") or None,
        retry_after=given.get("retry_after"),
    )


def error_told(error: RelayError) -> dict[str, Any]:
    """The same the other way."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "code": error.code,
        "retry_after": error.retry_after,
    }
