"""Our gateway's WHIP and WHEP pass every case, the abuse too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.conformance import offering_media, suites
from relay.conformance.case import Outcome, Result, Unusable
from relay.conformance.endpoint import Side, bench
from relay.conformance.joined import joined
from relay.protocols.webrtc.client import WhepClient
from tests.conformance.test_trickle import ended
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller

KEY = "publish-key"


async def results(
    side: Side, url: str, token: str | None = None, *, abuse: bool = True, only: Sequence[str] = ()
) -> list[Result]:
    cases = suites.chosen(suites.OFFERING, slow=False, abuse=abuse, only=only)
    return [result async for result in await suites.offering(side, url, token, cases)]


async def test_ours_takes_publishers() -> None:
    async with gateway(publish_key=KEY) as desk:
        told = await results(Side.WHIP, desk.whip, KEY)
    assert ended(told, Outcome.FAILED) == {}
    assert set(ended(told, Outcome.NOT_OFFERED)) == {
        *("no-redirect-by-301", "ice-servers", "restart-refused", "ice-tcp"),
        *("play", "one-stream", "one-of-many"),
    }


async def test_an_open_gateway_that_asks_to_wait_is_waited_for() -> None:
    busy = ["unguessable", "h264-profiles", "restart", "after-a-restart", "restart-if-match"]
    async with gateway() as desk:
        told = await results(Side.WHIP, desk.whip, abuse=False, only=[*busy, "half-a-restart"])
    assert ended(told, Outcome.FAILED) == {}
    assert len(ended(told, Outcome.PASSED)) == 6


async def test_ours_serves_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offering_media, "VIEWERS", 20)
    async with Seller().running() as one, gateway(one) as desk, desk.filming(audio=True):
        await desk.live_at(one)
        told = await results(Side.WHEP, desk.whep)
    assert ended(told, Outcome.FAILED) == {}
    passed = ended(told, Outcome.PASSED)
    assert {"play", "one-of-many", "restart-in-mid-stream", "media-stays"} <= set(passed)
    assert len(passed) >= 105


async def test_where_nothing_is_published_one_case_waits_for_media_and_no_other() -> None:
    media = ["play", "restart-in-mid-stream", "restart-that-fails", "media-stays", "one-of-many"]
    async with gateway() as desk:
        told = await results(Side.WHEP, desk.whep, only=media)
    assert [result.name for result in told] == media
    waited, *others = [result.seen for result in told]
    assert waited == "nothing is published there: no media in 6 s"
    assert set(others) == {"nothing is published there, as an earlier case saw"}


async def test_a_viewer_that_only_counts_media_stays_and_sees_on() -> None:
    """A hundred that decode it all would be more than one process bears."""
    async with Seller().running() as one, gateway(one) as desk, desk.filming():
        await desk.live_at(one)
        ssl = suites.context(insecure=False)
        async with bench(Side.WHEP, desk.whep, None, ssl) as e, joined(e) as viewer:
            assert isinstance(viewer.client, WhepClient)
            viewer.only_counts = True
            before = viewer.client.statistics().packets
            assert await viewer.flows(60)
            assert viewer.client.statistics().packets == before
            await viewer.session.lives()


async def test_a_key_that_is_not_given_is_said() -> None:
    async with gateway(publish_key=KEY) as desk:
        with pytest.raises(Unusable, match="--token"):
            await results(Side.WHIP, desk.whip)


async def test_no_endpoint_is_unusable() -> None:
    async with gateway() as desk:
        with pytest.raises(Unusable, match="no such endpoint"):
            await results(Side.WHIP, f"{desk.server.url}/nothing/here")
    with pytest.raises(Unusable):
        await results(Side.WHIP, "http://127.0.0.1:1/whip/x")
