"""How many sockets a role may have open."""

from __future__ import annotations

import contextlib
import sys


def allow_all() -> None:
    """Take what the system allows, where the usual limit (1,024) is lower.

    That limit is for programs that call ``select``, which none of ours does; a thousand joins
    at once are a thousand connections.
    """
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems tell more than they grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
