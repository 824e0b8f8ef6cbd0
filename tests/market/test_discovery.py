"""One question to many: who answers in time is heard, who does not holds nobody up."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.errors import PeerError
from relay.market import discovery as discovery_module
from relay.market.discovery import AT_ONCE, Answer, Discovery


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


async def test_no_more_than_so_many_are_asked_at_the_same_time() -> None:
    open_now, most = 0, 0

    async def count(url: str) -> str:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.001)
        open_now -= 1
        return url

    answers = await Discovery([str(n) for n in range(1000)], count).find()
    assert len(answers) == 1000
    assert most == AT_ONCE
    gate = asyncio.Semaphore(7)
    most = 0
    lists = [[f"{side}{n}" for n in range(50)] for side in "ab"]
    await asyncio.gather(*(Discovery(urls, count, gate=gate).find() for urls in lists))
    assert most == 7


async def test_a_slow_one_is_asked_again_when_others_had_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery_module, "HURRY", 0.02)
    monkeypatch.setattr(discovery_module, "AT_ONCE", 2)
    asked: list[str] = []

    async def slow(url: str) -> str:
        asked.append(url)
        await asyncio.sleep(30 if url == "dead" else 0.1)
        return url

    discovery = Discovery(["dead", "a", "b"], slow, timeout=0.3)
    assert [answer.url for answer in await discovery.find()] == ["a", "b"]
    assert set(discovery.failures) == {"dead"}
    assert asked.count("dead") == 2
    assert max(asked.count("a"), asked.count("b")) == 2, "never more than twice"


async def test_an_answer_leads_to_others_one_level_deep() -> None:
    def more(answer: Answer[str]) -> list[str]:
        return [f"good-{answer.url}-{n}" for n in range(2)]

    answers = await Discovery(["good-a", "refuses-b", "good-c"], ask, more=more).find()
    assert [(answer.rank, answer.url) for answer in answers][:2] == [(0, "good-a"), (2, "good-c")]
    assert sorted(answer.url for answer in answers if answer.rank == 3) == [
        "good-good-a-0",
        "good-good-a-1",
        "good-good-c-0",
        "good-good-c-1",
    ]


async def test_what_answers_lead_to_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_module, "MAX_ASKED", 5)

    def more(answer: Answer[str]) -> list[str]:
        return [f"good-{answer.url}-{n}" for n in range(1000)]

    assert len(await Discovery(["good-a", "good-b"], ask, more=more).find()) == 5


async def test_it_returns_at_its_limit_with_what_there_is() -> None:
    heard: list[str] = []
    discovery = Discovery(["dead-1", "good-1"], ask, timeout=20)
    answers = await discovery.find(heard=lambda answer: heard.append(answer.url), limit=0.05)
    assert [answer.url for answer in answers] == heard == ["good-1"]


async def test_only_those_in_the_order_are_asked_and_their_places_are_the_lists() -> None:
    discovery = Discovery(["good-1", "good-2", "slow-3"], ask, order=["slow-3", "good-2"])
    answers = await discovery.find()
    assert [(answer.rank, answer.url) for answer in answers] == [(1, "good-2"), (2, "slow-3")]
