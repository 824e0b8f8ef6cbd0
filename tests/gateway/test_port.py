"""Floods of rubbish are counted and told of, a line a minute, with what to do."""

from __future__ import annotations

import asyncio
import os
import socket

import aiohttp
import pytest

from relay.config import WebRtc
from relay.gateway.port import FLOOD, SPELL, WORDS, Floods
from relay.protocols.webrtc import sources, stun
from relay.protocols.webrtc.peers import DROPPED
from tests.gateway.desk import Desk, gateway
from tests.gateway.seller import Seller
from tests.live import LOOPBACK, PURE
from tests.network import eventually

NOTHING = dict.fromkeys(DROPPED, 0)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "were dropped" in one.getMessage()]


def test_a_flood_has_one_line_a_minute_that_tells_how_many_came(
    caplog: pytest.LogCaptureFixture,
) -> None:
    floods, now, count = Floods(7280), 100.0, 0
    while now < 100.0 + 3 * SPELL:
        count += FLOOD // 2
        floods.look([(0, {**NOTHING, "checks": count})], now)
        now += 0.5
    told = lines(caplog)
    assert len(told) == 3
    assert told[0].startswith(f"{FLOOD} datagrams were dropped in 1 s that are of STUN")
    assert told[1].startswith(f"{FLOOD // 2 * 120} datagrams were dropped in 60 s")
    assert "udp port 7280" in told[0]


def test_a_few_at_any_time_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    floods, now, count = Floods(7280), 100.0, 0
    while now < 100.0 + 5 * SPELL:
        count += FLOOD // 130
        floods.look([(0, {**NOTHING, "unknown": count})], now)
        now += 0.5
    assert not lines(caplog)


def test_kinds_are_told_apart_and_processes_counted_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    floods = Floods(7280)
    first, second = object(), object()
    floods.look([(0, {**NOTHING, "dtls": FLOOD}), (first, {})], 100.0)
    floods.look([(0, {**NOTHING, "dtls": FLOOD}), (first, {"unknown": FLOOD - 1})], 101.0)
    assert len(lines(caplog)) == 1
    # The first one is lost; the next one under its number begins at nothing.
    floods.look([(0, {**NOTHING, "dtls": FLOOD}), (second, {"unknown": 1})], 102.0)
    assert [told.split(" that are ")[1].split(":")[0] for told in lines(caplog)] == [
        "of DTLS, more than a handshake takes",
        "of no peer",
    ]


async def counted(desk: Desk) -> dict[str, float]:
    async with aiohttp.ClientSession() as http, http.get(f"{desk.server.url}/metrics") as answer:
        text = await answer.text()
    start = 'relay_datagrams_dropped_total{kind="'
    found = [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]
    return {line.partition('"')[0]: float(line.rpartition(" ")[2]) for line in found}


@pytest.mark.parametrize("webrtc", [LOOPBACK, PURE], ids=["native", "pure"])
async def test_rubbish_of_each_kind_is_in_the_metrics_and_the_log(
    webrtc: WebRtc, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CHECKS_A_SECOND", 0)  # what is over it needs no hurry then
    async with Seller().running() as seller, gateway(seller, webrtc=webrtc) as desk:
        async with desk.filming():
            await desk.live_at(seller)
            udp, before = desk.node.peers.udp, await counted(desk)
            assert set(before) == set(DROPPED)
            name = next(iter(udp._by_ufrag)) + b":x"
            check = stun.build(
                stun.BINDING_REQUEST, os.urandom(12), [(stun.USERNAME, name)], b"key"
            )
            rubbish = [b"\x16" + os.urandom(60)] * FLOOD  # of DTLS, and of no peer
            rubbish += [check[:-1]] * 2  # shorter than it says
            rubbish += [check] * (FLOOD + sources.CHECKS_OF_A_NAME)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for number, data in enumerate(rubbish):
                    stranger.sendto(data, (udp.host, udp.port))
                    if number % 100 == 99:  # more than waits in a socket would be lost there
                        await asyncio.sleep(0.005)

            async def come() -> dict[str, float]:
                now = await counted(desk)
                return {kind: now[kind] - before[kind] for kind in DROPPED}

            async def all_come() -> bool:
                found = await come()
                return found["unknown"] >= FLOOD and found["checks"] >= FLOOD

            await eventually(all_come)
            assert (await come())["malformed"] == 2
        told = lines(caplog)
        assert [any(words in line for line in told) for words in WORDS.values()] == [
            True,
            False,
            True,
            False,
        ]
