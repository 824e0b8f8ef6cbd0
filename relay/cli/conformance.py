"""``relay conformance``: what any server of a protocol does, case by case."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from relay.conformance.case import Case, Result
    from relay.conformance.report import Report

Bench = TypeVar("Bench")

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
TELL_EVERY: Final = 0.5
END_LINE: Final = "\r\x1b[K"
"""To the line's beginning, and nothing after it (ECMA-48, EL)."""

app = typer.Typer(
    name="conformance",
    help="Test any server's trickle, WHIP or WHEP.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SelfOption = Annotated[
    bool, typer.Option("--self", help="Test a server of ours, started here for the test.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON line a case, then the sums.")]
SlowOption = Annotated[
    bool, typer.Option("--slow", help="Also what takes the server's own long timers.")
]
AbuseOption = Annotated[
    bool,
    typer.Option("--abuse", help="Also hostile requests: they may harm the server."),
]
OwnOption = Annotated[
    bool,
    typer.Option("--i-own-this", help="Allow --abuse for an address off this machine."),
]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="CASE", help="Only this case; repeatable.")
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Take any certificate of an https server.")
]
TokenOption = Annotated[str | None, typer.Option(help="Bearer token.")]


@app.command()
def trickle(
    url: Annotated[
        str | None, typer.Argument(help="Base path, such as http://127.0.0.1:2939/trickle/")
    ] = None,
    itself: SelfOption = False,
    channel: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A channel, where the server creates none."),
    ] = None,
    token: TokenOption = None,
    abuse: AbuseOption = False,
    own: OwnOption = False,
    slow: SlowOption = False,
    only: OnlyOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test a trickle server."""
    from relay.cli import own_target
    from relay.conformance import suites

    check_target(url, itself=itself, abuse=abuse, own=own)
    cases = pick(suites.TRICKLE, slow=slow, abuse=abuse, only=only or ())

    @contextlib.asynccontextmanager
    async def results() -> AsyncIterator[AsyncIterator[Result]]:
        async with own_target.trickle(url) as at:
            yield await suites.trickle(at, channel or (), cases, token=token, insecure=insecure)

    finish(results, [case.name for case in cases], as_json=as_json)


@app.command()
def whip(
    url: Annotated[str | None, typer.Argument(help="The endpoint, as given to an encoder.")] = None,
    itself: SelfOption = False,
    token: TokenOption = None,
    abuse: AbuseOption = False,
    own: OwnOption = False,
    slow: SlowOption = False,
    only: OnlyOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test a WHIP endpoint. It must be free: each case publishes to it."""
    check_target(url, itself=itself, abuse=abuse, own=own)
    _offering("whip", url, token, abuse, slow, only, insecure, as_json)


@app.command()
def whep(
    url: Annotated[str | None, typer.Argument(help="The endpoint, as given to a player.")] = None,
    itself: SelfOption = False,
    token: TokenOption = None,
    abuse: AbuseOption = False,
    own: OwnOption = False,
    slow: SlowOption = False,
    only: OnlyOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test a WHEP endpoint; with something published there, its pictures too."""
    check_target(url, itself=itself, abuse=abuse, own=own)
    _offering("whep", url, token, abuse, slow, only, insecure, as_json)


def _offering(
    name: str,
    url: str | None,
    token: str | None,
    abuse: bool,
    slow: bool,
    only: list[str] | None,
    insecure: bool,
    as_json: bool,
) -> None:
    from relay.cli import own_target
    from relay.conformance import suites
    from relay.conformance.endpoint import Side

    cases = pick(suites.OFFERING, slow=slow, abuse=abuse, only=only or ())

    @contextlib.asynccontextmanager
    async def results() -> AsyncIterator[AsyncIterator[Result]]:
        async with own_target.offering(name, url, token) as (at, key):
            yield await suites.offering(Side(name), at, key, cases, insecure=insecure)

    finish(results, [case.name for case in cases], as_json=as_json)


def pick(
    cases: Sequence[Case[Bench]], *, slow: bool, abuse: bool, only: Sequence[str]
) -> list[Case[Bench]]:
    """The cases that are asked for.

    Raises:
        Refused: one of the names is no case's, or it needs another option.
    """
    from relay.conformance import suites

    known = {case.name: case for case in cases}
    for name in only:
        case = known.get(name)
        if case is None:
            _refuse(f"there is no case {name}; {_likely(name, list(known))}")
        for given, needs, word in ((slow, case.slow, "--slow"), (abuse, case.abuse, "--abuse")):
            if needs and not given:
                _refuse(f"the case {name} is run with {word} only")
    return suites.chosen(cases, slow=slow, abuse=abuse, only=only)


def _likely(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    near += [one for one in known if name in one and one not in near]
    if near:
        return f"did you mean {', '.join(near[:8])}?"
    return f"there are: {', '.join(known)}"


def check_target(url: str | None, *, itself: bool, abuse: bool, own: bool) -> None:
    """There is one target, and abuse is for one's own.

    Raises:
        Refused: otherwise.
    """
    if url is None and not itself:
        _refuse("give the address of a server, or --self to test one of ours that is started here")
    if url is not None and itself:
        _refuse(f"--self starts a server of its own to test: leave out {url}, or --self")
    if url is not None:
        check_abuse(url, abuse=abuse, own=own)


class Refused(typer.Exit):
    """2, and why, for a program: as Typer's own exceptions tell it.

    Attributes:
        kind: the failure's code.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(UNUSABLE)
        self.message = message
        self.kind = kind

    def format_message(self) -> str:
        return self.message


def _refuse(message: str, kind: str = "usage") -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise Refused(message, kind)


def check_abuse(url: str, *, abuse: bool, own: bool) -> None:
    """Abuse is for one's own servers.

    Raises:
        Refused: the address is off this machine.
    """
    from urllib.parse import urlsplit

    from relay.conformance.own import is_own

    if abuse and not own and not is_own(urlsplit(url).hostname or ""):
        _refuse(
            f"--abuse may harm a server, and {url} is not on this machine: "
            "add --i-own-this if it is yours"
        )


@contextlib.asynccontextmanager
async def _waiting(report: Report) -> AsyncIterator[Callable[[], None]]:
    """On a terminal name the case that takes its time; what is given takes that line away."""
    import asyncio

    shown = sys.stderr.isatty()

    def end_line() -> None:
        if shown:
            print(END_LINE, end="", file=sys.stderr, flush=True)

    async def tell() -> None:
        while shown:
            await asyncio.sleep(TELL_EVERY)
            print(f"{END_LINE}{report.waiting()}", end="", file=sys.stderr, flush=True)

    telling = asyncio.create_task(tell())
    try:
        yield end_line
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        end_line()


def finish(
    results: Callable[[], AbstractAsyncContextManager[AsyncIterator[Result]]],
    names: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Run, print, and leave with the code.

    Raises:
        typer.Exit: always; ``Refused`` where the target cannot be tested.
    """
    import asyncio

    from relay.conformance.case import Unusable
    from relay.conformance.report import Report

    report = Report(names)

    async def run() -> None:
        async with results() as told, _waiting(report) as end_line:
            async for result in told:
                report.add(result)
                end_line()
                print(json.dumps(result.told()) if as_json else report.line(result), flush=True)

    try:
        asyncio.run(run())
    except Unusable as error:
        _refuse(str(error), "unusable")
    print(json.dumps(report.told()) if as_json else report.sums(), flush=True)
    raise typer.Exit(FAILED if report.failed else OK)
