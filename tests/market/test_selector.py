"""Which offer is taken first, and the words for it."""

from __future__ import annotations

from relay.market.offer import Offer
from relay.market.selector import FORGIVEN_AFTER, Suspensions, rank


def offer(name: str, *, rank: int = 0, price: int = 0, pixels: int = 1, warm: bool = True) -> Offer:
    url = f"https://{name}:8935"
    return Offer(url, url, "effects", "1.0.0", warm, price, pixels, 0.01, rank)


def order(*offers: Offer, suspensions: Suspensions | None = None, now: float = 0.0) -> list[str]:
    ranked = rank(offers, suspensions or Suspensions(), now)
    return [choice.offer.url.removeprefix("https://").split(":")[0] for choice in ranked]


def test_the_operators_order_counts_when_all_else_is_equal() -> None:
    assert order(offer("b", rank=1), offer("a", rank=0)) == ["a", "b"]


def test_the_cheaper_comes_first_exactly() -> None:
    dear = offer("dear", rank=0, price=1, pixels=3)
    cheap = offer("cheap", rank=1, price=333_333_333_333_333, pixels=1_000_000_000_000_000)
    assert order(dear, cheap) == ["cheap", "dear"]


def test_a_loaded_model_comes_before_a_cheaper_cold_one() -> None:
    assert order(offer("cold", warm=False), offer("warm", rank=1, price=9)) == ["warm", "cold"]


def test_one_that_failed_comes_last_and_is_taken_when_nothing_else_is_left() -> None:
    suspensions = Suspensions()
    suspensions.fail("https://a:8935", 0.0)
    assert order(offer("a"), offer("b", rank=1), suspensions=suspensions, now=1.0) == ["b", "a"]
    assert order(offer("a"), suspensions=suspensions, now=1.0) == ["a"]
    assert order(offer("a"), offer("b", rank=1), suspensions=suspensions, now=6.0) == ["a", "b"]


def test_each_lapse_doubles_the_suspension_up_to_a_minute_and_is_forgiven() -> None:
    suspensions = Suspensions()
    waits = []
    for _ in range(6):
        suspensions.fail("x", 100.0)
        waits.append(suspensions.suspended_until("x", 100.0) - 100.0)
    assert waits == [5, 10, 20, 40, 60, 60]
    suspensions.fail("x", 100.0 + FORGIVEN_AFTER)
    assert suspensions.suspended_until("x", 100.0 + FORGIVEN_AFTER) == 105.0 + FORGIVEN_AFTER


def test_it_says_why() -> None:
    suspensions = Suspensions()
    suspensions.fail("https://bad:8935", 0.0)

    def why(*offers: Offer) -> list[str]:
        return [choice.why for choice in rank(offers, suspensions, 1.0)]

    assert why(offer("a")) == ["the only one that offers the model"]
    assert why(offer("a"), offer("b", rank=1))[0] == "first of 2 alike in the operator's list"
    assert why(offer("a", price=1), offer("b", price=2))[0] == "the cheapest"
    assert why(offer("a"), offer("b", warm=False))[0] == "the only one with the model loaded"
    assert why(offer("bad"), offer("b", rank=1)) == [
        "the only one that did not fail lately",
        "failed lately; taken because nothing better is left",
    ]


def test_what_is_remembered_is_bounded() -> None:
    suspensions = Suspensions()
    for index in range(10_100):
        suspensions.fail(f"https://{index}", float(index) / 1000)
    assert len(suspensions._lapses) == 10_000


def test_silence_doubles_to_its_bound_and_success_halves_what_counts() -> None:
    silent = Suspensions(first=1, longest=300, forgiven_after=1200, one_at_a_time=True)
    now, waits = 0.0, []
    for _ in range(11):
        silent.fail("x", now)
        silent.fail("x", now)  # somebody else found out at the same time
        waits.append(silent.suspended_until("x", now) - now)
        now = silent.suspended_until("x", now)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    silent.succeed("x")
    assert not silent.suspended_until("x", now)
    silent.fail("x", now)
    assert silent.suspended_until("x", now) - now == 32, "half of eleven lapses, and one more"
    for _ in range(5):
        silent.succeed("x")
    assert not silent._lapses
    silent.succeed("never failed")
    assert silent.last("never failed") < 0


def test_one_that_was_full_comes_after_the_others_and_before_one_that_failed() -> None:
    suspensions = Suspensions()
    suspensions.fail("https://bad:8935", 0.0)
    offers = [offer("full"), offer("bad", rank=1), offer("dear", rank=2, price=9, warm=False)]
    burdens = {"https://full:8935": "was full a moment ago"}
    ranked = rank(offers, suspensions, 1.0, burdens)
    assert [choice.offer.url for choice in ranked] == [
        "https://dear:8935",
        "https://full:8935",
        "https://bad:8935",
    ]
    assert [choice.why for choice in ranked] == [
        "the only one that nothing speaks against",
        "was full a moment ago; taken because nothing better is left",
        "failed lately; taken because nothing better is left",
    ]


def test_a_thousand_offers_are_ranked_in_no_time() -> None:
    offers = [offer(f"o{number}", rank=number, price=number % 7) for number in range(2000)]
    ranked = rank(offers, Suspensions(), 0.0)
    assert [choice.offer.rank for choice in ranked][:3] == [0, 7, 14]
    assert ranked[0].why == "first of 2000 alike in the operator's list"
