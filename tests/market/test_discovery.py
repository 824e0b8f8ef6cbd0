"""One question to many: who answers in time is heard, who does not holds nobody up."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.errors import PeerError
from relay.market.discovery import Discovery


async def ask(url: str) -> str:
    match url.split("-")[0]:
        case "good":
            return url
        case "slow":
            await asyncio.sleep(0.02)
            return url
        case "refuses":
            raise PeerError(f"{url} said no")
        case _:
            await asyncio.sleep(30)
            return url


async def test_all_good_answers_in_the_order_of_the_list() -> None:
    discovery = Discovery(["slow-1", "good-2", "refuses-3"], ask)
    answers = await discovery.find()
    assert [(answer.url, answer.rank) for answer in answers] == [("slow-1", 0), ("good-2", 1)]
    assert {url: str(error) for url, error in discovery.failures.items()} == {
        "refuses-3": "refuses-3 said no"
    }


async def test_the_dead_do_not_hold_up_the_living() -> None:
    urls = [f"dead-{n}" for n in range(100)] + ["good-1"]
    discovery = Discovery(urls, ask, timeout=20)
    began = time.monotonic()
    answers = await discovery.find(lambda node: True)
    assert [answer.node for answer in answers] == ["good-1"]
    assert time.monotonic() - began < 10


async def test_nobody_answers() -> None:
    discovery = Discovery(["dead-1", "refuses-1"], ask, timeout=0.05)
    assert await discovery.find(lambda node: True) == []
    assert set(discovery.failures) == {"dead-1", "refuses-1"}


async def test_an_empty_list_and_a_doubled_address() -> None:
    assert await Discovery[str]([], ask).find() == []
    assert len(await Discovery(["good-1", "good-1"], ask).find()) == 1


async def test_a_fault_of_our_own_is_not_swallowed() -> None:
    async def broken(url: str) -> str:
        raise ZeroDivisionError(url)

    with pytest.raises(ZeroDivisionError):
        await Discovery(["a"], broken).find()


async def test_cancelling_it_ends_every_question() -> None:
    finding = asyncio.create_task(Discovery(["dead-1", "dead-2"], ask).find())
    await asyncio.sleep(0.01)
    before = len(asyncio.all_tasks())
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) < before
