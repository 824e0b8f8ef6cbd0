"""``relay watch``: a crowd of viewers from one command, and what it tells of them."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from relay.cli import crowd, persistence, watch
from relay.cli.lookout import check_kind
from relay.cli.viewer import Viewer
from relay.cli.watch import Request, parts
from relay.cli.watched import (
    NOTHING,
    STILL,
    Glance,
    Seen,
    Told,
    glance,
    in_figures,
    merged,
    summed,
    table,
)
from relay.errors import ConfigError, PeerError
from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.client import WhepClient
from tests.gateway.desk import gateway
from tests.gateway.seller import Seller
from tests.live import publishing
from tests.network import ROOT, Network, eventually, ran

NAME = "cam"


async def test_a_crowd_is_counted_from_one_command(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = network.whep(NAME)
    async with publishing(network.whip(NAME), model="echo"):
        code, out, errors = await ran("watch", url, "--viewers", "5", "--seconds", "2", "--json")
        assert (code, errors) == (0, "")
        told = json.loads(out)
        assert [told[key] for key in ("viewers", "connected", "with_picture", "ended")] == (
            [5, 5, 5, 0]
        )
        assert told["pictures_per_second"] > 5
        assert told["bytes"] > 0
        assert 0 < told["connect_ms"]["p50"] <= told["first_picture_ms"]["max"]
        assert told["why"] == ""
        await _ended_by_ctrl_c(url)
        monkeypatch.setattr(watch, "parts", lambda *_: [2, 1])
        shared = await watch._watch(Request(url, viewers=3, seconds=1, as_json=True))
        assert (shared.joined, len(shared.first), len(shared.cpu)) == (3, 3, 2)
        assert shared.why == ""
        assert shared.rate > 3
    code, out, errors = await ran("watch", network.whep("typo"), "--seconds", "3")
    assert code == 1
    assert "1 of 1 connected" in out
    assert "error: 1 saw no picture; the stream is waiting" in errors
    told_at = errors.index("typo is waiting: nobody publishes it")
    assert told_at < errors.index("\n3 s: ")  # at once, not in the end


@pytest.mark.parametrize("shares", [[2], [1, 1]])
async def test_it_ends_at_once_where_nobody_can_join(
    monkeypatch: pytest.MonkeyPatch, shares: list[int]
) -> None:
    monkeypatch.setattr(watch, "parts", lambda *_: shares)
    async with gateway() as desk:
        closed = desk.server.url
        request = Request(f"{desk.server.url}/nothing", viewers=2, seconds=600, as_json=True)
        with pytest.raises(PeerError, match="nobody could join: 404: "):
            await asyncio.wait_for(watch._watch(request), 60)
    request = replace(request, url=f"{closed}/whep/cam")
    with pytest.raises(PeerError, match=f"nobody could join: {closed} does not answer: conn"):
        await asyncio.wait_for(watch._watch(request), 60)


@pytest.mark.parametrize("place", ["", "/", "/cam"])
async def test_a_base_address_is_told_with_the_form_of_a_streams(place: str) -> None:
    async with gateway() as desk:
        base = desk.server.url
        with pytest.raises(PeerError) as told:
            await watch._watch(Request(f"{base}{place}", as_json=True))
        assert re.match("nobody could join: 40[45]: ", str(told.value))
        form = f"(the WHEP address of a gateway's stream is {base}/whep/NAME)"
        assert str(told.value).endswith(form)


async def test_it_ends_when_nobody_is_left() -> None:
    async with gateway() as desk, desk.filming():
        request = Request(desk.whep, viewers=2, seconds=600, as_json=True)
        watching = asyncio.create_task(watch._watch(request))

        async def connected() -> bool:
            viewers = await desk.node.viewers(NAME, limit=2, after="")
            return [viewer.connected_for is not None for viewer in viewers] == [True, True]

        # Who is still half-way in could not be told.
        await eventually(connected)
        await desk.node.stop_stream(NAME)
        told = await asyncio.wait_for(watching, 30)
        assert told.reasons == {"the stream was stopped": 2}
        assert "2 were ended before they left" in told.why


async def test_why_viewers_were_ended_is_told_in_the_gateways_words() -> None:
    async with gateway() as desk, desk.filming():
        asked, joined = asyncio.Event(), asyncio.Event()

        async def begin() -> None:
            joined.set()

        url = f"{desk.server.url}/whep/{NAME}"
        request = Request(url, viewers=3, seconds=20, as_json=True)
        watching = asyncio.create_task(
            crowd.watch(request, True, asked=asked, begin=begin, progress=lambda _: None)
        )
        await asyncio.wait_for(joined.wait(), 20)
        await desk.node.stop_stream(NAME)
        await asyncio.sleep(0.2)
        asked.set()
        told = await asyncio.wait_for(watching, 20)
        assert told.reasons == {"the stream was stopped": 3}


async def test_that_nothing_comes_is_told_before_the_next_second() -> None:
    asked, glances = asyncio.Event(), list[Glance]()
    async with (
        Seller().running() as seller,
        gateway(seller) as desk,
        desk.filming() as camera,
    ):
        request = Request(desk.whep, viewers=2, seconds=600)
        watching = asyncio.create_task(
            crowd.watch(request, True, asked=asked, begin=watch._at_once, progress=glances.append)
        )
        await eventually(lambda: glances and glances[-1].rate > 5)
        assert not any(seen.nothing or seen.early for seen in glances)
        camera.paused = True
        await eventually(lambda: glances[-1].nothing > 0)
        camera.paused = False
        await eventually(lambda: glances[-1].rate > 5)
        asked.set()
        await asyncio.wait_for(watching, 20)
    silent = [seen for seen in glances if seen.nothing]
    assert silent[0].early
    assert silent[0].nothing >= NOTHING
    assert [seen.early for seen in glances].count(True) == 1


def test_only_what_is_true_of_all_processes_is_told_of_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = watch._Lines(Request("http://127.0.0.1:9/whep/a", viewers=2))
    fine = Glance(1, 0, 30.0, 1e6)
    silent = replace(fine, nothing=1.1, early=True)
    lines.take(fine, 1)
    lines.take(fine, 0)
    assert "1 s: 2 of 2 connected" in capsys.readouterr().err
    lines.take(silent, 0)
    assert capsys.readouterr().err == ""
    lines.take(replace(silent, nothing=1.2), 1)
    said = capsys.readouterr().err
    assert said.startswith("2 of 2 connected")  # the second that was told is over
    assert said.endswith("2.0 Mbit/s (nothing for 1.1 s)\n")
    lines.take(replace(silent, early=False, nothing=1.9, still=1), 0)
    assert capsys.readouterr().err.startswith("2 s: ")
    lines.take(fine, 0)
    assert "nothing" not in capsys.readouterr().err


def test_nothing_comes_where_none_of_those_connected_hear_anything() -> None:
    heard = [seen(unheard=0.2), seen(unheard=3.0)]
    assert glance(heard, heard, 1.0).nothing == 0
    unheard = [seen(unheard=1.4), seen(unheard=3.0), seen(unheard=0.1, why="gone")]
    assert glance(unheard, unheard, 1.0).nothing == 1.4
    assert glance([], [], 1.0).nothing == 0


async def test_whoever_sees_a_picture_was_connected_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(url: str, *, on_unit: Callable[[AccessUnit], None], **_: object) -> object:
        on_unit(AccessUnit(Codec.H264, b"", 0, 0.0, True))
        await asyncio.sleep(0.05)  # a busy machine: others had their turn first
        return object()

    monkeypatch.setattr(WhepClient, "connect", connect)
    viewer = Viewer("http://gateway/whep/cam")
    await viewer.join()
    assert viewer._connected is not None
    assert viewer._first is not None
    assert 0 < viewer._connected <= viewer._first


async def test_viewers_notice_that_the_gateway_is_dead_and_come_back_with_it(
    network: Network, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "WAITS", (3.0,))  # longer than from one glance to the next
    url, asked = network.whep("again"), asyncio.Event()
    request = Request(url, viewers=2, seconds=600)
    lines, glances = watch._Lines(request), list[Glance]()

    def progress(seen: Glance) -> None:
        glances.append(seen)
        lines.take(seen)

    watching = asyncio.create_task(
        crowd.watch(
            request,
            True,
            asked=asked,
            begin=watch._at_once,
            progress=progress,
            on_lost=lines.lost,
        )
    )
    async with publishing(network.whip("again"), model="echo"):
        await eventually(lambda: glances and glances[-1].rate > 5, 30)
    doomed = network.process("gateway")
    assert doomed is not None
    doomed.suspend()  # nothing comes, and nothing is refused
    await eventually(lambda: glances[-1].still == 2)
    assert glances[-1].joined == 2
    doomed.kill()
    await eventually(lambda: glances[-1].lost == 2, 10)
    assert glances[-1].joined == 0
    await eventually(lambda: glances[-1].returned == 2, 30)
    assert glances[-1].joined == 2
    async with publishing(network.whip("again"), model="echo"):
        await eventually(lambda: glances[-1].rate > 5, 30)
        asked.set()
        told = await asyncio.wait_for(watching, 30)
    assert (told.joined, told.ended, told.returned) == (2, 0, 2)
    assert "2 lost the connection and joined again" in told.why
    assert in_figures(told)["returned"] == 2
    said = capsys.readouterr().err
    assert re.search(r"2 of 2 connected, 0 lost, .* \(nothing for \d+\.\d s\)", said)
    assert re.search(r"\(\d joined again; nothing for \d+\.\d s\)", said)
    assert re.search(r"0 of 2 connected, 2 lost, .* \(.+\)", said)
    reasons = [*re.finditer(r"(\d) of 2 lost the connection: the server is gone\n", said)]
    assert sum(int(each[1]) for each in reasons) == 2
    assert said.index("0 of 2 connected, 2 lost") > reasons[0].start()
    seconds = re.findall(r"^(\d+) s: ", said, re.MULTILINE)
    assert len(seconds) == len(set(seconds))


@pytest.mark.parametrize("place", ["/watch/cam", "/whip/cam", "/live/video-to-video/cam/whip"])
def test_an_address_for_something_else_is_told_with_the_one_that_is_wanted(place: str) -> None:
    with pytest.raises(ConfigError) as told:
        watch.run(Request(f"http://127.0.0.1:9{place}"))
    assert str(told.value) == (
        f"http://127.0.0.1:9{place} is no WHEP address; "
        "of the same stream it is http://127.0.0.1:9/whep/cam"
    )


@pytest.mark.parametrize("place", ["/whep/a", "/cam/whep", "/x/whip/whep", "/"])
def test_other_addresses_are_asked(place: str) -> None:
    check_kind(f"http://127.0.0.1:9{place}", "whep")


async def test_a_process_of_a_crowd_that_dies_is_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "parts", lambda *_: [2, 1])
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PeerError, match="a process of the crowd ended with 1"):
        await watch._watch(Request("http://127.0.0.1:9/whep/a", viewers=3, seconds=1))


async def _ended_by_ctrl_c(url: str) -> None:
    """It tells what came until then, and that is no failure."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "watch", url, "--seconds", "600"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"1 of 1 connected, 0 lost" not in await process.stderr.readline():
            pass
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    assert b"1 of 1 connected" in out


