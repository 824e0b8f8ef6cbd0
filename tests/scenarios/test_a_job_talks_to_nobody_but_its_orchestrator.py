"""A job stays with the node that it was posted to: not with one that stands between, and
not with whatever an orchestrator would have us call. Then it goes to another one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.rpc.certificate import self_signed, server_context
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller

PATIENT = {"start_timeout": 60.0, "output_timeout": 60.0}
"""Seconds. However slow the machine is, an orchestrator is left only for what it shows."""


def certificate(folder: Path, name: str) -> Path:
    path = folder / f"{name}.pem"
    path.write_bytes(b"".join(self_signed("127.0.0.1", datetime.now(UTC))))
    return path


def over_tls(folder: Path) -> Seller:
    seller = Seller()
    path = certificate(folder, "first")
    seller.tls = server_context(path, path)
    return seller


async def test_a_job_runs_over_tls_with_the_certificate_seen_first(tmp_path: Path) -> None:
    async with over_tls(tmp_path).running() as seller, gateway(seller) as desk:
        async with desk.filming(), desk.watching() as viewer:
            await desk.live_at(seller)
            await viewer.sees(5)
            seller.cut()
            await viewer.sees(20)
        assert "untrusted" not in desk.codes


async def test_another_certificate_in_mid_job_fails_it(tmp_path: Path) -> None:
    async with (
        over_tls(tmp_path).running() as seller,
        Seller().running() as good,
        gateway(seller, good, **PATIENT) as desk,
    ):
        async with desk.filming(), desk.watching() as viewer:
            await desk.live_at(seller)
            await viewer.sees(5)
            assert seller.tls is not None
            other = certificate(tmp_path, "second")
            seller.tls.load_cert_chain(other, other)
            seller.cut()
            await desk.live_at(good)
            await viewer.sees(10)
        assert "untrusted" in desk.codes
        assert len(seller.jobs) == 1


async def test_a_restarted_orchestrator_is_bought_from_again(tmp_path: Path) -> None:
    async with over_tls(tmp_path).running() as seller, gateway(seller) as desk:
        async with desk.filming():
            await desk.live_at(seller)
        other = certificate(tmp_path, "second")
        assert seller.tls is not None
        seller.tls.load_cert_chain(other, other)
        seller.cut()
        async with desk.filming():
            await desk.live_at(seller)


@pytest.mark.parametrize(
    ("reach", "names"),
    [
        ("auto", "http://169.254.169.254"),
        ("auto", "http://0.0.0.0:9"),
        ("auto", "http://2852039166"),
        ("same-host", "http://10.0.0.1:9"),
    ],
)
async def test_channels_elsewhere_than_an_orchestrator_may_send_us(reach: str, names: str) -> None:
    async with (
        Seller().running() as bad,
        Seller().running() as good,
        gateway(bad, good, reach=reach, **PATIENT) as desk,
    ):
        bad.names = names
        async with desk.filming(), desk.watching() as viewer:
            await desk.live_at(good)
            await viewer.sees(5)
            assert desk.stream.swaps == 0
        assert len(bad.posts) == 1
