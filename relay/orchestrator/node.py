"""The orchestrator: one port for gRPC, REST and trickle, and the runners behind it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from relay import config
from relay.errors import BadInput, ConfigError
from relay.orchestrator.jobs import Jobs
from relay.orchestrator.models_file import runners_of
from relay.orchestrator.offers import Stall, admit, offer
from relay.orchestrator.rest import MAX_BODY, Rest
from relay.orchestrator.runners import Runners
from relay.orchestrator.token import TokenMint
from relay.protocols.trickle.server import TrickleServer
from relay.rpc.address import NodeAddress, check_url
from relay.rpc.certificate import KeptCertificate
from relay.rpc.client import END_SESSION, GET_ORCHESTRATOR, PING
from relay.rpc.end_session import EndSessionRequest
from relay.rpc.front import Front
from relay.rpc.given_certificate import GivenCertificate, given_certificate
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.ping import PingPong

log = logging.getLogger(__name__)

TOKEN_LIFE: Final = 7 * 24 * 3600
"""Seconds. Long, since off-chain clients do not ask for another one."""

CLOSE_GRACE: Final = 0.5
"""Seconds that requests get to end once their channels are closed."""

WILDCARDS: Final = ("0.0.0.0", "::", "")


class OrchestratorNode:
    """
    Args:
        settings: the section of the settings that is an orchestrator's.

    Raises:
        ConfigError: a setting, or the models file, is wrong.
    """

    def __init__(self, settings: config.Orchestrator) -> None:
        if settings.service_url is None and settings.host in WILDCARDS:
            raise ConfigError(
                "orchestrator.service_url is needed: the host is every address of this"
                " machine, and gateways must be told one"
            )
        self._settings = settings
        self._sold = runners_of(settings)
        self._told = _address(settings.service_url, "service_url")
        _address(settings.trickle_url, "trickle_url")
        self._trickle_for_runners = settings.runner_trickle_url
        if settings.runner_trickle_url is not None:
            _address(settings.runner_trickle_url, "runner_trickle_url")
        self._mint = TokenMint(secrets.token_bytes(32))
        self._draining = False
        self._main: asyncio.Task[None] | None = None
        self._rest: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._certificate: GivenCertificate | KeptCertificate | None = None  # None: plain text
        self._front: Front | None = None
        self._plain: Front | None = None  # trickle alone, beside a port that speaks TLS
        self.jobs: Jobs
        self.runners: Runners
        self.port = 0
        self.trickle_port = 0  # of the plain-text one, where there is one

    @property
    def service_url(self) -> str:
        """What gateways are told. Port 0 in the setting stands for the one that is
        listened on, which is known once the node has started."""
        told = self._told or NodeAddress(self._settings.host, 0, tls=True)
        return replace(told, port=told.port or self.port).url

    @property
    def trickle_url(self) -> str:
        """Where gateways are told that trickle is; as it was typed, where it is not here."""
        told = self._settings.trickle_url
        if told is None:
            return self.service_url
        host = urlsplit(told).hostname or ""
        return NodeAddress(host, self.trickle_port, False).url if self._plain else told.rstrip("/")

    # start and stop

    async def start(self) -> None:
        """Listen, and begin to watch the runners.

        Raises:
            ConfigError: the address cannot be bound, or the certificate not kept.
        """
        self._certificate = self._own_certificate()
        context = self._certificate.context if self._certificate is not None else None
        trickle = TrickleServer(tokens=self._settings.trickle_tokens)
        app = web.Application(client_max_size=MAX_BODY)
        trickle.attach(app)
        self._front = Front(
            app,
            {
                GET_ORCHESTRATOR: self._get_orchestrator,
                PING: self._ping,
                END_SESSION: self._end_session,
            },
            context,
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256, limit_per_host=32),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.runners = Runners(
            self._sold,
            self._session,
            interval=self._settings.health_interval,
            on_lost=lambda url, reason: self.jobs.lost(url, reason),
        )
        # Job addresses have the port in them, which is known once it is bound.
        self.jobs = Jobs(
            trickle,
            self.runners,
            spawn=self._spawn,
            gateway_base=lambda: self.trickle_url + trickle.base_path,
            runner_base=lambda: self._runner_url() + trickle.base_path,
            separate_names=self._settings.separate_names,
            tokens=self._settings.trickle_tokens,
        )
        Rest(
            jobs=self.jobs,
            runners=self.runners,
            mint=self._mint,
            stall=self._stall,
            service_url=lambda: self.service_url,
        ).attach(app)
        self._main = asyncio.create_task(self._run(trickle), name="orchestrator")
        self._main.add_done_callback(self._main_ended)
        try:
            self.port = await self._front.start(self._settings.host, self._settings.port)
            await self._start_plain(trickle, beside_tls=context is not None)
        except ConfigError:
            await self.stop()
            raise
        if not self._sold:
            log.warning("no runners are configured: there is nothing to sell")

    async def _start_plain(self, trickle: TrickleServer, *, beside_tls: bool) -> None:
        """Trickle in plain text, for gateways that would verify a certificate of ours: a
        stock one does when it was started with live runners."""
        told = urlsplit(self._settings.trickle_url or "")
        if told.scheme != "http" or not beside_tls:
            return
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(list(trickle.routes()))
        self._plain = Front(app, {})
        port = 80 if told.port is None else told.port
        self.trickle_port = await self._plain.start(self._settings.host, port)

    async def _run(self, trickle: TrickleServer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(trickle.run())
            group.create_task(self.jobs.watch())
            if self._certificate is not None:
                group.create_task(self._certificate.keep())
            for url in self.runners.watched:
                group.create_task(self.runners.watch(url))

    async def drain(self, deadline: float) -> None:
        """Take nothing new; return when no job runs, or at ``deadline`` (monotonic)."""
        self._draining = True
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self.jobs.wait_until_none()
        except TimeoutError:
            log.warning("the drain deadline passed with %d jobs", len(self.jobs.running))

    async def stop(self) -> None:
        """End what runs, close the port. The channels' closing tells the peers."""
        self._draining = True
        if self._main is None:
            return
        self.jobs.end_all("this node stops")
        if self._rest:
            await asyncio.wait(self._rest, timeout=CLOSE_GRACE)
        fronts = [front for front in (self._front, self._plain) if front is not None]
        await asyncio.gather(*(front.stop(CLOSE_GRACE) for front in fronts))
        tasks = [self._main, *self._rest]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._main = None
        if self._session is not None:
            await self._session.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """For what a job leaves to do; not in the group of ``_run``, so that jobs still
        end when that has failed."""
        task = asyncio.get_running_loop().create_task(work)
        self._rest.add(task)
        task.add_done_callback(self._rest.discard)

    def _main_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nobody watches the runners any more: take nothing new, and say so.
            self._draining = True
            log.critical("the orchestrator's own work has failed", exc_info=error)

    def _own_certificate(self) -> GivenCertificate | KeptCertificate | None:
        tls = self._settings.tls
        given = given_certificate(tls.cert, tls.key, setting="orchestrator.tls")
        if self._told is not None and not self._told.tls:
            if given is not None:
                raise ConfigError("orchestrator.tls needs an https:// service_url")
            return None
        host = self._told.host if self._told is not None else self._settings.host
        if given is not None:
            _compare(given, host)
            given.on_renewed = lambda: _compare(given, host)
            return given
        return KeptCertificate(self._settings.data_dir, host)

    def _runner_url(self) -> str:
        return (self._trickle_for_runners or self.service_url).rstrip("/")

    # gRPC

    async def _get_orchestrator(self, data: bytes) -> bytes:
        request = OrchestratorRequest.parse(data)
        stall = self._stall()
        admit(request, stall)
        token = self._mint.issue(secrets.token_hex(4), int(time.time()) + TOKEN_LIFE)
        return offer(request, stall, service_url=self.service_url, token=token).serialise()

    async def _ping(self, data: bytes) -> bytes:
        """Off-chain the answer is empty, as a stock node's is."""
        PingPong.parse(data)
        return PingPong().serialise()

    async def _end_session(self, data: bytes) -> bytes:
        # At a stock node too an old token still ends its session, and a wrong one does not.
        self._mint.check(EndSessionRequest.parse(data).auth_token, now=0.0)
        return b""

    def _stall(self) -> Stall:
        return Stall(
            models=self.runners.constraints(),
            hardware=self.runners.hardware(),
            draining=self._draining,
        )


def _compare(given: GivenCertificate, host: str) -> None:
    """Warn where the certificate that is served is made for another name than is told."""
    if others := given.names_unlike(host):
        log.warning(
            "orchestrator.tls.cert is made for %s, and gateways are told %s: those with"
            " node_tls: ca will not take it. Get one for %s, or set"
            " orchestrator.service_url to a name that it has",
            ", ".join(others),
            host,
            host,
        )


def _address(url: str | None, name: str) -> NodeAddress | None:
    if url is None:
        return None
    try:
        check_url(url, what=f"orchestrator.{name}")
        return NodeAddress.parse(url)
    except BadInput as error:
        raise ConfigError(str(error)) from error