def seen(**given: object) -> Seen:
    fields = {
        "connected": 0.1,
        "first": 0.2,
        "pictures": 0,
        "octets": 0,
        "packets": 0,
        "lost": 0,
        **given,
    }
    return Seen(**fields)  # type: ignore[arg-type]


def test_what_each_saw_becomes_figures_of_all() -> None:
    before = [seen(), seen(), seen(connected=None, first=None), seen(first=None)]
    after = [
        seen(pictures=60, octets=1000, packets=95, lost=5),
        seen(pictures=30, octets=500, packets=100, connected=0.3, first=0.5, why="gone"),
        seen(connected=None, first=None, why="503: full"),
        seen(first=None),
    ]
    told = summed(before, after, 2.0, cpu=0.95)
    assert (told.joined, told.ended, told.without_picture) == (3, 1, 1)
    assert told.rate == 45
    assert told.rates == (0, 30)
    assert told.bitrate == 6000
    assert told.share_lost == 5 / 200
    assert glance(before, after, 2.0) == Glance(2, 2, 45.0, 6000.0, why="gone")
    assert told.why == (
        "1 of 4 viewers could not join, 1 were ended before they left, 1 saw no picture; "
        "1 x gone; 1 x 503: full"
    )
    figures = in_figures(told)
    assert figures["connect_ms"] == {"p50": 100.0, "p95": 300.0, "max": 300.0}
    assert figures["first_picture_ms"] == {"p50": 500.0, "p95": 500.0, "max": 500.0}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table(told))
    text = console.export_text()
    for words in ("3 of 4 connected, 1 ended", "p95 300 ms", "2.50 %", "lost by itself", "503"):
        assert words in text
    there_and_back = Told.of(json.loads(json.dumps(told.as_dict())))
    assert there_and_back == told
    twice = merged([told, there_and_back])
    assert (twice.viewers, twice.joined, twice.rate, twice.seconds) == (8, 6, 90, 2.0)
    assert twice.connected == (0.1, 0.1, 0.1, 0.1, 0.3, 0.3)
    assert twice.reasons == {"gone": 2, "503: full": 2}
    assert twice.share_lost == told.share_lost
    assert twice.cpu == (0.95, 0.95)


