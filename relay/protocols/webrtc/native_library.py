"""The native part: a plain shared library beside this file, built at install where there is a
C compiler; and one Python module, built where Python's headers are there too. Where they are
missing, pure Python does their work.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

from relay.media.native_library import opened

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
        structure: see ``opened``.
    """
    found = opened(HERE, header, structure)
    if isinstance(found, str):
        say(found)
        return None
    return found


def load_reader(event_size: int) -> Any:
    """The module of ``native/reader.c``; None where it is not built.

    Args:
        event_size: bytes of ``struct rx_event``, which it is to know as the library does.
    """
    files = [HERE / f"_reader{suffix}" for suffix in EXTENSION_SUFFIXES]
    found = next((path for path in files if path.exists()), None)
    if found is None:
        _log.info("native/reader.c is not built (no Python headers at install?)")
        return None
    name = f"{__package__}._reader"
    spec = spec_from_file_location(name, found, loader=ExtensionFileLoader(name, str(found)))
    assert spec is not None
    assert spec.loader is not None
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        _log.warning("%s: %s", found, error)
        return None
    if event_size != module.EVENT_SIZE:
        _log.warning("%s is of another version", found.name)
        return None
    return module
