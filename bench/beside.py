"""Who is there beside the viewer that is measured, in a process of its own.

- ``python -m bench.beside crowd URL N``: N viewers with feedback, drained by C.
- ``python -m bench.beside joins URL N``: N viewers a second who come, stay two seconds and go.

With ``--no-sound`` they ask for the picture only.

Prints ``ready``, goes on until its input ends, and then prints how many there were.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from bench.crowd.audience import Audience
from bench.crowd.built import build
from bench.joins.joiner import Joiner
from bench.source import words_of
from relay.protocols.webrtc.certificate import Certificate

STAY: Final = 2.0
READY: Final = 60.0


@asynccontextmanager
async def beside(
    kind: str, url: str, number: int, *, sound: bool = True
) -> AsyncIterator[list[int]]:
    """Somebody is there for as long as the block runs; how many came is in the list after it.

    Raises:
        RuntimeError: they did not come.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.beside", kind, url, str(number), *words_of(sound)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    came: list[int] = []
    try:
        async with asyncio.timeout(READY):
            if (await process.stdout.readline()).strip() != b"ready":
                raise RuntimeError(f"bench.beside {kind}: nobody came; see above")
        yield came
        process.stdin.close()
        came.append(int(await process.stdout.readline() or 0))
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def crowd(url: str, number: int, sound: bool, ended: asyncio.Task[bytes]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        audience = Audience(build(Path(folder)), number, sound=sound)
        try:
            await audience.join(url)
            print("ready", flush=True)
            await ended
            return audience.started()
        finally:
            await audience.close()


async def joins(url: str, number: int, sound: bool, ended: asyncio.Task[bytes]) -> int:
    certificate = Certificate()
    came = 0

    async def one() -> None:
        nonlocal came
        joiner = Joiner(certificate, patient=False, sound=sound)
        try:
            await joiner.come(url)
            came += 1
            await asyncio.sleep(STAY)
        finally:
            joiner.leave()

    print("ready", flush=True)
    async with asyncio.TaskGroup() as group:
        while not ended.done():
            group.create_task(one())
            await asyncio.wait({ended}, timeout=1 / number)
    return came


async def run(kind: str, url: str, number: int, *, sound: bool) -> None:
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
    came = await {"crowd": crowd, "joins": joins}[kind](url, number, sound, ended)
    print(came, flush=True)


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        kind, url, number, *rest = sys.argv[1:]
        runner.run(run(kind, url, int(number), sound="--no-sound" not in rest))


if __name__ == "__main__":
    main()
