"""Who a peer is by its certificate: over gRPC, REST and trickle, before a byte is sent."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from relay.cli.options import load
from relay.config import Settings
from relay.errors import ConfigError, PeerError
from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.rpc.certificate import SERVER_ALPN, self_signed, server_context
from relay.rpc.client import PING
from relay.rpc.client import call as grpc_call
from relay.rpc.connector import GuardedConnector
from relay.rpc.front import Front
from relay.rpc.http import call
from relay.rpc.ping import PingPong
from relay.rpc.reach import ANYWHERE, REFUSED, reach_of
from relay.rpc.trust import MAX_KNOWN, UNTRUSTED, Guard, Trust

PUBLIC = reach_of("auto", None)


class Peer:
    """A node over TLS on one port, that can be started again with another certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard: list[str] = []
        self.names = 0
        self.port = 0
        self._front: Front | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def certificate(self, *, host: str = "127.0.0.1", age: timedelta = timedelta()) -> Path:
        """Make one, ``age`` ago; answers the file that it is in."""
        self.names += 1
        cert, key = self_signed(host, datetime.now(UTC) - age)
        path = self.folder / f"{self.names}.pem"
        path.write_bytes(cert + key)
        return path

    async def start(self, path: Path | None = None) -> None:
        """Begin, or begin anew, with this certificate, or with a fresh one."""
        await self.stop()
        path = path or self.certificate()
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self._answer)
        context = server_context(path, path, alpn=SERVER_ALPN)
        self._front = Front(app, {PING: self._ping}, context)
        self.port = await self._front.start("127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._front is not None:
            await self._front.stop(0.0)

    async def _answer(self, request: web.Request) -> web.Response:
        self.heard.append(request.path)
        if request.path == "/away":
            raise web.HTTPFound("/secret")
        return web.Response(text="ok")

    async def _ping(self, data: bytes) -> bytes:
        self.heard.append(PING)
        return PingPong().serialise()


@asynccontextmanager
async def peer(tmp_path: Path, certificate: Path | None = None) -> AsyncIterator[Peer]:
    one = Peer(tmp_path)
    await one.start(certificate)
    try:
        yield one
    finally:
        await one.stop()


@asynccontextmanager
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(GuardedConnector) as session:
        yield session


async def greet(trust: Trust, url: str) -> None:
    message = PingPong(b"x").serialise()
    await grpc_call(url, PING, message, timeout=5, guard=trust.greeting(url))


async def get(session: aiohttp.ClientSession, guard: Guard, url: str) -> str:
    answer = await call(session, "GET", f"{url}/x", timeout=5, limit=100, ssl=guard.ssl)
    return answer.text


Ask = Callable[[aiohttp.ClientSession, Guard, str], Awaitable[object]]


async def by_grpc(session: aiohttp.ClientSession, guard: Guard, url: str) -> None:
    await grpc_call(url, PING, PingPong(b"x").serialise(), timeout=5, guard=guard)


async def by_publishing(session: aiohttp.ClientSession, guard: Guard, url: str) -> None:
    publisher = TricklePublisher(session, f"{url}/channel", ssl=guard.ssl)
    try:
        await publisher.open()
    finally:
        await publisher.close()


async def by_subscribing(session: aiohttp.ClientSession, guard: Guard, url: str) -> None:
    subscriber = TrickleSubscriber(session, f"{url}/channel", ssl=guard.ssl)
    try:
        async with asyncio.timeout(5):
            async for _ in subscriber:
                break
    finally:
        await subscriber.close()


WAYS = pytest.mark.parametrize("ask", [get, by_grpc, by_publishing, by_subscribing])


@WAYS
async def test_a_job_keeps_the_certificate_that_its_orchestrator_had(
    tmp_path: Path, ask: Ask
) -> None:
    trust = Trust("pin")
    async with peer(tmp_path) as one, http() as session:
        await greet(trust, one.url)
        job = trust.job(ANYWHERE)
        assert await get(session, job.guard(one.url), one.url) == "ok"
        await one.start()
        one.heard.clear()
        with pytest.raises(PeerError) as refused:
            await ask(session, job.guard(one.url), one.url)
        assert refused.value.code == UNTRUSTED
        assert one.heard == []


@WAYS
async def test_a_change_is_taken_when_the_peer_is_asked_again_and_crosses_no_job(
    tmp_path: Path, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    trust = Trust("pin")
    async with peer(tmp_path) as one, http() as session:
        await greet(trust, one.url)
        old = trust.job(ANYWHERE)
        guard = old.guard(one.url)
        await get(session, guard, one.url)
        before = trust.known(guard.authority)
        await one.start()
        with caplog.at_level(logging.WARNING):
            await greet(trust, one.url)
        after = trust.known(guard.authority)
        assert before is not None
        assert before.pin is not None
        assert after is not None
        assert after.pin is not None
        assert before.pin.hex() in caplog.text
        assert after.pin.hex() in caplog.text
        assert before.pin != after.pin
        with pytest.raises(PeerError) as refused:
            await ask(session, old.guard(one.url), one.url)
        assert refused.value.code == UNTRUSTED
        young = trust.job(ANYWHERE)
        # A connection that the young job opened is kept, and is none for the old one.
        assert await get(session, young.guard(one.url), one.url) == "ok"
        with pytest.raises(PeerError) as refused:
            await ask(session, old.guard(one.url), one.url)
        assert refused.value.code == UNTRUSTED


async def test_another_one_in_between_is_not_talked_to(tmp_path: Path) -> None:
    """Between the asking and the posting of the job."""
    trust = Trust("pin")
    async with peer(tmp_path) as one, http() as session:
        await greet(trust, one.url)
        await one.start()
        one.heard.clear()
        with pytest.raises(PeerError) as refused:
            await get(session, trust.job(ANYWHERE).guard(one.url), one.url)
        assert refused.value.code == UNTRUSTED
        assert one.heard == []


async def test_who_was_never_asked_is_pinned_by_the_jobs_first_connection(tmp_path: Path) -> None:
    trust = Trust("pin")
    async with peer(tmp_path) as one, http() as session:
        job = trust.job(ANYWHERE)
        guard = job.guard(one.url)
        assert await get(session, guard, one.url) == "ok"
        await one.start()
        for held in (guard, job.guard(one.url)):
            with pytest.raises(PeerError) as refused:
                await get(session, held, one.url)
            assert refused.value.code == UNTRUSTED
        # The next job begins with what it sees.
        assert await get(session, trust.job(ANYWHERE).guard(one.url), one.url) == "ok"


async def test_off_takes_whatever_comes(tmp_path: Path) -> None:
    trust = Trust("off")
    async with peer(tmp_path) as one, http() as session:
        await greet(trust, one.url)
        job = trust.job(ANYWHERE)
        await get(session, job.guard(one.url), one.url)
        await one.start()
        assert await get(session, job.guard(one.url), one.url) == "ok"
        await by_grpc(session, job.guard(one.url), one.url)


async def test_ca_takes_what_an_authority_signed_for_the_host(tmp_path: Path) -> None:
    async with (
        peer(tmp_path, (made := Peer(tmp_path / "").certificate())) as one,
        http() as session,
    ):
        trust = Trust("ca", ca=made)
        await greet(trust, one.url)
        assert await get(session, trust.job(ANYWHERE).guard(one.url), one.url) == "ok"


@WAYS
@pytest.mark.parametrize("wrong", ["unknown", "expired", "another host"])
async def test_ca_takes_no_other(tmp_path: Path, ask: Ask, wrong: str) -> None:
    async with peer(tmp_path) as one, http() as session:
        made = one.certificate(
            host="elsewhere.example" if wrong == "another host" else "127.0.0.1",
            age=timedelta(days=400 if wrong == "expired" else 0),
        )
        await one.start(made)
        trust = Trust("ca", ca=None if wrong == "unknown" else made)
        with pytest.raises(PeerError) as refused:
            await ask(session, trust.job(ANYWHERE).guard(one.url), one.url)
        assert refused.value.code == UNTRUSTED
        assert one.heard == []
        told = str(refused.value)
        assert told.count(f"127.0.0.1:{one.port}") == 1
        assert {"unknown": "node_ca", "expired": "expired", "another host": "name"}[wrong] in told
        assert "_ssl.c" not in told


def test_a_bare_off_is_no_false(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("gateway:\n  node_tls: off\nworker:\n  node_tls: pin\n")
    settings = Settings.load(path)
    assert (settings.gateway.node_tls, settings.worker.node_tls) == ("off", "pin")
    path.write_text("gateway:\n  node_tls: maybe\n")
    with pytest.raises(ConfigError, match=r"gateway\.node_tls"):
        Settings.load(path)


@pytest.mark.parametrize("word", ["no", "false", "No", "n", "OFF"])
def test_no_other_word_turns_the_check_of_certificates_off(tmp_path: Path, word: str) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(f"worker:\n  node_tls: {word}\n")
    with pytest.raises(ConfigError, match=rf"worker\.node_tls: .*'?{word}'?.*pin.*ca.*off"):
        Settings.load(path)
    with pytest.raises(ConfigError, match=r"worker\.node_tls.*pin.*ca.*off"):
        load(None, [f"worker.node_tls={word}"])
    assert load(None, ["worker.node_tls=off"]).worker.node_tls == "off"


def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("garbage")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigError, match=name):
            Trust("ca", ca=tmp_path / name)


# --- where a peer may send us, at the time of the connection


@WAYS
@pytest.mark.parametrize("mode", ["pin", "ca", "off"])
@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1"])
async def test_a_name_of_a_near_address_is_refused_for_a_public_peer(
    tmp_path: Path, ask: Ask, mode: str, host: str
) -> None:
    trust = Trust(mode)  # type: ignore[arg-type]
    async with peer(tmp_path) as one, http() as session:
        url = f"https://{host}:{one.port}"
        with pytest.raises(PeerError) as refused:
            await ask(session, trust.job(PUBLIC).guard(url), url)
        assert refused.value.code == REFUSED
        assert one.heard == []


async def test_a_kept_connection_is_none_for_whom_it_would_be_refused(tmp_path: Path) -> None:
    trust = Trust("off")
    heard: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/x", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://localhost:{runner.addresses[0][1]}"
    try:
        async with http() as session:
            assert await get(session, trust.job(ANYWHERE).guard(url), url) == "ok"
            with pytest.raises(PeerError) as refused:
                await get(session, trust.job(PUBLIC).guard(url), url)
            assert refused.value.code == REFUSED
            assert heard == ["/x"]
    finally:
        await runner.cleanup()


async def test_a_bare_near_address_is_refused_before_anything_is_done() -> None:
    with pytest.raises(PeerError) as refused:
        Trust().job(PUBLIC).guard("http://169.254.169.254/latest/meta-data")
    assert refused.value.code == REFUSED
    with pytest.raises(PeerError) as bad:
        Trust().job(PUBLIC).guard("gopher://example")
    assert bad.value.code == "bad_address"


async def test_who_named_an_address_decides(tmp_path: Path) -> None:
    trust = Trust("off")
    near = "https://127.0.0.1:1"
    async with peer(tmp_path) as one:
        with pytest.raises(PeerError):
            trust.meeting(near, by=one.url)  # never met
        await greet(trust, one.url)
        trust.meeting(near, by=one.url)
    trust.note("127.0.0.1:2", None, vouched=True, peer="203.0.114.9", here="10.0.0.1")
    with pytest.raises(PeerError) as refused:
        trust.greeting(near, by="https://127.0.0.1:2")
    assert refused.value.code == REFUSED
    trust.greeting(near)  # the operator named it


async def test_no_redirect_is_followed(tmp_path: Path) -> None:
    trust = Trust("off")
    async with peer(tmp_path) as one, http() as session:
        guard = trust.job(ANYWHERE).guard(one.url)
        answer = await call(session, "GET", f"{one.url}/away", timeout=5, limit=99, ssl=guard.ssl)
        assert answer.status == 302
        assert one.heard == ["/away"]


def test_a_bounded_number_of_nodes_is_remembered() -> None:
    trust = Trust()
    for number in range(MAX_KNOWN + 10):
        trust.note(f"h:{number}", b"x", vouched=True)
    assert trust.known("h:0") is None
    assert trust.known(f"h:{MAX_KNOWN + 9}") is not None
    assert len(trust._known) == MAX_KNOWN


def test_a_port_left_out_is_the_one_of_its_protocol() -> None:
    job, trust = Trust().job(ANYWHERE), Trust()
    assert job.guard("https://node.example/x").authority == "node.example:443"
    assert job.guard("http://node.example/x").authority == "node.example:80"
    assert trust.greeting("node.example").authority == "node.example:8935"


def test_guards_share_connections_only_under_the_same_rule() -> None:
    trust = Trust()
    trust.note("h:1", b"a", vouched=True)
    first = trust.job(ANYWHERE).guard("https://h:1").ssl
    assert trust.job(ANYWHERE).guard("https://h:1").ssl == first
    assert trust.job(PUBLIC).guard("https://h:1").ssl != first
    assert trust.meeting("https://h:1").ssl != first
    trust.note("h:1", b"b", vouched=True)
    assert trust.job(ANYWHERE).guard("https://h:1").ssl != first
    unknown = [trust.job(ANYWHERE).guard("https://h:2").ssl for _ in range(2)]
    assert unknown[0] != unknown[1]
    assert isinstance(Trust("ca").meeting("https://h:1").ssl, ssl.SSLContext)
