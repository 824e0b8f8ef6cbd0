"""Prices, exactly: a leap is seen, held against who made it, and accepted in the end."""

from __future__ import annotations

from fractions import Fraction

import pytest

from relay.market.price import HELD, Prices, leaps, parse_price

KEY = ("https://a", "m")


def test_twice_as_much_is_no_leap_and_the_least_bit_more_is() -> None:
    before = Fraction(1, 3)
    assert not leaps(before, Fraction(2, 3))
    assert leaps(before, Fraction(2, 3) + Fraction(1, 10**30))
    assert leaps(Fraction(0), Fraction(1, 10**30))
    assert not leaps(Fraction(0), Fraction(0))


def test_a_leap_is_told_once_and_goes_with_the_price() -> None:
    prices = Prices()
    assert not prices.note(KEY, Fraction(3), 0.0)
    assert not prices.note(KEY, Fraction(6), 10.0)
    assert prices.note(KEY, Fraction(7), 20.0)
    assert not prices.note(KEY, Fraction(8), 30.0)
    assert prices.leapt(KEY)
    assert not prices.leapt(("https://b", "m"))
    assert not prices.note(KEY, Fraction(5), 40.0)
    assert not prices.leapt(KEY)


def test_small_steps_do_not_hide_a_leap() -> None:
    prices, price = Prices(), Fraction(100)
    told = []
    for step in range(8):
        told.append(prices.note(KEY, price, 10.0 * step))
        price = price * 6 / 5
    assert told.count(True) == 1


def test_a_new_price_is_the_price_in_the_end() -> None:
    prices = Prices()
    prices.note(KEY, Fraction(1), 0.0)
    assert prices.note(KEY, Fraction(5), 10.0)
    assert not prices.note(KEY, Fraction(5), 9.0 + HELD)
    assert prices.leapt(KEY)
    prices.note(KEY, Fraction(5), 10.0 + HELD)
    assert not prices.leapt(KEY)
    assert not prices.note(KEY, Fraction(10), 20.0 + HELD)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.market.price.MAX_PRICES", 10)
    prices = Prices()
    for number in range(25):
        prices.note((str(number),), Fraction(1), 0.0)
    assert len(prices._held) == 10


@pytest.mark.parametrize(
    ("text", "price"),
    [("1200", Fraction(1200)), ("0.5", Fraction(1, 2)), ("3/7", Fraction(3, 7))],
)
def test_a_price_is_read_exactly(text: str, price: Fraction) -> None:
    assert parse_price(text) == price
