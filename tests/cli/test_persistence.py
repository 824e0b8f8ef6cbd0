"""When a client comes back, and when it does not."""

from __future__ import annotations

import pytest

from relay.cli.persistence import STEADY, TRIED_FOR, WAITS, Persistence, is_final, passes
from relay.errors import PeerError, PeerRefused, PeerTimeout


@pytest.mark.parametrize(
    ("word", "final"),
    [
        (None, False),  # it is gone, or another one in its place
        ("no sign of life", False),
        ("the gateway is going away", False),
        ("the process that served it was lost (SIGKILL); a new offer is answered", False),
        ("the stream was stopped", True),
        ("another publisher took the name over", True),
        ("it sent no key frame for 60 seconds", True),
    ],
)
def test_what_a_gateway_says_of_an_end(word: str | None, final: bool) -> None:
    assert is_final(word) is final


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (PeerTimeout("no answer"), True),
        (PeerError("connection refused"), True),
        (PeerRefused("503: full"), True),
        (PeerRefused("409: somebody publishes it"), True),
        (PeerRefused("401: no key"), False),
        (PeerRefused("404: nothing here"), False),
        (PeerError("its certificate is not trusted", code="tls_untrusted"), False),
    ],
)
def test_an_offer_that_fails_is_made_again_where_that_may_help(
    error: PeerError, again: bool
) -> None:
    assert passes(error) is again


def test_waits_grow_and_end() -> None:
    persistence = Persistence(0.0)
    now, waits = 1.0, []
    while (wait := persistence.wait(now)) is not None:
        waits.append(wait)
        now += wait
    assert tuple(waits[: len(WAITS)]) == WAITS
    assert set(waits[len(WAITS) :]) == {WAITS[-1]}
    assert TRIED_FOR - WAITS[-1] < sum(waits) <= TRIED_FOR + WAITS[-1]


def test_a_connection_that_held_begins_anew_and_one_that_did_not_goes_on() -> None:
    persistence = Persistence(0.0)
    assert persistence.wait(STEADY) == WAITS[0]
    assert persistence.wait(STEADY + 1) == WAITS[1]
    persistence.connected(STEADY + 2)
    assert persistence.wait(STEADY + 3) == WAITS[2]
    persistence.connected(STEADY + 4)
    assert persistence.wait(2 * STEADY + 4) == WAITS[0]


def test_a_server_that_ends_each_connection_at_once_is_given_up() -> None:
    persistence, now = Persistence(0.0), 0.0
    for _ in range(100):
        wait = persistence.wait(now)
        if wait is None:
            break
        now += wait
        persistence.connected(now)
    assert wait is None
