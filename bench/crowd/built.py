"""The C of the bench's own, compiled when it runs."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import cffi
import uvloop

from relay.cli import descriptors

_HERE: Final = Path(__file__).parent


class NoCompiler(Exception):
    """The bench cannot be run on this machine."""


def build(folder: Path) -> Path:
    """Compile into ``folder``; returns the library.

    Raises:
        NoCompiler: none is there, or it refuses.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompiler("no C compiler (gcc or cc): this bench is partly C")
    library = folder / "crowd.so"
    flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC"]
    sources = [str(_HERE / name) for name in ("drain.c", "limit.c")]
    command = [compiler, *flags, "-o", str(library), *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoCompiler(f"{compiler} failed: {done.stderr.strip()}")
    return library


def run(measure: Callable[[Path], Coroutine[Any, Any, int]]) -> int:
    """Measure with the built library, and sockets for a crowd; the exit status of the bench."""
    descriptors.allow_all()
    with tempfile.TemporaryDirectory() as folder:
        try:
            library = build(Path(folder))
        except NoCompiler as error:
            print(error, file=sys.stderr)
            return 2
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(library))


def door(library: Path) -> tuple[Any, Any]:
    """The cffi door to a built library, and the library."""
    ffi = cffi.FFI()
    declared = (_HERE / "crowd.h").read_text()
    ffi.cdef(declared.split("/* -- begin */")[1].split("/* -- end */")[0])
    return ffi, ffi.dlopen(str(library))
