"""Orchestrators that look healthy and are not what they say, each beside a good one: the
stream goes on there, and nothing that they say costs more than a try.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay.gateway import compare, dispatcher
from relay.media.mpegts import Muxer
from relay.media.psi import PMT_PID, VIDEO_PID
from relay.rpc.certificate import self_signed, server_context
from relay.rpc.ticket_params import ExpirationParams, TicketParams
from tests.gateway.desk import gateway
from tests.gateway.seller import MODEL, Job, Seller, answering, stops_after
from tests.media.transport import pmt, table_packet
from tests.network import eventually
from tests.rpc.peers import http_peer

HEVC = 0x24
METADATA = "169.254.169.254"


async def late(job: Job) -> None:
    """Everything comes back, a second after it was sent."""
    loop = asyncio.get_running_loop()
    async for unit in job.pictures():
        loop.call_later(1.0, job.show, unit)


async def test_output_that_is_too_old_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "LATE", 0.7)
    monkeypatch.setattr(dispatcher, "LATE_FOR", 0.5)
    async with (
        Seller(late).running() as old,
        Seller().running() as good,
        gateway(old, good, start_timeout=5, output_timeout=5) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(old)
        await desk.live_at(good)
        assert desk.codes == ["output_late"]
        await viewer.sees(20, after=time.monotonic())
        assert desk.stream.swaps == 1


async def test_output_that_is_a_second_old_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "LATE_FOR", 0.2)
    async with (
        Seller(late).running() as slow,
        Seller().running() as good,
        gateway(slow, good, start_timeout=5, output_timeout=5) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(slow)
        await viewer.sees(45, after=time.monotonic())
        assert desk.stream.swaps == 0


async def heart_without_work(job: Job) -> None:
    """Its events say that all is well; its pictures have stopped."""

    async def beat() -> None:
        while True:
            await job.says_status()
            await asyncio.sleep(0.1)

    beating = asyncio.create_task(beat())
    try:
        await stops_after(20)(job)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def test_a_heart_that_beats_while_the_work_is_dead() -> None:
    async with (
        Seller(heart_without_work).running() as dead,
        Seller().running() as good,
        gateway(dead, good) as desk,
        desk.filming(),
    ):
        await desk.live_at(good)
        assert desk.codes == ["no_output"]


async def another_codec(job: Job) -> None:
    """H.265, by what the transport stream says of itself."""
    muxer = Muxer(audio=False)
    writer = job.output.begin()
    tables = muxer.tables()
    writer.write(tables[: len(tables) // 2] + table_packet(PMT_PID, pmt((HEVC, VIDEO_PID, b""))))
    async for unit in job.pictures():
        writer.write(muxer.write(unit))


async def test_pictures_in_another_codec_are_none() -> None:
    async with (
        Seller(another_codec).running() as odd,
        Seller().running() as good,
        gateway(odd, good) as desk,
        desk.filming(),
    ):
        await desk.live_at(good)
        assert desk.codes == ["no_first_picture"]


@pytest.mark.parametrize(
    ("status", "text"),
    [(500, "model not loaded"), (404, "no such pipeline"), (400, "unknown model"), (200, "{}")],
)
async def test_a_capability_that_is_not_there(status: int, text: str) -> None:
    async with (
        Seller().running() as liar,
        Seller().running() as good,
        gateway(liar, good) as desk,
    ):
        liar.refuse = answering(status, text, "application/json")
        async with desk.filming():
            await desk.live_at(good)
            assert len(liar.posts) == 1
            assert desk.stream.swaps == 0


async def test_ten_thousand_capabilities_hold_up_nobody() -> None:
    many = tuple(f"model-{number}" for number in range(10_000))
    async with (
        Seller(models=(*many, MODEL)).running() as wide,
        Seller().running() as good,
        gateway(good, wide) as desk,
        desk.filming(),
        desk.watching() as viewer,
    ):
        await desk.live_at(good)
        await desk.node.sellers.refresh()
        asked = wide.asked
        await good.jobs[0].close()
        await desk.live_at(wide)
        assert wide.asked > asked, "it is bought from as any other"
        await viewer.sees(10, after=time.monotonic())


async def test_a_ticket_that_is_over_before_it_begins() -> None:
    """Off-chain nobody is paid by ticket: what stands in it stops no job."""
    ticket = TicketParams(b"\0" * 20, b"", b"", b"\0" * 32, b"", b"", ExpirationParams(0, b""))
    async with Seller().running() as seller:
        seller.ticket = ticket
        async with gateway(seller) as desk, desk.filming():
            await desk.live_at(seller)


@pytest.mark.parametrize("wrong", ["expired", "another host", "of another"])
async def test_a_certificate_that_is_not_its_own(tmp_path: Path, wrong: str) -> None:
    """With ``node_tls: ca``; what the default makes of it is in another scenario."""

    def made(name: str, host: str = "127.0.0.1", age: timedelta = timedelta()) -> Path:
        path = tmp_path / f"{name}.pem"
        path.write_bytes(b"".join(self_signed(host, datetime.now(UTC) - age)))
        return path

    shown = {
        "expired": lambda: made("bad", age=timedelta(days=400)),
        "another host": lambda: made("bad", host="elsewhere.example"),
        "of another": lambda: made("bad"),
    }[wrong]()
    right = made("right")
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(right.read_bytes() + (b"" if wrong == "of another" else shown.read_bytes()))
    bad, good = Seller(), Seller()
    bad.tls, good.tls = server_context(shown, shown), server_context(right, right)
    async with (
        bad.running(),
        good.running(),
        gateway(bad, good, node_tls="ca", node_ca=trusted) as desk,
        desk.filming(),
    ):
        await desk.live_at(good)
        assert (bad.asked, bad.posts) == (0, [])


async def test_a_redirect_of_a_trickle_request_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, reached = asyncio.get_running_loop(), []
    connect = loop.sock_connect

    async def note(sock: Any, address: Any) -> None:
        reached.append(address[0])
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", note)

    async def away(request: web.Request) -> web.StreamResponse:
        asked.append(request.method)
        raise web.HTTPTemporaryRedirect(f"http://{METADATA}/latest/meta-data/")

    asked: list[str] = []
    async with (
        http_peer({"* /{any:.*}": away}) as elsewhere,
        Seller().running() as bad,
        Seller().running() as good,
        gateway(bad, good) as desk,
    ):
        bad.names = elsewhere
        async with desk.filming():
            await desk.live_at(good)
            assert {"GET", "POST"} <= set(asked)
            assert "127.0.0.1" in reached
            assert METADATA not in reached


async def test_a_worker_that_is_out_of_memory_says_so_and_is_left() -> None:
    async def out_of_memory(job: Job) -> None:
        async for unit in job.pictures():
            if len(job.units) > 10:
                await job.say(b'{"type": "error", "message": "CUDA out of memory"}')
                break
            job.show(unit)
        await asyncio.Event().wait()

    async with (
        Seller(out_of_memory).running() as full,
        Seller().running() as good,
        gateway(full, good, output_timeout=1.5) as desk,
        desk.filming(),
    ):
        await eventually(lambda: desk.stream.runner_error == "CUDA out of memory")
        await desk.live_at(good)
        assert desk.codes == ["no_output"]
        assert desk.stream.runner_error is None