@pytest.mark.parametrize("squeezed", [90, 3000])
def test_pictures_that_catch_up_at_a_join_are_no_faster_stream(squeezed: int) -> None:
    """Our gateway squeezes them together, another server leaves them their times."""
    viewer = Viewer("")
    before = replace(viewer.look(), connected=0.1)
    gaps = [squeezed] * 30 + [3000] * 30  # a second's worth at once, and then one of the stream
    for at in range(60):
        viewer._unit(AccessUnit(Codec.H264, b"x", 7 + sum(gaps[:at]), 0.0))
    after = replace(viewer.look(), connected=0.1)
    told = summed([before], [after], 1.0, cpu=0.1)
    assert 29 < told.rate < 31
    assert told.rates == (told.rate,)
    assert glance([before], [after], 1.0).rate == told.rate
    slow = summed([before], [after], 6.0, cpu=0.1).rate  # some were lost, or never made
    assert slow == after.pictures / 6


def test_times_that_jump_say_nothing_of_the_rate() -> None:
    viewer = Viewer("")
    before = viewer.look()
    for pts in (0, 3000, 900_000_000, 900_003_000, 5, 3005):
        viewer._unit(AccessUnit(Codec.H264, b"x", pts, 0.0))
    assert summed([before], [viewer.look()], 0.2, cpu=0.1).rate == 30


