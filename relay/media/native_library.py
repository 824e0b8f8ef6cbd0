"""Opens the native parts: plain shared libraries that the install builds where there is a C
compiler. Pure Python does the work of one that is missing.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import cffi

_log = logging.getLogger(__name__)


def opened(folder: Path, header: str, structure: str) -> tuple[Any, Any] | str:
    """The cffi door to one header of the library in a folder, and the library; or, in words, why
    there is none.

    Args:
        structure: a struct of that header, whose size ``<structure>_size()`` tells: a library
            that was built before the header was changed is not used.
    """
    files = [folder / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES]
    found = [path for path in files if path.exists()]
    if not found:
        return "the native part is not built (no C compiler at install?)"
    _tell_age(found[0], folder / "native")
    declared = (folder / "native" / header).read_text()
    ffi = cffi.FFI()
    ffi.cdef(declared.split("/* -- begin */")[1].split("/* -- end */")[0])
    try:
        library = ffi.dlopen(str(found[0]))
        for name in dir(library):  # a library of before lacks one: it shows at the first call
            getattr(library, name)
        fits = getattr(library, f"{structure}_size")() == ffi.sizeof(f"struct {structure}")
    except (OSError, AttributeError) as error:
        _log.warning("%s: %s", found[0], error)
        fits = False
    return (ffi, library) if fits else f"{found[0].name} is of another version"


@cache
def _tell_age(library: Path, sources: Path) -> None:
    """Warn of a library that was built before its sources were changed, as a pull without an
    install leaves it: it may fit in form and do something else."""
    built = library.stat().st_mtime
    newer = sorted(path.name for path in sources.iterdir() if path.stat().st_mtime > built)
    if newer:
        _log.warning(
            "%s is older than its source %s: install again (pip install -e .)", library, newer[0]
        )
