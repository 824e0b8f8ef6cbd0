"""Who is reported to, and when."""

from __future__ import annotations

from typing import cast

from relay.protocols.webrtc.egress_session import EgressSession
from relay.protocols.webrtc.reporting import ATTENDED, Reporting
from relay.protocols.webrtc.viewer import REPORTS_KEPT, Viewer


class FakeSession:
    """One that is reported to by Python."""

    def __init__(self) -> None:
        self.viewer = Viewer("v", None, None)
        self.sent: list[int] = []
        self.attended = 0
        self.is_closed = False

    def report(self, ntp: int, line: float) -> None:
        self.sent.append(ntp)

    def attend(self) -> None:
        self.attended += 1


def joined(reporting: Reporting) -> FakeSession:
    session = FakeSession()
    reporting.add(cast("EgressSession", session))
    return session


def run(reporting: Reporting, first: int, last: int) -> None:
    """Ten ticks a second; reports name the number of their tick."""
    for tick in range(first, last):
        if reporting.due_at <= tick / 10:
            reporting.send(0.0, tick / 10, tick << 16)


def test_the_first_leaves_at_once_and_then_one_a_second() -> None:
    reporting = Reporting(None)
    early = joined(reporting)
    run(reporting, 0, 4)
    late = joined(reporting)
    run(reporting, 4, 30)
    assert [ntp >> 16 for ntp in early.sent] == [0, 10, 20]
    assert [ntp >> 16 for ntp in late.sent] == [4, 14, 24]
    assert list(early.viewer.reports) == [(0, 0.0), (10, 1.0), (20, 2.0)]
    assert list(late.viewer.reports) == [(4, 0.4), (14, 1.4), (24, 2.4)]


def test_those_that_fall_together_are_served_together_and_keep_what_they_were_sent() -> None:
    reporting = Reporting(None)
    early = joined(reporting)
    run(reporting, 0, 4)
    late = joined(reporting)
    run(reporting, 4, 5)
    run(reporting, 20, 21)  # nobody had time before
    run(reporting, 21, 40)
    assert [ntp >> 16 for ntp in early.sent] == [0, 20, 30]
    assert [ntp >> 16 for ntp in late.sent] == [4, 20, 30]
    assert early.viewer.reports is late.viewer.reports
    assert (0, 0.0) in early.viewer.reports
    assert (4, 0.4) in early.viewer.reports


def test_who_has_left_is_not_reported_to_even_before_the_first_time() -> None:
    reporting = Reporting(None)
    one, gone, never = joined(reporting), joined(reporting), joined(reporting)
    never.is_closed = True
    reporting.drop()
    run(reporting, 0, 10)
    gone.is_closed = True
    reporting.drop()
    run(reporting, 10, 20)
    assert (len(one.sent), len(gone.sent), len(never.sent)) == (2, 1, 0)
    reporting.clear()
    assert reporting.due_at > 100.0


def test_what_was_kept_natively_is_looked_at_now_and_then() -> None:
    reporting = Reporting(None)
    one = joined(reporting)
    run(reporting, 0, 10)
    assert one.attended == 1
    run(reporting, 10, 10 + int(10 * ATTENDED))
    assert one.attended == 2
    assert len(one.viewer.reports) <= REPORTS_KEPT
