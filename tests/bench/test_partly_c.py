"""Benches that are partly C come to an answer; what they measure in so short a time is nothing."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from bench import fanout, receive, servers
from bench.crowd import built
from bench.servers import Server
from bench.source import endless
from tests.bench.short import SECONDS, make_clip

SHORT = 0.2


def apart(module: str, *words: str) -> AbstractAsyncContextManager[Server]:
    return servers.apart("tests.bench.short", module, *words)


async def test_what_a_publisher_costs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "endless", partial(endless, seconds=SECONDS))
    monkeypatch.setattr(receive, "SETTLED", 0.0)
    monkeypatch.setattr(receive, "DELIVERED", 0.0)
    library, row = receive.build(tmp_path), receive.Row(1, numbered=True)
    assert library is not None
    await receive.receive(library, make_clip(), row, 3 * SHORT)
    row.alone = row.loop  # aiortc is no part of it: that takes seconds to settle
    assert {"us_a_packet", "c_loop_us", "over_c_loop", "cpu_a_publisher"} <= set(row.told())


async def test_what_viewers_cost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "apart", apart)
    monkeypatch.setattr(fanout, "PAUSE", 0.0)
    form = fanout.Form(SHORT, 1, feedback=True, bare=True, sound=True)
    rows = await fanout.ours(built.build(tmp_path), 2, form, python=False)
    assert [row.told()["what"] for row in rows] == ["native", "limit", "bare"]
