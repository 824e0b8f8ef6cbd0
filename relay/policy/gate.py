"""May this caller publish? One key for all streams, or open to anyone."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from relay.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class Gate:
    """Checks the publish key.

    Attributes:
        publish_key: the secret that publishers show; None lets everyone in.
    """

    publish_key: str | None

    def check(self, token: str | None) -> None:
        """Let a publisher in.

        Args:
            token: what came after ``Bearer``, or None.

        Raises:
            Unauthorized: a key is needed and this is not it (401).
        """
        if self.publish_key is None:
            return
        if token is None:
            raise Unauthorized("a publish key is needed", code="key_required")
        # Bytes of a header that are no UTF-8 arrive as lone surrogates.
        given = token.encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self.publish_key.encode()):
            raise Unauthorized("this is not the publish key", code="key_unknown")
