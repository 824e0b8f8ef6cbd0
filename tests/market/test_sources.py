"""Lists from elsewhere: kept for a minute, used on while they fail."""

from __future__ import annotations

from relay.errors import PeerError, Unavailable
from relay.market.sources import KEPT, MAX_LISTED, Listed, Polled, Roll, merge

ONE = Roll((Listed("https://a"),))
TWO = Roll((Listed("https://b"), Listed("https://c")), skipped=3)


class Desk:
    def __init__(self, *answers: Roll | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def fetch(self) -> Roll:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_list_is_kept_for_a_minute() -> None:
    polled = Polled("hook", Desk(ONE, ONE, TWO).fetch)
    assert polled.wait(0.0) == 0.0
    assert await polled.poll(100.0)
    assert polled.roll == ONE
    assert polled.wait(100.0) == KEPT
    assert polled.wait(130.0) == KEPT - 30
    assert polled.wait(200.0) == 0.0
    assert not await polled.poll(160.0), "the same list is no change"
    assert await polled.poll(220.0)
    assert polled.roll == TWO


async def test_the_last_good_list_is_used_while_it_fails_and_it_is_soon_asked_again() -> None:
    failing = [PeerError("down")] * 8
    polled = Polled("hook", Desk(ONE, *failing, TWO).fetch)
    await polled.poll(0.0)
    waits = []
    for _ in failing:
        assert not await polled.poll(0.0)
        assert polled.roll == ONE
        assert polled.failure == "down"
        waits.append(polled.wait(0.0))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert await polled.poll(0.0)
    assert (polled.roll, polled.failure) == (TWO, "")
    assert polled.wait(0.0) == KEPT


async def test_not_yet_is_a_failure_like_others_and_the_list_is_empty() -> None:
    polled = Polled("signer", Desk(Unavailable("nothing is gathered yet")).fetch)
    assert not await polled.poll(0.0)
    assert polled.roll == Roll()
    assert polled.wait(0.0) == 1.0


def test_lists_are_one_list_in_their_order_and_each_address_once() -> None:
    merged = merge([["B", "a"], ["b", "c", "A"]], str.lower)
    assert merged == ["B", "a", "c"]


def test_the_one_list_has_a_bound() -> None:
    many = [f"https://h{n}" for n in range(MAX_LISTED)]
    assert merge([many, ["https://one-more"]], str) == many
