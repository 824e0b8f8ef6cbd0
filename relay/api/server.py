"""The application on a socket, with the bounds that only the socket side can set."""

from __future__ import annotations

import logging
import ssl

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

IDLE_TIMEOUT = 30.0  # seconds, also for a request's headers to arrive
LINGER = 2.0  # seconds that the rest of a refused body is read away
SHUTDOWN = 0.5  # seconds that requests in progress get at the end
HEADER_LINE = 64 * 1024  # first parameters travel in the query of a WHIP POST

_log = logging.getLogger(f"{__name__}.http")


class _StrangersBytes(logging.Filter):
    """Bytes that are no HTTP are answered with 400; a traceback each would fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


_log.addFilter(_StrangersBytes())


class Server:
    """Serves an application on one address.

    Attributes:
        port: the port that was really taken, after ``start``.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._wanted = port
        self._ssl = ssl_context
        # Bodies stay as they came: a small gzip may hide a large one.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_log,
            handle_signals=False,
            keepalive_timeout=IDLE_TIMEOUT,
            lingering_time=LINGER,
            max_line_size=HEADER_LINE,
            auto_decompress=False,
            shutdown_timeout=SHUTDOWN,
        )
        self.port = 0

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._ssl else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Raises: OSError when the address cannot be taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._wanted, ssl_context=self._ssl)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()
