"""Ours passes the slow cases too: its timers are set short, and the cases are told."""

from __future__ import annotations

import pytest

from relay.config import WebRtc
from relay.conformance import (
    offering_slow,
    suites,
    trickle_abuse,
    trickle_closing,
    trickle_writing,
)
from relay.conformance.case import Outcome
from relay.conformance.endpoint import Side
from relay.protocols.trickle.channel import Limits
from tests.conformance.test_trickle import ended
from tests.gateway.desk import gateway
from tests.protocols.trickle.wire import serve

SLOW_TRICKLE = [case.name for case in suites.TRICKLE if case.slow]
SLOW_OFFERING = [case.name for case in suites.OFFERING if case.slow]
SHORT = WebRtc(host="127.0.0.1", port=0, connect_timeout=3.0, consent_timeout=2.0)
KEY = "publish-key"


async def trickle(limits: Limits, *names: str) -> dict[str, Outcome]:
    cases = suites.chosen(suites.TRICKLE, slow=True, abuse=True, only=names)
    async with serve(autocreate=True, limits=limits) as site:
        told = [r async for r in await suites.trickle(site.base, (), cases)]
    assert ended(told, Outcome.NOT_OFFERED) == {}
    return {r.name: r.outcome for r in told}


def test_these_are_the_slow_ones() -> None:
    assert set(SLOW_TRICKLE) == {
        "idle-sweep",
        "keepalive-while-idle",
        "waits-for-ever",
        "stalled-writer",
    }
    assert set(SLOW_OFFERING) == {"consent-expires", "never-connects"}


async def test_a_quick_trickle_server_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trickle_closing, "IDLE", 1.5)
    monkeypatch.setattr(trickle_writing, "WAITS", 1.5)
    swept = await trickle(Limits(idle=2.0, sweep=0.1), "idle-sweep")
    others = [name for name in SLOW_TRICKLE if name != "idle-sweep"]
    quick = Limits(keepalive=0.3, stall=0.5, abandoned=0.3, sweep=0.1)
    assert set((swept | await trickle(quick, *others)).values()) == {Outcome.PASSED}


async def test_a_trickle_server_that_is_slower_than_told_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trickle_closing, "IDLE", 0.3)
    monkeypatch.setattr(trickle_closing, "SWEEP", 0.1)
    monkeypatch.setattr(trickle_writing, "KEEPALIVE", 0.5)
    monkeypatch.setattr(trickle_abuse, "STALLED", 0.5)
    told = await trickle(Limits(), "idle-sweep", "keepalive-while-idle", "stalled-writer")
    assert set(told.values()) == {Outcome.FAILED}


async def test_a_trickle_server_that_lets_nobody_wait_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trickle_writing, "WAITS", 3.0)
    told = await trickle(Limits(idle=0.5, sweep=0.1), "waits-for-ever")
    assert set(told.values()) == {Outcome.FAILED}


async def offering(side: Side) -> dict[str, Outcome]:
    cases = suites.chosen(suites.OFFERING, slow=True, abuse=False, only=SLOW_OFFERING)
    async with gateway(publish_key=KEY, webrtc=SHORT) as desk:
        url = desk.whip if side is Side.WHIP else desk.whep
        told = [r async for r in await suites.offering(side, url, KEY, cases)]
    return {r.name: r.outcome for r in told}


@pytest.mark.parametrize("side", Side)
async def test_a_quick_gateway_passes(side: Side) -> None:
    assert set((await offering(side)).values()) == {Outcome.PASSED}


async def test_a_gateway_that_is_slower_than_told_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offering_slow, "CONSENT", 0.5)
    monkeypatch.setattr(offering_slow, "SET_UP", 0.5)
    assert set((await offering(Side.WHIP)).values()) == {Outcome.FAILED}
