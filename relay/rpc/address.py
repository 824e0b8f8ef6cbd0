"""Addresses of nodes, as operators type them and as peers tell them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from unicodedata import normalize
from urllib.parse import SplitResult, urlsplit

from relay.errors import BadInput

DEFAULT_PORT: Final = 8935
"""An orchestrator's port where none is given."""

MAX_URL: Final = 2048


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node listens: one port for gRPC, REST and trickle."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, text: str) -> NodeAddress:
        """Read ``[scheme://]host[:port]``; without a scheme it is https, without a port 8935.

        A path is allowed and not kept.

        Raises:
            BadInput: another scheme, no host, or a port that is none.
        """
        text = text.strip()
        parts = check_url(text if "://" in text else f"https://{text}", what="node address")
        port = DEFAULT_PORT if parts.port is None else parts.port
        return cls(str(parts.hostname), port, parts.scheme == "https")

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    def __str__(self) -> str:
        return self.url


def check_url(text: str, *, what: str) -> SplitResult:
    """The parts of an absolute http or https address.

    Raises:
        BadInput: it is something else, names a user, or has characters, a host or a
            port that no address has.
    """
    if len(text) > MAX_URL:
        raise BadInput(f"{what} is longer than {MAX_URL} characters", code="bad_address")
    if any(char <= " " or char == "\x7f" for char in text):
        raise BadInput(f"{what} has a space or a control character", code="bad_address")
    try:
        parts = urlsplit(text)
        _ = parts.port
        # The resolver does the same with a name, and fails in its own way.
        normalize("NFKC", parts.hostname or "").encode("idna")
    except ValueError as error:
        raise BadInput(f"{what} {text!r}: {error}", code="bad_address") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise BadInput(f"{what} {text!r} is not http://host or https://host", code="bad_address")
    return parts
