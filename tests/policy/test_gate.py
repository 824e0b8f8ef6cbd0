"""The publish key: who shows it is let in, nobody else."""

from __future__ import annotations

import pytest

from relay.errors import Unauthorized
from relay.policy.gate import Gate


def test_without_a_key_everyone_is_let_in() -> None:
    Gate(None).check(None)
    Gate(None).check("anything")


def test_with_a_key_only_the_key_opens() -> None:
    gate = Gate("sesame")
    gate.check("sesame")
    with pytest.raises(Unauthorized) as caught:
        gate.check(None)
    assert caught.value.code == "key_required"
    for wrong in ("", "Sesame", "sesame ", "séѕame", "\udcff", "sesame\udcff"):
        with pytest.raises(Unauthorized) as caught:
            gate.check(wrong)
        assert caught.value.code == "key_unknown"
