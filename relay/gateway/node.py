"""The gateway: everything that buys, behind one object that the API calls."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp

from relay.config import Gateway
from relay.errors import Gone, NotFound, RelayError, Unavailable
from relay.gateway import params as parameters
from relay.gateway.courier import Mail, kafka_of, mail_of
from relay.gateway.doorman import Doorman, Visit
from relay.gateway.heartbeat import Heartbeat
from relay.gateway.path import Path
from relay.gateway.places import check_name
from relay.gateway.port import Floods, tell_of_buffers
from relay.gateway.publisher import Wish
from relay.gateway.sellers import Sellers
from relay.gateway.sessions import ENDED_BY_OPERATOR, Sessions
from relay.gateway.smoke import SmokeTests
from relay.gateway.status import ModelOffer, ProcessStatus, StreamStatus, ViewerStatus
from relay.gateway.viewers import process_statuses, viewer_of, viewer_status
from relay.policy.gate import Gate
from relay.policy.heartbeat import TERMINATED
from relay.protocols.trickle.client import open_session
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.ingest import Ingest
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.processes.egresses import Egresses
from relay.protocols.webrtc.processes.far_publisher import PublisherSession
from relay.protocols.webrtc.processes.ingests import Ingests
from relay.protocols.webrtc.processes.session import ServedSession
from relay.protocols.webrtc.session import short
from relay.rpc.connector import GuardedConnector

log = logging.getLogger(__name__)

SWEEP: Final = 0.5
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that other nodes get to take the end of what runs when this one stops."""


