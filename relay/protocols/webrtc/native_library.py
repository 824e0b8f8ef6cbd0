"""The native part: a plain shared library beside this file, built at install where there is a
C compiler. Where it is missing, pure Python does its work.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final

import cffi

_log = logging.getLogger(__name__)

HERE = Path(__file__).parent
_WITHOUT: Final = (
    "pure Python sends to viewers, at about a fifth of the viewers a core, and receives from "
    "publishers, at two to three times the CPU of each"
)


@cache
def say(message: str) -> None:
    """Warn of it once in a process."""
    _log.warning("%s: %s", message, _WITHOUT)


def load(header: str, structure: str) -> tuple[Any, Any] | None:
    """The cffi door to one header of the library, and the library; None where it is not built.

    Args:
        structure: a struct of that header, whose size ``<structure>_size()`` tells: a library
            that was built before the header was changed is not used.
    """
    found = [path for suffix in EXTENSION_SUFFIXES if (path := HERE / f"_native{suffix}").exists()]
    if not found:
        say("the native part is not built (no C compiler at install?)")
        return None
    declared = (HERE / "native" / header).read_text()
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
    if not fits:
        say(f"{found[0].name} is of another version")
        return None
    return ffi, library
