from __future__ import annotations

from relay.gateway.drops import SHOWN, Drops


def test_what_was_dropped_is_told_for_a_while() -> None:
    drops = Drops()
    assert drops.cautions(0.0) == ()
    assert drops.input(12, "the orchestrator reads too slowly", 100.0) == (
        "dropped 12 pictures: the orchestrator reads too slowly"
    )
    drops.input(3, "the orchestrator reads too slowly", 101.0)
    (told,) = drops.cautions(101.0 + SHOWN)
    assert told.code == "input_dropped"
    assert "15 pictures" in told.words
    assert drops.cautions(101.1 + SHOWN) == ()
    assert drops.pictures == 15


def test_output_that_was_left_is_told() -> None:
    drops = Drops()
    drops.output(5.0)
    drops.output(6.0)
    (told,) = drops.cautions(7.0)
    assert (told.code, "2 output segments" in told.words) == ("output_left", True)
