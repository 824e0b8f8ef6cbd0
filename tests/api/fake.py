"""A gateway without media: it keeps what it was asked, and answers what a test set."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from relay.api.node import Session
from relay.config import Gateway
from relay.errors import (
    BadInput,
    Conflict,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    TooLarge,
)
from relay.gateway.doorman import Visit
from relay.gateway.status import (
    ModelOffer,
    ProcessStatus,
    StreamState,
    StreamStatus,
    ViewerStatus,
)
from relay.policy.gate import Gate

ANSWER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
_REQUEST_IDS = itertools.count(0xA0000000)


@dataclass
class FakeAnswer:
    status: int
    body: str | None = None
    etag: str | None = None


@dataclass
class FakeSession:
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    etag: str = '"g1"'
    answer: str = ANSWER
    next: FakeAnswer = field(default_factory=lambda: FakeAnswer(204))
    patched: list[tuple[bytes, str | None]] = field(default_factory=list)

    async def patch(self, body: bytes, if_match: str | None) -> FakeAnswer:
        if b"a=" not in body:
            raise BadInput("not a fragment", code="sdpfrag_parse")
        if if_match is None:
            raise PreconditionRequired("If-Match is needed")
        if if_match not in (self.etag, "*"):
            raise PreconditionFailed("stale")
        self.patched.append((body, if_match))
        return self.next


class FakePublisher(FakeSession):
    def request_keyframe(self) -> None:
        return


class FakeNode:
    def __init__(self, settings: Gateway | None = None) -> None:
        self.settings = settings or Gateway()
        self.draining = False
        self.ready = True
        self.short = ""
        self.sessions: dict[str, FakeSession] = {}
        self.live: dict[str, StreamStatus] = {}
        self.published: list[dict[str, Any]] = []
        self.offers: list[ModelOffer] = []
        self.watching: list[ViewerStatus] = []
        self.updates: list[bytes] = []
        self.stopped: list[str] = []
        self.smoked: list[tuple[str, float, str]] = []
        self.fail: BaseException | None = None
        self.hold: asyncio.Event | None = None
        self.full = asyncio.Semaphore(0)

    def why_not_ready(self) -> str | None:
        if self.draining:
            return "this gateway is going away"
        return None if self.ready else "no orchestrator answers: https://seller.example: refused"

    def shortage(self) -> str:
        return self.short

    def add(self, name: str, **values: Any) -> StreamStatus:
        status = StreamStatus(
            name=name,
            stream_id=values.pop("stream_id", name),
            request_id=values.pop("request_id", f"{next(_REQUEST_IDS):08x}"),
            model="effects",
            state=StreamState.LIVE,
            reason="",
            reason_code="",
            started=1_795_442_687.5,
            params={"effect": "cartoon"},
            viewers=2,
            swaps=1,
        )
        self.live[name] = replace(status, **values)
        return self.live[name]

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
    ) -> Session:
        _check_name(name)
        await self._obey()
        Gate(self.settings.publish_key).check(token)
        if name in self.live:
            raise Conflict("live elsewhere", code="name_live", retry_after=1)
        self.published.append(
            {"name": name, "offer": offer, "token": token, "model": model, "params": params}
            | {"stream_id": stream_id, "visit": visit}
        )
        self.add(name, stream_id=stream_id or name)
        return self._keep(FakePublisher())

    async def play(self, name: str, offer: str) -> Session:
        _check_name(name)
        await self._obey()
        return self._keep(FakeSession())

    def session(self, session_id: str) -> Session:
        try:
            return self.sessions[session_id]
        except KeyError:
            raise NotFound("no such session", code="session_not_found") from None

    async def end_session(self, session_id: str) -> None:
        self.sessions.pop(session_id)

    def streams(self) -> list[StreamStatus]:
        return list(self.live.values())

    def stream(self, name: str) -> StreamStatus:
        try:
            return self.live[name]
        except KeyError:
            raise NotFound("Stream not found", code="stream_not_found") from None

    async def viewers(self, name: str, *, limit: int, after: str) -> list[ViewerStatus]:
        self.stream(name)
        ids = [given.id for given in self.watching]
        start = ids.index(after) + 1 if after in ids else 0
        return self.watching[start : start + limit]

    async def viewer(self, session_id: str) -> ViewerStatus:
        session = self.session(session_id)
        if isinstance(session, FakePublisher):
            raise NotFound("this session is no viewer's", code="viewer_not_found")
        return self.watching[0]

    async def end_viewer(self, viewer_id: str) -> None:
        found = [given for given in self.watching if given.id == viewer_id]
        if not found:
            raise NotFound("no such viewer", code="viewer_not_found")
        self.watching.remove(found[0])

    def processes(self) -> list[ProcessStatus]:
        return [
            ProcessStatus("gateway", 0, 100, "ready", 40, 3, 0.4321, 0, 0),
            ProcessStatus("egress", 1, 101, "starting", 0, 0, 0.0, 2, 7),
            ProcessStatus("ingest", 1, 102, "ready", 0, 5, 0.1, 1, 4),
        ]

    async def update(self, name: str, body: bytes) -> dict[str, Any]:
        self.stream(name)
        await self._obey()
        if len(body) > 32 * 1024:
            raise TooLarge("over 32 KiB")
        self.updates.append(body)
        return {"effect": "cartoon", "strength": 0.5}

    async def set_model(self, name: str, model: str, params: dict[str, Any] | None) -> None:
        await self._obey()
        self.live[name] = replace(self.stream(name), model=model, params=params or {})

    async def stop_stream(self, name: str) -> None:
        self.stream(name)
        self.stopped.append(name)
        del self.live[name]

    def smoke_test(self, url: str, seconds: float, *, base: str) -> None:
        if self.fail is not None:
            raise self.fail
        self.smoked.append((url, seconds, base))

    def models(self) -> list[ModelOffer]:
        return self.offers

    async def _obey(self) -> None:
        if self.hold is not None:
            self.full.release()
            await self.hold.wait()
        if self.fail is not None:
            raise self.fail

    def _keep(self, session: FakeSession) -> FakeSession:
        self.sessions[session.id] = session
        return session


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,127}", name):
        raise BadInput("bad name", code="bad_name")