def test_a_large_crowd_is_shared_by_processes() -> None:
    assert parts(1, 8) == [1]
    assert parts(200, 8) == [200]
    assert parts(201, 8) == [101, 100]
    assert parts(1000, 2) == [500, 500]
    assert parts(5000, 64) == [200] * 25
    assert sum(parts(4999, 3)) == 4999


def test_a_crowd_that_was_served_has_nothing_to_complain_of() -> None:
    told = summed([seen()], [seen(pictures=30)], 1.0, cpu=0.1)
    assert told.why == ""
    nobody = summed(
        [seen(connected=None, first=None)], [seen(connected=None, first=None)], 0, cpu=0
    )
    assert nobody.why == "1 of 1 viewers could not join"
    assert in_figures(nobody)["connect_ms"] == {"p50": None, "p95": None, "max": None}
    table(nobody)


def test_who_saw_nothing_new_for_long_was_not_served() -> None:
    seen = Seen(0.1, 0.2, 300, 9000, 60, 0)
    fine, frozen, gone = (
        seen,
        replace(seen, still=STILL),
        replace(seen, still=9.0, why="closed by the peer"),
    )
    told = summed([seen] * 3, [fine, frozen, gone], 10.0, cpu=0.1)
    assert (told.still, told.ended) == (1, 1)
    assert "1 saw nothing new for 2 s or more" in told.why
    assert merged([told, told]).still == 2
    assert in_figures(told)["still"] == 1
    assert summed([seen], [fine], 10.0, cpu=0.1).why == ""


def test_a_still_picture_is_noticed_in_the_midst_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    viewer = Viewer("")
    for now in (100.0, 105.0):  # before the time that is measured
        viewer._unit(AccessUnit(Codec.H264, b"x", 0, now))
    viewer.begin()
    assert viewer.look().still == 0
    for now in (105.5, 108.5, 109.0):
        viewer._unit(AccessUnit(Codec.H264, b"x", 0, now))
    assert viewer.look().still == 3.0
    now = 113.0
    assert viewer.look().still == 4.0
