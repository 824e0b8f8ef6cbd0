"""``relay streams [NAME]``: what a gateway carries, and how each viewer gets it."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from relay.cli import address
from relay.errors import ConfigError, NotFound, PeerError, PeerRefused
from relay.rpc.certificate import client_context

TIMEOUT: Final = 5.0
MAX_ANSWER: Final = 8 << 20
INTERVAL: Final = 1.0
NAME: Final = re.compile(r"[^/:\s]+")
"""What may be a stream's name; an address has more in it."""
SHOWN: Final = 30
"""Viewers that are shown unless all are asked for: more are counted."""
PAGE: Final = 1000
MAX_PAGES: Final = 20
NO_STREAM: Final = "stream_not_found"
"""The gateway's code for a name that it does not know."""
NOBODY: Final = "no_publisher"
"""The gateway's code for a stream that has viewers only."""
SILENT: Final = "input_silent"
"""Its code for one whose publisher sends nothing."""

SPARE: Final = ("process", "pauses", "key frames asked", "jitter", "packets", "queue", "resent")
"""Columns of viewers, as a narrow terminal does without them."""

_ENDLESS: Final = 10_000
"""Characters of a line that has room for every column."""

LEGEND: Final = Text("relay streams --help tells what each column means", style="dim")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for.

    Attributes:
        known: the gateway has answered by the scheme of its address.
    """

    gateway: str
    name: str | None = None
    token: str | None = None
    watch: bool = False
    whole: bool = False
    as_json: bool = False
    insecure: bool = False
    known: bool = False


def run(request: Request) -> int:
    """Print once, or every second until Ctrl-C.

    Raises:
        ConfigError: no http(s) address, one in the place of a name, or all viewers of no stream.
        NotFound: no such stream.
        PeerRefused, PeerTimeout: the gateway does not tell. Of one that is watched and has told,
            a refusal only: it may be started again, and its publishers come back to it.
    """
    address.check(request.gateway)
    if request.name is not None and not NAME.fullmatch(request.name):
        raise ConfigError(
            f"{request.name} is no stream's name; a gateway's address goes with "
            f"--gateway {address.likely(request.name)}"
        )
    if request.whole and request.name is None:
        raise ConfigError("--all shows all viewers of one stream: relay streams NAME --all")
    if not request.watch:
        _print(request, _look(request))
        return 0
    with _screen(request) as show:
        look = _look
        while True:
            began = time.monotonic()
            show(look(request))
            look, request = _look_again, replace(request, known=True)
            time.sleep(max(0.0, INTERVAL - (time.monotonic() - began)))


def _look_again(request: Request) -> dict[str, Any]:
    """As ``_look``; ``{"missing": why}`` where that may pass."""
    try:
        return _look(request)
    except PeerRefused as error:
        if not str(error).startswith("5"):
            raise
        return {"missing": str(error)}
    except (PeerError, NotFound) as error:
        return {"missing": str(error)}


@contextmanager
def _screen(request: Request) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Where each look goes: over the last one on a terminal, under it anywhere else."""
    try:
        if request.as_json or not sys.stdout.isatty():
            yield _Printer(request).show
            return
        with Live(console=Console(), auto_refresh=False) as live:
            yield lambda told: live.update(Group(_page(told), LEGEND), refresh=True)
    except KeyboardInterrupt:
        return


