"""The native part: a plain shared library beside this file, built at install where there is a
C compiler. Where it is missing, pure Python does its work.
"""

from __future__ import annotations

import logging
from functools import cache
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
