"""TLS reads of the size of a record, process-wide, and with no call in between.

A read of TLS gives one record at most, 16 KB. The event loop offers 256 KB for each, which
the allocator maps, shrinks and unmaps again for every piece of media that comes: a tenth of
what a gateway with streams spends.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

RECORD: Final = 16 << 10
"""Bytes of plain text in one record at most (RFC 8446 5.1)."""


class RecordReader(ssl.SSLObject):
    """Reads a record at a time, whatever is offered.

    The event loop asks once for what it calls for each piece, and so gets OpenSSL's own
    functions: those of ``ssl.SSLObject`` only call them.
    """

    _sslobj: Any  # of ssl.SSLObject

    @property
    def read(self) -> Callable[..., bytes]:
        own = self._sslobj.read

        def read(len: int = 1024, buffer: Any = None) -> bytes:  # noqa: A002
            most = min(len, RECORD)
            data: bytes = own(most) if buffer is None else own(most, buffer)
            return data

        return read

    @property
    def write(self) -> Callable[[Any], int]:
        own: Callable[[Any], int] = self._sslobj.write
        return own

    @property
    def pending(self) -> Callable[[], int]:
        own: Callable[[], int] = self._sslobj.pending
        return own


def read_by_record() -> None:
    """From here on all TLS of asyncio is read so, also that of contexts there already are."""
    ssl.SSLContext.sslobject_class = RecordReader
