"""The three roles, each importing only its own node, and only when it runs."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from relay.cli.options import refuse_open_door
from relay.cli.role import Role
from relay.cli.taken import listening
from relay.config import Gateway, Settings, is_loopback
from relay.errors import Unavailable

if TYPE_CHECKING:
    from relay.api.server import Server
    from relay.rpc.certificate import KeptCertificate
    from relay.rpc.given_certificate import GivenCertificate

FIRST_LOOKS: Final = 25
"""For half a second orchestrators may answer before the gateway says it is up without them."""

QUIET: Final = 0.2
"""Seconds in which who was told goodbye has asked why: some round trips of one who is far."""

MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": ("relay.gateway.node", "relay.api.app"),
    "orchestrator": ("relay.orchestrator.node",),
    "worker": ("relay.worker.node",),
}


def preload(role: str) -> None:
    """Import a role's code; under ``relay up`` this happens before its settings come."""
    for module in MODULES[role]:
        importlib.import_module(module)


class GatewayRole:
    def __init__(self, settings: Settings) -> None:
        refuse_open_door(settings.gateway)
        from relay.gateway.node import GatewayNode

        self._settings = settings.gateway
        self._node = GatewayNode(settings.gateway)
        self._server: Server | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.drain_timeout = settings.gateway.drain_timeout

    async def start(self) -> Mapping[str, Any]:
        from relay.api.app import build_app
        from relay.api.server import Server

        settings = self._settings
        certificate = http_certificate(settings)
        context = certificate.context if certificate is not None else None
        rtc = settings.webrtc
        tcp_port = rtc.tcp_port or 0
        with (
            listening("UDP", rtc.host, rtc.port, "gateway.webrtc.port", code="udp_bind"),
            listening("TCP", rtc.host, tcp_port, "gateway.webrtc.tcp_port", code="tcp_bind"),
        ):
            await self._node.start()
        self._server = Server(
            build_app(self._node), host=settings.host, port=settings.port, ssl_context=context
        )
        with listening("TCP", settings.host, settings.port, "gateway.port"):
            await self._server.start()
        if certificate is not None:
            self._keeping = asyncio.create_task(certificate.keep(), name="certificate")
        scheme = "https" if context else "http"
        port = self._server.port
        return {
            "url": settings.public_url or f"{scheme}://{url_host(settings.host)}:{port}",
            "port": port,
            "udp_port": self._node.peers.udp.port,
            "tcp_port": self._node.peers.tcp.port if self._node.peers.tcp is not None else None,
        }

    async def ready(self) -> Mapping[str, Any]:
        """The HTTP side answers at once; orchestrators get a moment to, and are told of."""
        for _ in range(FIRST_LOOKS):
            if self._node.ready:
                return {}
            await asyncio.sleep(0.02)
        return {"not_ready": self._node.why_not_ready()}

    async def drain(self, deadline: float) -> None:
        await self._node.drain(deadline)

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        await self._node.stop(quiet=QUIET)
        if self._server is not None:
            await self._server.stop()


class OrchestratorRole:
    def __init__(self, settings: Settings) -> None:
        from relay.orchestrator.node import OrchestratorNode

        self._settings = settings.orchestrator
        self._node = OrchestratorNode(settings.orchestrator)
        self.drain_timeout = settings.orchestrator.drain_timeout

    async def start(self) -> Mapping[str, Any]:
        settings = self._settings
        with listening("TCP", settings.host, settings.port, "orchestrator.port"):
            await self._node.start()
        return {"url": self._node.service_url, "port": self._node.port}

    async def ready(self) -> Mapping[str, Any]:
        """It may start before its runners; their health is its own to watch."""
        return {}

    async def drain(self, deadline: float) -> None:
        await self._node.drain(deadline)

    async def stop(self) -> None:
        await self._node.stop()


class WorkerRole:
    def __init__(self, settings: Settings) -> None:
        from relay.worker.node import WorkerNode

        self._settings = settings.worker
        self._node = WorkerNode(settings.worker)
        self.drain_timeout = settings.worker.drain_timeout

    async def start(self) -> Mapping[str, Any]:
        settings = self._settings
        with listening("TCP", settings.host, settings.port, "worker.port"):
            await self._node.start()
        host = url_host(self._settings.host)
        return {
            "url": f"http://{host}:{self._node.port}",
            "port": self._node.port,
            "slots": self._settings.slots,
            "models": [pipeline.model_id for pipeline in self._settings.pipelines],
        }

    async def ready(self) -> Mapping[str, Any]:
        """Whoever configured a pipeline counts on it: none may be missing from the start."""
        await self._node.wait_ready()
        if why := self._node.unloaded():
            raise Unavailable(
                f"the worker does not start: {why}; mend it, or take it out of worker.pipelines",
                code="not_ready",
            )
        return {}

    async def drain(self, deadline: float) -> None:
        await self._node.drain(deadline)

    async def stop(self) -> None:
        await self._node.stop()


ROLES: Final[Mapping[str, Callable[[Settings], Role]]] = {
    "gateway": GatewayRole,
    "orchestrator": OrchestratorRole,
    "worker": WorkerRole,
}


def url_host(host: str) -> str:
    """A host for a URL: an address that means "all" becomes one that can be typed."""
    if host in ("0.0.0.0", "::", ""):
        host = own_addresses()[0]
    return f"[{host}]" if ":" in host else host


def own_addresses() -> list[str]:
    """This machine's addresses, the one that leads outside first; nothing is sent."""
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: an address nobody has
            found.append(probe.getsockname()[0])
        except OSError:
            pass
    return [*found, "127.0.0.1"]


def http_certificate(gateway: Gateway) -> GivenCertificate | KeptCertificate | None:
    """The HTTP side's TLS: the operator's files, or a certificate made on the spot; None:
    plain HTTP.

    Raises:
        ConfigError: the files cannot be used, or what is kept is damaged.
    """
    from relay.rpc.certificate import KeptCertificate
    from relay.rpc.given_certificate import given_certificate

    tls = gateway.tls
    given = given_certificate(tls.cert, tls.key, setting="gateway.tls", alpn=("http/1.1",))
    if given is not None or not tls.self_signed:
        return given
    host, *also = certificate_names(gateway)
    # A folder of its own: an orchestrator beside it keeps a certificate for another name.
    return KeptCertificate(gateway.data_dir / "gateway", host, also=also, alpn=("http/1.1",))


def certificate_names(gateway: Gateway) -> list[str]:
    """Whatever a gateway may be called by those who come to it, the likeliest first."""
    from relay.protocols.webrtc.addresses import public_of

    outside = [] if is_loopback(gateway.host) else own_addresses()
    chosen = [] if gateway.host in ("0.0.0.0", "::", "") else [gateway.host]
    public = map(public_of, gateway.webrtc.public_addresses)
    told = [*public, urlsplit(gateway.public_url or "").hostname or ""]
    names = [*chosen, *outside, *told, "localhost", "127.0.0.1", "::1"]
    # A name that cannot be written in ASCII cannot be in a certificate.
    return [name for name in dict.fromkeys(names) if name and name.isascii()]
