"""A certificate that the operator brings: what a real authority signed, renewed by others.

Its files are looked at while the node runs, so that a renewal (ACME clients write new files
every few weeks) needs no restart: connections that are made after it see the new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from relay.errors import ConfigError
from relay.rpc.certificate import (
    SERVER_ALPN,
    is_for,
    names_of,
    serve_from_now_on,
    server_context,
)

log = logging.getLogger(__name__)

LOOK: Final = 60.0
"""Seconds between two looks at the files."""


def given_certificate(
    cert: Path | None, key: Path | None, *, setting: str, alpn: Sequence[str] = SERVER_ALPN
) -> GivenCertificate | None:
    """The operator's certificate, or None when no file is named.

    Args:
        setting: where the files are named, for errors: ``gateway.tls``.

    Raises:
        ConfigError: one file without the other, one that is not there, or files that are
            no certificate and its key.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError(f"{setting}: cert and key go together")
    for name, path in (("cert", cert), ("key", key)):
        if not path.is_file():
            raise ConfigError(f"no such file: {path} ({setting}.{name})")
    return GivenCertificate(cert, key, alpn=alpn)


class GivenCertificate:
    """A TLS context that follows the operator's files.

    Args:
        cert, key: PEM; the certificate with the chain above it.
        alpn: as for ``server_context``.

    Attributes:
        on_renewed: called when other files are served.

    Raises:
        ConfigError: the files are no certificate and its key.
    """

    def __init__(self, cert: Path, key: Path, *, alpn: Sequence[str] = SERVER_ALPN) -> None:
        self._pair = (cert, key)
        self.context = server_context(cert, key, alpn=alpn)
        self._served = self._read()
        self.on_renewed: Callable[[], None] = lambda: None

    def renew(self) -> bool:
        """Serve what is in the files now, when that is another pair; open connections keep
        what they have.

        Raises:
            ConfigError, OSError: they cannot be used, a half-written pair among them; the
                context is as it was.
        """
        found = self._read()
        if found == self._served:
            return False
        serve_from_now_on(self.context, *self._pair)
        self._served = found
        return True

    async def keep(self) -> None:
        """Look once a minute, for as long as the node runs. A failure is logged once, and
        what is served goes on."""
        told = ""
        while True:
            await asyncio.sleep(LOOK)
            try:
                if self.renew():
                    log.info("the certificate in %s is served from now on", self._pair[0])
                    self.on_renewed()
                told = ""
            except (ConfigError, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    log.error("the certificate is not changed: %s", told)

    def names_unlike(self, host: str) -> list[str]:
        """The names that it is made for, when ``host`` is none of them; else nothing."""
        try:
            leaf = x509.load_pem_x509_certificate(self._served)
            return [] if is_for(leaf, host) else names_of(leaf) or ["no name"]
        except ValueError:
            return ["a name that cannot be read"]

    def _read(self) -> bytes:
        return b"\n".join(path.read_bytes() for path in self._pair)
