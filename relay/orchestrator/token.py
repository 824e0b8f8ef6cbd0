"""Auth tokens: given with GetOrchestrator, asked back with every job. Pure.

The token is an HMAC-SHA256 under a key of this process, over the session id and the
expiration (big-endian, without leading zeros), as stock nodes make it.
"""

from __future__ import annotations

import hmac

from relay.errors import Forbidden
from relay.rpc.auth_token import AuthToken


class TokenMint:
    """
    Args:
        secret: the key; a new one makes every older token invalid.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, session_id: str, expiration: int) -> AuthToken:
        """``expiration`` in seconds since the epoch."""
        return AuthToken(self._mac(session_id, expiration), session_id, expiration)

    def check(self, token: AuthToken | None, now: float) -> AuthToken:
        """Return the token; ``now`` in seconds since the epoch.

        Raises:
            Forbidden: with the words of a stock node: ``missing auth token``,
                ``invalid auth token``, ``expired auth token``.
        """
        if token is None:
            raise Forbidden("missing auth token", code="no_token")
        if token.expiration < 0 or not hmac.compare_digest(
            token.token, self._mac(token.session_id, token.expiration)
        ):
            raise Forbidden("invalid auth token", code="bad_token")
        if token.expiration <= now:
            raise Forbidden("expired auth token", code="old_token")
        return token

    def _mac(self, session_id: str, expiration: int) -> bytes:
        number = expiration.to_bytes((expiration.bit_length() + 7) // 8, "big")
        return hmac.digest(self._secret, session_id.encode() + number, "sha256")
