"""Log lines on stderr: text for people, JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from relay.config import Log

# What every LogRecord carries; anything else was handed in by ``extra=`` and is told.
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what ``extra=`` holds becomes keys of its own."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _PLAIN})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """
    Args:
        role: who speaks, where several do on one stderr.
    """

    def __init__(self, role: str | None = None) -> None:
        line = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
        super().__init__(line if role is None else in_column(role, line), "%H:%M:%S")


def in_column(role: str, line: str) -> str:
    """A line of text beside those of other roles."""
    return f"{role:<12} | {line}"


def configure(log: Log, role: str, *, among_others: bool = False) -> None:
    """Set the root logger; libraries that talk too much speak from warnings on.

    Args:
        among_others: the lines of other roles go to the same stderr.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter(role if among_others else None)
    handler.setFormatter(JsonFormatter(role) if log.format == "json" else text)
    for detail in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, detail, False)  # looked up for each line, and in none of them
    logging._srcfile = None  # nor is where it was written, by a walk through the callers
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())
    for name in ("aiohttp.access", "libav", "hpack", "h2"):
        logging.getLogger(name).setLevel(logging.WARNING)