class GatewayNode:
    """One gateway process.

    ``start`` opens the UDP port and begins to ask orchestrators; ``drain`` lets
    streams end; ``stop`` ends everything.
    """

    def __init__(self, settings: Gateway) -> None:
        self.settings = settings
        self.draining = False
        self._gate = Gate(settings.publish_key)
        self._paths: dict[str, Path] = {}
        self._sessions = Sessions()
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._broken: str | None = None
        self._opened = AsyncExitStack()
        self.peers: Peers
        self.sellers: Sellers
        self._http: aiohttp.ClientSession
        self._mail: Mail
        self._doorman: Doorman
        self._smoke: SmokeTests
        self._ingest: Ingests
        self._egress: Egresses
        self._floods: Floods

    # --- life -----------------------------------------------------------------------

    async def start(self) -> None:
        make_kafka = kafka_of(self.settings)
        self.peers = await Peers.open(self.settings.webrtc)
        self._opened.push_async_callback(self.peers.close)
        tell_of_buffers(self.peers.udp)
        self._floods = Floods(self.peers.udp.port)
        self._egress = Egresses(self.peers, Egress.over(self.peers))
        self._opened.push_async_callback(self._egress.end, "the gateway is going away")
        self._ingest = Ingests(self.peers, Ingest(self.peers), along=self._egress)
        self._opened.push_async_callback(self._ingest.end, "the gateway is going away")
        self._http = open_session(GuardedConnector)
        self._opened.push_async_callback(self._http.close)
        # The operator's own services are where they are; the rules for peers are not theirs.
        services = open_session()
        self._opened.push_async_callback(services.close)
        settings = self.settings
        self._mail = mail_of(settings, services, make_kafka)
        self._mail.start()
        self._opened.push_async_callback(self._mail.close)
        self._doorman = Doorman(services, settings.auth_webhook, settings.auth_webhook_key)
        self._smoke = SmokeTests()
        self._opened.push_async_callback(self._smoke.close)
        self.sellers = Sellers(settings, self._http, self._mail.tell)
        self._tasks = [
            asyncio.create_task(self.sellers.watch(), name="sellers"),
            asyncio.create_task(self._sweep(), name="sweep"),
        ]
        if settings.heartbeat_url is not None:
            beating = Heartbeat(
                services,
                settings.heartbeat_url,
                interval=settings.heartbeat_interval,
                headers=settings.heartbeat_headers,
                living=lambda: [p.stream_id for p in self._paths.values() if p.has_publisher],
                end=self._terminate,
            )
            self._tasks.append(asyncio.create_task(beating.run(), name="heartbeat"))
        for task in self._tasks:
            task.add_done_callback(self._lost)

    def _lost(self, task: asyncio.Task[None]) -> None:
        """Work without which the gateway only seems to live: say so, and take no more traffic."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("the gateway's task “%s” broke", task.get_name(), exc_info=error)
        self._broken = f"the gateway's task “{task.get_name()}” broke; start it again"

    @property
    def ready(self) -> bool:
        """May take traffic: up, not going away, and somebody sells."""
        return self.why_not_ready() is None

    def why_not_ready(self) -> str | None:
        """In words a person can act on; None when ready."""
        if self.draining:
            return "this gateway is going away"
        if not self._tasks:
            return "this gateway is starting"
        if self._broken:
            return self._broken
        return None if self.sellers.heard else self.sellers.silence()

    def shortage(self) -> str:
        return self.sellers.shortage()

    async def drain(self, deadline: float) -> None:
        """Take no new streams; return when all have ended or ``deadline`` (monotonic) passed."""
        self.draining = True
        for path in self._paths.values():
            path.announce("draining", "this gateway is going away")
        self._quiet.clear()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._quiet.wait()
        except TimeoutError:
            log.info("the time to drain is over: the streams that are still live end")

    async def stop(self, *, quiet: float = 0.0) -> None:
        """End everything, and let those who were told so ask why: see ``Sessions.questions``."""
        self.draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        paths = [*self._paths.values()]
        self._paths.clear()
        for task in self._ending:
            task.cancel()
        await asyncio.gather(
            *(path.close("the gateway is going away", within=CLOSE_TIMEOUT) for path in paths),
            *self._ending,
            return_exceptions=True,
        )
        await self._sessions.questions(quiet)
        self._sessions.clear()
        await self._opened.aclose()

    async def _sweep(self) -> None:
        """Let go of paths that nobody needs, and of sessions that ended."""
        while True:
            await asyncio.sleep(SWEEP)
            self._sessions.sweep()
            now = time.monotonic()
            self._floods.look([*self._egress.unread(), *self._ingest.unread()], now)
            for path in list(self._paths.values()):
                if path.has_publisher:
                    path.look(now)
                    path.measure(now)
                    continue
                lonely = now - path.lonely_since > self.settings.viewer_wait
                if path.idle or (lonely and not path.taken):
                    self._end_soon(path, "nobody publishes")
            if not any(path.has_publisher for path in self._paths.values()):
                self._quiet.set()

    def _forget_idle(self, path: Path) -> None:
        """A refused offer leaves no stream behind."""
        if path.idle and self._paths.get(path.name) is path:
            self._end_soon(path, "nobody is here")

    def _end_soon(self, path: Path, reason: str) -> None:
        """Its name is free at once; its job may take a few seconds to end."""
        del self._paths[path.name]
        task = asyncio.create_task(path.close(reason), name=f"end of {path.name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # --- streamers and viewers ----------------------------------------------------------

    async def publish(
        self,
        name: str,
        offer: str,
        *,
        token: str | None = None,
        model: str | None = None,
        params: dict[str, Any] | None = None,
        stream_id: str | None = None,
        visit: Visit | None = None,
    ) -> PublisherSession:
        """Answer a WHIP offer.

        Raises:
            Unauthorized (401), Forbidden (403), Conflict (409), BadInput (400),
            Unprocessable (422), PeerError (502, 504), Unavailable (503): in the words
            of each.
        """
        check_name(name)
        self._gate.check(token)
        self._refuse_when_draining()
        self._refuse_when_full(name)
        wish = await self._admit(name, model, params, stream_id, visit or Visit())
        schema = self.sellers.schema(None, wish.model)
        parameters.check(schema.schema if schema else None, wish.params)
        # The webhook took its time.
        self._refuse_when_draining()
        self._refuse_when_full(name)
        path = self._path(name)
        try:
            session = await path.publish(offer, wish)
        except RelayError:
            self._forget_idle(path)
            raise
        self._sessions.add(session, path)
        return session

    async def _admit(
        self,
        name: str,
        model: str | None,
        params: dict[str, Any] | None,
        stream_id: str | None,
        visit: Visit,
    ) -> Wish:
        """What a publisher gets: what it asked for, as far as the webhook has no other word."""
        stream_id, request_id = stream_id or secrets.token_hex(4), secrets.token_hex(4)
        permit = await self._doorman.ask(name, visit, stream_id=stream_id, request_id=request_id)
        rtmp = bool(visit.rtmp_output or permit.rtmp_output_url)
        if rtmp:
            log.warning("stream %s: RTMP output was asked for and is not offered", name)
        return Wish(
            model=permit.pipeline or model or self.settings.default_model,
            params=dict(permit.parameters or params or {}),
            stream_id=permit.stream_id or stream_id,
            request_id=request_id,
            pipeline_id=permit.pipeline_id,
            orchestrator=visit.orchestrator,
            not_offered=("rtmp_output",) if rtmp else (),
        )

    async def play(self, name: str, offer: str) -> ServedSession:
        """Answer a WHEP offer; the publisher may come later."""
        check_name(name)
        self._refuse_when_draining()
        viewers = sum(path.viewers + path.joining for path in self._paths.values())
        if viewers >= self.settings.max_viewers:
            raise Unavailable("this gateway serves as many viewers as it may", retry_after=10)
        path = self._path(name)
        try:
            session = await path.play(offer)
        except RelayError:
            self._forget_idle(path)
            raise
        self._sessions.add(session, path)
        return session

    def session(self, session_id: str) -> ServedSession:
        """The WHIP or WHEP session of this id; raises as ``Sessions.find``."""
        return self._sessions.find(session_id)

    async def end_session(self, session_id: str) -> None:
        await self._sessions.take(session_id).close("the client ended it")

    # --- operators and apps -----------------------------------------------------------------

    def streams(self) -> list[StreamStatus]:
        return [path.status() for _, path in sorted(self._paths.items())]

    def stream(self, name: str) -> StreamStatus:
        return self._known(name).status()

    async def viewers(self, name: str, *, limit: int, after: str) -> list[ViewerStatus]:
        """A page of a stream's viewers, the earliest first; raises NotFound."""
        found = await self._known(name).audience(limit, lambda session: short(session) == after)
        return [viewer_status(given) for given in found]

    async def viewer(self, session_id: str) -> ViewerStatus:
        """The viewer of a session, by its secret.

        Raises:
            NotFound: there is none of this secret, or none any more that anybody remembers.
            Gone: it has ended; with the reason.
        """
        try:
            return await viewer_of(self.session(session_id), time.monotonic())
        except NotFound as error:
            if error.code == "session_not_found":
                where = (
                    "its secret is the last part of the Location that its offer was answered with"
                )
                raise NotFound(
                    f"{error}: {where}, not the id of a list", code=error.code
                ) from error
            if error.code != "session_ended":
                raise
            raise Gone(str(error), code=error.code) from error

    async def end_viewer(self, viewer_id: str) -> None:
        """End a viewer by its id as ``viewers`` shows it; raises NotFound."""
        await self._sessions.viewer(viewer_id).close(ENDED_BY_OPERATOR)

    def processes(self) -> list[ProcessStatus]:
        """Those that serve viewers and publishers, this one first."""
        return process_statuses(self._egress, self._ingest) if self._tasks else []

    async def update(self, name: str, body: bytes) -> dict[str, Any]:
        return self._known(name).update(body)

    async def set_model(self, name: str, model: str, params: dict[str, Any] | None) -> None:
        """Without parameters a stream that has the model goes on as it is."""
        path = self._known(name)
        if params is not None or path.model != model:
            path.set_model(model, params or {})

    async def stop_stream(self, name: str) -> None:
        path = self._known(name)
        del self._paths[name]
        self._sessions.keep_away(path, "the stream was stopped")
        await path.close("the stream was stopped")

    def smoke_test(self, url: str, seconds: float, *, base: str) -> None:
        """Send a test picture to ``url`` for a while; see ``SmokeTests.start``."""
        key = self.settings.publish_key if url.startswith(base + "/") else None
        self._smoke.start(url, seconds, token=key)

    def models(self) -> list[ModelOffer]:
        return self.sellers.models()

    # --- inside -------------------------------------------------------------------------------

    def _terminate(self, stream_ids: frozenset[str]) -> None:
        """End the streams that the operator's service will not pay for."""
        for path in list(self._paths.values()):
            if path.has_publisher and path.stream_id in stream_ids:
                log.warning("stream %s: %s", path.name, TERMINATED)
                self._sessions.keep_away(path, TERMINATED)
                self._end_soon(path, TERMINATED)

    def _known(self, name: str) -> Path:
        path = self._paths.get(name)
        if path is None:
            raise NotFound(f"no stream “{name}”", code="stream_not_found")
        return path

    def _path(self, name: str) -> Path:
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = Path(
                name,
                settings=self.settings,
                sellers=self.sellers,
                http=self._http,
                ingest=self._ingest,
                egress=self._egress,
                tell=self._mail.tell,
            )
        return path

    def _refuse_when_full(self, name: str) -> None:
        path = self._paths.get(name)
        if path is None or not path.taken:
            live = sum(1 for p in self._paths.values() if p.taken)
            if live >= self.settings.max_streams:
                raise Unavailable("this gateway carries as many streams as it may", retry_after=10)

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise Unavailable("this gateway is going away", code="draining", retry_after=5)
