"""Strangers' bytes in the log of an HTTP server: they are answered, and not worth a word."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


class StrangersBytes(logging.Filter):
    """Bytes that are no HTTP get their 400, and a client that leaves gets nothing; a
    traceback for each would fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | ConnectionError)


def http_log(name: str) -> logging.Logger:
    """The logger of an HTTP server in the module ``name``."""
    log = logging.getLogger(f"{name}.http")
    log.addFilter(StrangersBytes())
    return log
