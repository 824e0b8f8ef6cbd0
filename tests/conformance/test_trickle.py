"""Our trickle server passes every case, the abuse too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.conformance import suites
from relay.conformance.case import Outcome, Result, Unusable
from relay.protocols.trickle.channel import Limits
from tests.protocols.trickle.wire import serve

# What the cases wait for comes sooner, and what they fill is smaller.
QUICK = Limits(
    segment_bytes=16 << 20, total_bytes=256 << 20, channels=300, abandoned=0.3, sweep=0.1
)


async def results(
    url: str, given: Sequence[str] = (), *, abuse: bool = False, only: Sequence[str] = ()
) -> list[Result]:
    cases = suites.chosen(suites.TRICKLE, slow=False, abuse=abuse, only=only)
    return [result async for result in await suites.trickle(url, given, cases)]


def ended(all_of_them: list[Result], outcome: Outcome) -> dict[str, str]:
    return {
        r.name: f"seen {r.seen}, expected {r.expected}" for r in all_of_them if r.outcome is outcome
    }


async def test_ours_passes_all() -> None:
    async with serve(autocreate=True, limits=QUICK) as site:
        told = await results(site.base, abuse=True)
    assert ended(told, Outcome.FAILED) == {}
    # With channels made by POST, a POST to a segment makes one too.
    assert set(ended(told, Outcome.NOT_OFFERED)) == {"no-channel-post", "post-after-the-close"}
    assert len(told) >= 95


async def test_ours_passes_all_on_a_channel_that_is_there() -> None:
    async with serve(limits=QUICK) as site:
        site.server.create("given", "video/MP2T")
        told = await results(site.base, [f"{site.base}given"])
    assert ended(told, Outcome.FAILED) == {}
    passed = ended(told, Outcome.PASSED)
    assert "no-channel-post" in passed
    assert len(passed) >= 50
    assert set(ended(told, Outcome.NOT_OFFERED).values()) == {
        "seen the server makes no channels, expected "
    }


async def test_a_server_without_channels_is_unusable() -> None:
    async with serve() as site:
        with pytest.raises(Unusable, match="--channel"):
            await results(site.base)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "http://", "nonsense", "http://h:x/"]
)
async def test_no_server_is_unusable(url: str) -> None:
    with pytest.raises(Unusable):
        await results(url)


async def test_a_channel_elsewhere_is_unusable() -> None:
    async with serve() as site:
        with pytest.raises(Unusable, match="not on the server"):
            await results(site.base, ["http://127.0.0.1:1/t/given"])


def test_names_are_stable_words_and_used_once() -> None:
    names = [case.name for case in suites.TRICKLE]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and name.islower() for name in names)
    assert all(case.says.endswith(".") and len(case.says) < 90 for case in suites.TRICKLE)
    assert sum(not case.abuse for case in suites.TRICKLE) >= 60
