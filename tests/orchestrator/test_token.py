"""Auth tokens: ours are known again, others are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.errors import Forbidden
from relay.orchestrator.token import TokenMint
from relay.rpc.auth_token import AuthToken

MINT = TokenMint(b"k" * 32)
TOKEN = MINT.issue("ab43268c", 1000)


def test_our_token_is_known_again() -> None:
    assert MINT.check(TOKEN, now=999.9) is TOKEN
    assert len(TOKEN.token) == 32


@pytest.mark.parametrize(
    ("token", "now", "words"),
    [
        (None, 0, "missing auth token"),
        (replace(TOKEN, token=b""), 0, "invalid auth token"),
        (replace(TOKEN, token=bytes(32)), 0, "invalid auth token"),
        (replace(TOKEN, session_id="ab43268d"), 0, "invalid auth token"),
        (replace(TOKEN, expiration=2000), 0, "invalid auth token"),
        (replace(TOKEN, expiration=-1), 0, "invalid auth token"),
        (TokenMint(b"x" * 32).issue("ab43268c", 1000), 0, "invalid auth token"),
        (TOKEN, 1000, "expired auth token"),
    ],
)
def test_any_other_is_refused_in_a_stock_nodes_words(
    token: AuthToken | None, now: float, words: str
) -> None:
    with pytest.raises(Forbidden, match=f"^{words}$"):
        MINT.check(token, now)


def test_an_expiration_of_zero_is_a_token_too() -> None:
    with pytest.raises(Forbidden, match="expired"):
        MINT.check(MINT.issue("s", 0), now=0.0)