class _Printer:
    """Each look with its time. What is missing is told once, beside what is printed."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._missing = ""

    def show(self, told: Mapping[str, Any]) -> None:
        missing = told.get("missing", "")
        if missing and missing != self._missing:
            print(missing, file=sys.stderr, flush=True)
        self._missing = missing
        if missing:
            return
        now = datetime.now().astimezone()
        if self._request.as_json:
            told = {"at": now.isoformat(timespec="seconds"), **told}
        else:
            print(f"{now:%Y-%m-%d %H:%M:%S}")
        _print(self._request, told)


def _print(request: Request, told: Mapping[str, Any]) -> None:
    if request.as_json:
        print(json.dumps(told), flush=True)
    elif sys.stdout.isatty():
        Console().print(_page(told), LEGEND)
    else:
        Console(width=160).print(_page(told))


def _look(request: Request) -> dict[str, Any]:
    if request.name is None:
        return {"streams": _get(request, "/v1/streams")["streams"]}
    path = f"/v1/streams/{quote(request.name, safe='')}"
    stream = _get(request, path)
    return {"stream": stream, "viewers": _audience(replace(request, known=True), path)}


def _audience(request: Request, path: str) -> list[Any]:
    """The first of its viewers, or all."""
    if not request.whole:
        page: list[Any] = _get(request, f"{path}/viewers?limit={SHOWN}")["viewers"]
        return page
    found: list[Any] = []
    after = ""
    for _ in range(MAX_PAGES):
        told = _get(request, f"{path}/viewers?limit={PAGE}{after}")
        found += told["viewers"]
        if told["next"] is None:
            break
        after = f"&after={quote(told['next'], safe='')}"
    return found


def _get(request: Request, path: str) -> Any:
    url = request.gateway.rstrip("/") + path
    asking = urllib.request.Request(url)
    if request.token:
        asking.add_header("Authorization", f"Bearer {request.token}")
    context = client_context(verify=not request.insecure)
    known = request.known
    try:
        with urllib.request.urlopen(asking, timeout=TIMEOUT, context=context) as answer:
            known = True
            return json.loads(answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        raise _refusal(error, request) from error
    except ValueError as error:
        hint = address.base_hint(request.gateway)
        raise PeerError(f"{url} answered no JSON: it is no gateway of ours{hint}") from error
    except (OSError, http.client.HTTPException) as error:
        hint = "" if known else "--gateway URL says where the gateway is"
        if "certificate" in str(error).lower():
            hint = "--insecure takes any"
        raise address.unanswered(url, error, hint, known=known) from error


def _refusal(error: urllib.error.HTTPError, request: Request) -> PeerRefused | NotFound:
    try:
        told = json.loads(error.read(MAX_ANSWER))
        words, code = str(told["detail"]), str(told["code"])
    except (ValueError, KeyError, TypeError):
        words, code = error.reason, "peer_refused"
    if error.code == 404:
        hint = "" if code == NO_STREAM else address.base_hint(request.gateway)
        return NotFound(f"{words}{hint}", code=code)
    hint = " (--token takes the publish key)" if error.code in (401, 403) else ""
    return PeerRefused(f"{error.code}: {words}{hint}", code=code)


def _page(told: Mapping[str, Any]) -> RenderableType:
    if "missing" in told:
        return Text(told["missing"], style="yellow")
    if "streams" in told:
        return _streams(told["streams"]) if told["streams"] else Text("no stream is live")
    stream, viewers = told["stream"], told["viewers"]
    # They are asked for after the stream, and may have left meanwhile.
    more = stream["viewers"] - len(viewers) if len(viewers) >= SHOWN else 0
    parts: list[RenderableType] = [_streams([stream]), *_facts(stream)]
    if viewers:
        parts.append(_Fitting(_viewers(viewers), SPARE))
    if more > 0:
        parts.append(Text(f"and {more} more (--all shows them)"))
    return Group(*parts)


class _Fitting:
    """A table without those of its ``spare`` columns that have no room, which are named."""

    def __init__(self, table: Table, spare: Sequence[str]) -> None:
        self._table = table
        self._spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        endless = options.update(width=_ENDLESS)
        table = self._table
        whole, left_out = list(table.columns), 0
        while left_out < len(self._spare):
            if Measurement.get(console, endless, table).maximum <= options.max_width:
                break
            left_out += 1
            gone = self._spare[:left_out]
            table.columns = [column for column in whole if column.header not in gone]
        yield table
        if left_out:
            named = ", ".join(self._spare[:left_out])
            yield Text(f"  for want of room not shown: {named}", style="dim")


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold")
    for title in words:
        table.add_column(title, no_wrap=True)  # a name that is cut off names nothing
    for title in numbers:
        table.add_column(title, justify="right")
    return table


def _streams(streams: list[Mapping[str, Any]]) -> Table:
    table = _table(
        ("stream", "state", "model"),
        ("in", "out", "delay p50", "p95", "viewers", "moved"),
    )
    for stream in streams:
        delay = (stream["output"] or {}).get("delay")
        table.add_row(
            Text(stream["name"]),
            _state(stream),
            Text(stream["model"] or "-"),
            _rate(stream["input"]),
            _rate(stream["output"]),
            f"{delay['p50_ms']:.1f} ms" if delay else "-",
            f"{delay['p95_ms']:.1f} ms" if delay else "-",
            str(stream["viewers"]),
            str(stream["swaps"]),
        )
    return table


def _state(stream: Mapping[str, Any]) -> str:
    if stream["reason_code"] == NOBODY:
        return "no publisher"
    silent = any(warning["code"] == SILENT for warning in stream["warnings"])
    return f"{stream['state']}, no input" if silent else str(stream["state"])


def _rate(side: Mapping[str, Any] | None) -> str:
    return f"{side['fps']:.1f} fps {side['bitrate'] / 1e6:.2f} Mbit/s" if side else "-"


def _facts(stream: Mapping[str, Any]) -> Iterator[Text]:
    if stream["reason"]:
        yield Text(f"  {stream['reason']}", style="yellow")
    for warning in stream["warnings"]:
        yield Text(f"  {warning['reason']}", style="yellow")
    if source := stream["input"]:
        by = f", received by ingest process {source['process']}" if source.get("process") else ""
        yield Text(
            f"  publisher: {source['packets']} packets, {source['lost']} lost on the way{by}"
        )
    if serving := stream["serving"]:
        yield Text(f"  served by {serving['orchestrator']}: {serving['why']}")
    for move in stream.get("moves") or ():
        yield Text(f"  {_move(move)}")
    if gone := stream.get("previous_publisher"):
        at = datetime.fromisoformat(gone["at"]).astimezone()
        yield Text(f"  the publisher before left at {at:%Y-%m-%d %H:%M:%S}: {gone['reason']}")


def _move(move: Mapping[str, Any]) -> str:
    at = datetime.fromisoformat(move["at"]).astimezone()
    left, taken_by = move["from_orchestrator"], move["to_orchestrator"]
    where = f"to another job at {left}" if taken_by == left else f"from {left} to {taken_by}"
    if taken_by is None:
        where = f"away from {left}"
    dark = move.get("seconds_without_picture")
    gap = f", no new picture for {dark:.1f} s" if dark is not None else ""
    return f"moved {where} at {at:%Y-%m-%d %H:%M:%S}: {move['reason']} ({move['code']}){gap}"


def _viewers(viewers: list[Mapping[str, Any]]) -> Table:
    table = _table(
        ("viewer", "state"),
        (
            "since",
            "packets",
            "resent",
            "lost",
            "jitter",
            "round trip",
            "path",
            "queue",
            "pauses",
            "key frames asked",
            "process",
        ),
    )
    for given in viewers:
        since, trip = given["connected_for"], given["round_trip_ms"]
        path, queue = given["estimate"], given["queue_ms"]
        table.add_row(
            Text(given["id"]),
            given["state"],
            "-" if since is None else f"{since:.0f} s",
            str(given["packets"]),
            str(given["resent"]),
            f"{given['fraction_lost'] * 100:.1f} %",
            f"{given['jitter_ms']:.1f} ms",
            "-" if trip is None else f"{trip:.1f} ms",
            "-" if path is None else f"{path / 1e6:.1f} Mbit/s",
            "-" if queue is None else f"{queue:.1f} ms",
            str(given["pauses"]),
            str(given["keyframes_asked"]),
            str(given["process"]),
        )
    return table
