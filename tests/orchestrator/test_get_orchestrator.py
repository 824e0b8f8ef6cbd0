"""GetOrchestrator on the node's port: our client, grpcio, and a stock gateway's own bytes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

from relay.errors import PeerRefused
from relay.orchestrator.node import TOKEN_LIFE
from relay.rpc.capabilities import ModelConstraint
from relay.rpc.client import END_SESSION, call, ping
from relay.rpc.end_session import EndSessionRequest
from relay.rpc.grpc import MessageReader
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.orchestrator_request import NO_ADDRESS
from relay.rpc.runner import RunnerStatus
from tests.network import eventually
from tests.orchestrator.doubles import MODEL, RunnerDouble, desk, sold
from tests.rpc.captured import captured


async def test_the_offer_has_what_a_stock_gateway_needs(tmp_path: Path) -> None:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner, capacity=3)) as one,
    ):
        info = await one.ask(MODEL)
        assert info.transcoder == one.url
        assert info.address == NO_ADDRESS
        assert info.price_info is None
        assert info.ticket_params is None
        assert info.capabilities is not None
        assert info.capabilities.bitstring == (0x8_0400_5FFF,)
        assert info.capabilities.version == "0.9.1"
        assert info.capabilities.models() == {
            MODEL: ModelConstraint(warm=True, capacity=3, runner_version="0.9.1")
        }
        assert info.auth_token is not None
        assert len(info.auth_token.session_id) == 8
        assert info.auth_token.expiration >= time.time() + TOKEN_LIFE - 60
        everything = await one.ask()
        assert [item.model_id for item in everything.hardware] == [MODEL]


@pytest.mark.parametrize("transport", ["tls", "h2c"])
async def test_a_stock_gateways_recorded_call_is_answered(tmp_path: Path, transport: str) -> None:
    stream = captured(f"get-orchestrator/stock-gateway-asks.{transport}.c2s.bin")
    before, after = _split(stream)
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.node.port)
        writer.write(before)
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        client.initiate_connection()
        client.send_headers(1, REQUEST_HEADERS, end_stream=True)
        data, headers, events = b"", dict[str, str](), list[h2.events.Event]()
        async with asyncio.timeout(5):
            while not any(isinstance(event, h2.events.StreamEnded) for event in events):
                events = client.receive_data(await reader.read(65536))
                for event in events:
                    if isinstance(event, h2.events.DataReceived):
                        data += event.data or b""
                    elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                        headers |= {str(name): str(value) for name, value in event.headers}
            # The rest of it is a window update, a ping and the goodbye.
            writer.write(after)
            await reader.read()
        writer.close()
        assert headers == {
            ":status": "200",
            "content-type": "application/grpc",
            "grpc-status": "0",
        }
        (message,) = MessageReader(1 << 20).feed(data)
        info = OrchestratorInfo.parse(message)
        assert info.capabilities is not None
        assert list(info.capabilities.models()) == ["ident"]
        assert info.transcoder == one.url


REQUEST_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/net.Orchestrator/GetOrchestrator"),
    (":authority", "x"),
]


def _split(stream: bytes) -> tuple[bytes, bytes]:
    """A recorded client's bytes, behind its DATA frame."""
    place = 24
    while True:
        length, kind = int.from_bytes(stream[place : place + 3], "big"), stream[place + 3]
        place += 9 + length
        if kind == 0:
            return stream[:place], stream[place:]


async def test_grpcio_gets_the_offer_over_tls(tmp_path: Path) -> None:
    async with (
        RunnerDouble().running() as runner,
        desk(tmp_path, sold(runner), tls=True) as one,
    ):
        assert one.url == f"https://127.0.0.1:{one.node.port}"

        def run() -> bytes:
            # The certificate is its own root, as the network's SDK uses it.
            credentials = grpc.ssl_channel_credentials((tmp_path / "cert.pem").read_bytes())
            with grpc.secure_channel(one.url.removeprefix("https://"), credentials) as channel:
                remote = channel.unary_unary("/net.Orchestrator/GetOrchestrator")
                request = captured(
                    "get-orchestrator/stock-orchestrator.like-python-sdk.request.bin"
                )
                answer: bytes = remote(request, timeout=5)
                return answer

        info = OrchestratorInfo.parse(await asyncio.to_thread(run))
        assert info.transcoder == one.url
        assert info.auth_token is not None


async def test_a_full_node_is_capped_unless_that_is_ignored(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        await one.start()
        with pytest.raises(PeerRefused) as caught:
            await one.ask(MODEL)
        assert caught.value.code == "orchestrator_capped"
        info = await one.ask(MODEL, ignore=True)
        assert info.capabilities is not None
        constraint = info.capabilities.models()[MODEL]
        assert (constraint.capacity, constraint.capacity_in_use) == (0, 1)
        assert (await one.ask("other")).auth_token is not None


async def test_a_model_is_told_of_only_while_a_runner_has_it(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:

        async def models() -> dict[str, ModelConstraint]:
            info = await one.ask()
            assert info.capabilities is not None
            assert info.capabilities.constraints is not None
            return dict(info.capabilities.models())

        runner.status = RunnerStatus.LOADING
        await one.until(lambda status: status["runners"][0]["state"] == "loading")
        assert await models() == {MODEL: ModelConstraint(runner_version="0.9.1")}
        runner.status = RunnerStatus.ERROR
        await one.until(lambda status: status["runners"][0]["state"] == "down")
        assert await models() == {}
        runner.status = RunnerStatus.IDLE
        await one.until_up()
        assert (await models())[MODEL].capacity == 1


async def test_ping_is_empty_and_a_session_ends_by_its_token(tmp_path: Path) -> None:
    async with desk(tmp_path, []) as one:
        assert await ping(one.url, b"hello", timeout=5) == b""
        with pytest.raises(PeerRefused, match="missing auth token"):
            await call(one.url, END_SESSION, b"", timeout=5)
        given = EndSessionRequest((await one.ask()).auth_token)
        assert await call(one.url, END_SESSION, given.serialise(), timeout=5) == b""
        with pytest.raises(PeerRefused, match="no"):
            await call(one.url, "/net.Orchestrator/GetOrchestrator", b"\xff\xff", timeout=5)


async def test_hardware_and_versions_are_asked_for_again_after_a_restart(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        await runner.close()
        await one.until(lambda status: status["runners"][0]["state"] == "down")
        looks = runner.looks
        await runner.open()
        await eventually(lambda: runner.looks > looks)
        await one.until_up()
