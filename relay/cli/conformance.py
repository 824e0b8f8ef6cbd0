"""``relay conformance``: what any server of a protocol does, case by case."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from relay.conformance.case import Result

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2

app = typer.Typer(
    name="conformance",
    help="Test any server's trickle, WHIP or WHEP.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
    url: Annotated[str, typer.Argument(help="Base path, such as http://127.0.0.1:2939/trickle/")],
    channel: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A channel, where the server creates none."),
    ] = None,
    abuse: AbuseOption = False,
    own: OwnOption = False,
    slow: SlowOption = False,
    only: OnlyOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test a trickle server."""
    from relay.conformance import suites

    check_abuse(url, abuse=abuse, own=own)
    cases = suites.chosen(suites.TRICKLE, slow=slow, abuse=abuse, only=only or ())

    async def results() -> AsyncIterator[Result]:
        return await suites.trickle(url, channel or (), cases, insecure=insecure)

    finish(results, [case.name for case in cases], as_json=as_json)


@app.command()
def whip(
    url: Annotated[str, typer.Argument(help="The endpoint, as given to an encoder.")],
    token: TokenOption = None,
    abuse: AbuseOption = False,
    own: OwnOption = False,
    only: OnlyOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test a WHIP endpoint. It must be free: each case publishes to it."""
    _offering("whip", url, token, abuse, own, only, insecure, as_json)


@app.command()
def whep(
    url: Annotated[str, typer.Argument(help="The endpoint, as given to a player.")],
    token: TokenOption = None,
    abuse: AbuseOption = False,
    own: OwnOption = False,
    only: OnlyOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test a WHEP endpoint; with something published there, its pictures too."""
    _offering("whep", url, token, abuse, own, only, insecure, as_json)


def _offering(
    name: str,
    url: str,
    token: str | None,
    abuse: bool,
    own: bool,
    only: list[str] | None,
    insecure: bool,
    as_json: bool,
) -> None:
    from relay.conformance import suites
    from relay.conformance.endpoint import Side

    check_abuse(url, abuse=abuse, own=own)
    cases = suites.chosen(suites.OFFERING, slow=False, abuse=abuse, only=only or ())

    async def results() -> AsyncIterator[Result]:
        return await suites.offering(Side(name), url, token, cases, insecure=insecure)

    finish(results, [case.name for case in cases], as_json=as_json)


def check_abuse(url: str, *, abuse: bool, own: bool) -> None:
    """Abuse is for one's own servers.

    Raises:
        typer.Exit: 2, the address is off this machine.
    """
    from urllib.parse import urlsplit

    from relay.conformance.own import is_own

    if abuse and not own and not is_own(urlsplit(url).hostname or ""):
        print(
            f"error: --abuse may harm a server, and {url} is not on this machine: "
            "add --i-own-this if it is yours",
            file=sys.stderr,
        )
        raise typer.Exit(UNUSABLE)


def finish(
    results: Callable[[], Awaitable[AsyncIterator[Result]]],
    names: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Run, print, and leave with the code.

    Raises:
        typer.Exit: always.
    """
    import asyncio

    from relay.conformance.case import Unusable
    from relay.conformance.report import Report

    if not names:
        print("error: there is no such case", file=sys.stderr)
        raise typer.Exit(UNUSABLE)
    report = Report(names)

    async def run() -> None:
        async for result in await results():
            report.add(result)
            print(json.dumps(result.told()) if as_json else report.line(result), flush=True)

    try:
        asyncio.run(run())
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(UNUSABLE) from error
    print(json.dumps(report.told()) if as_json else report.sums(), flush=True)
    raise typer.Exit(FAILED if report.failed else OK)
