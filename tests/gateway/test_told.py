"""What a worker told of itself shortly before its job ended goes with the words for the end."""

from __future__ import annotations

import json
from typing import cast

import pytest

from relay.gateway import told as told_module
from relay.gateway.sellers import Sellers
from relay.gateway.teller import Teller
from relay.gateway.told import Told
from relay.rpc.events import Event
from relay.rpc.trust import JobTrust


class Hears:
    def heard(self, event: Event) -> None:
        """Each event, as ``Teller``."""


@pytest.fixture
def told() -> Told:
    teller = cast("Teller", Hears())
    return Told("cam", cast("Sellers", None), teller, lambda work: work.close(), lambda: False)


def event(**body: str) -> Event:
    return Event.parse(json.dumps({"event": body}).encode())


def test_an_error_explains_the_end_that_follows(told: Told) -> None:
    assert told.cause("the output stopped") == "the output stopped"
    told.hear(event(type="error", message="killed by signal 9"), "echo")
    expected = "the output stopped; the worker reported: killed by signal 9"
    assert told.cause("the output stopped") == expected


def test_one_of_long_ago_does_not(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_module, "SHORTLY", -1.0)
    told.hear(event(type="error", message="a wrong parameter"), "echo")
    assert told.cause("the output stopped") == "the output stopped"


def test_nor_does_one_of_the_job_before(told: Told) -> None:
    told.hear(event(type="error", message="killed by signal 9"), "echo")
    told.begin("https://o:8935", cast("JobTrust", None))
    assert told.cause("the output stopped") == "the output stopped"
