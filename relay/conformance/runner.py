"""Runs cases against a target, some at a time, and tells each result as it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import aiohttp

from relay.conformance.case import Case, Failed, NotOffered, Outcome, Result
from relay.errors import RelayError

Bench = TypeVar("Bench")

OpenBench = Callable[[], AbstractAsyncContextManager[Bench]]
"""Makes what one case works with, and cleans up behind it."""


async def run(
    cases: Sequence[Case[Bench]], bench: OpenBench[Bench], *, width: int = 1
) -> AsyncIterator[Result]:
    """Run all cases; results come in the order in which cases end.

    Args:
        bench: opened for each case.
        width: how many run at once. Abuse runs alone, after all others.
    """
    tame = [case for case in cases if not case.abuse]
    for group, at_once in ((tame, width), ([c for c in cases if c.abuse], 1)):
        waiting = iter(group)
        running: set[asyncio.Task[Result]] = set()
        try:
            while True:
                while len(running) < at_once and (case := next(waiting, None)) is not None:
                    running.add(asyncio.create_task(judge(case, bench)))
                if not running:
                    break
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def judge(case: Case[Bench], bench: OpenBench[Bench]) -> Result:
    """Run one case to its result."""
    began = time.monotonic()
    outcome, seen, expected = Outcome.PASSED, "", ""
    try:
        async with asyncio.timeout(case.limit), bench() as one:
            await case.act(one)
    except Failed as failed:
        outcome, seen, expected = Outcome.FAILED, failed.seen, failed.expected
    except NotOffered as missing:
        outcome, seen = Outcome.NOT_OFFERED, str(missing)
    except TimeoutError:
        outcome, seen, expected = Outcome.FAILED, "no answer in time", case.says
    except (OSError, EOFError, aiohttp.ClientError) as error:
        what = f"the connection broke ({type(error).__name__})"
        outcome, seen, expected = Outcome.FAILED, what, case.says
    except RelayError as error:
        outcome, seen, expected = Outcome.FAILED, str(error), case.says
    except (ValueError, LookupError) as error:
        # What a target says is read by the cases: nonsense is the target's failure.
        what = f"an answer that makes no sense ({error})"
        outcome, seen, expected = Outcome.FAILED, what, case.says
    seconds = round(time.monotonic() - began, 3)
    return Result(case.name, case.says, case.section, outcome, seconds, seen, expected)
