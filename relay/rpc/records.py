"""TLS reads of the size of a record, process-wide.

A read of TLS gives one record at most, 16 KB. The event loop offers 256 KB for each, which
the allocator maps, shrinks and unmaps again for every piece of media that comes: a tenth of
what a gateway with streams spends.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

RECORD: Final = 16 << 10
"""Bytes of plain text in one record at most (RFC 8446 5.1)."""


class RecordReader(ssl.SSLObject):
    """Reads a record at a time, whatever is offered."""

    def read(self, len: int = 1024, buffer: Any = None) -> bytes:  # noqa: A002
        return super().read(min(len, RECORD), buffer)


def read_by_record() -> None:
    """From here on all TLS of asyncio is read so, also that of contexts there already are."""
    ssl.SSLContext.sslobject_class = RecordReader
