"""What the HTTP side asks of a gateway, and nothing more of it.

The gateway's own classes fit these by shape, so that this room knows no protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from relay.config import Gateway
from relay.gateway.doorman import Visit
from relay.gateway.status import ModelOffer, ProcessStatus, StreamStatus, ViewerStatus


class PatchAnswer(Protocol):
    """What a PATCH of a session came to."""

    @property
    def status(self) -> int:
        """204 for trickled candidates, 200 for an ICE restart."""

    @property
    def body(self) -> str | None:
        """The fragment of a restart."""

    @property
    def etag(self) -> str | None:
        """The entity tag of the new ICE generation."""


class Session(Protocol):
    """A WHIP or WHEP session."""

    @property
    def id(self) -> str: ...

    @property
    def etag(self) -> str: ...

    @property
    def answer(self) -> str: ...

    async def patch(self, body: bytes, if_match: str | None) -> PatchAnswer: ...


@runtime_checkable
class Publisher(Protocol):
    """The mark of a WHIP session: only these hand media in."""

    def request_keyframe(self) -> None: ...


class Node(Protocol):
    """The gateway, as the HTTP side sees it."""

    @property
    def settings(self) -> Gateway: ...

    @property
    def draining(self) -> bool: ...

    @property
    def ready(self) -> bool: ...

    def why_not_ready(self) -> str | None:
        """In words; None when it is ready."""

    def shortage(self) -> str:
        """Why a ready gateway could not have a stream served now, in words; empty when it could."""

    async def publish(
        self,
        name: str,
        offer: str,
        *,
        token: str | None,
        model: str | None,
        params: dict[str, Any] | None,
        stream_id: str | None = None,
        visit: Visit | None = None,
    ) -> Session: ...

    async def play(self, name: str, offer: str) -> Session: ...

    def session(self, session_id: str) -> Session: ...

    async def end_session(self, session_id: str) -> None: ...

    def streams(self) -> Sequence[StreamStatus]: ...

    def stream(self, name: str) -> StreamStatus: ...

    async def viewers(self, name: str, *, limit: int, after: str) -> Sequence[ViewerStatus]: ...

    async def viewer(self, session_id: str) -> ViewerStatus: ...

    async def end_viewer(self, viewer_id: str) -> None: ...

    def processes(self) -> Sequence[ProcessStatus]: ...

    async def update(self, name: str, body: bytes) -> dict[str, Any]: ...

    async def set_model(self, name: str, model: str, params: dict[str, Any] | None) -> None: ...

    async def stop_stream(self, name: str) -> None: ...

    def smoke_test(self, url: str, seconds: float, *, base: str) -> None: ...

    def models(self) -> Sequence[ModelOffer]: ...
