"""What a sender says of its clock, however it is packed."""

from __future__ import annotations

import pytest

from relay.errors import ParseError
from relay.protocols.webrtc.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    compound,
)
from relay.protocols.webrtc.sender_reports import Clock, SenderReports

NAME = SourceDescription(((7, "somebody"),))
BLOCK = ReportBlock(9, 0, 0, 1, 2, 3, 4)


def report(second: int, *blocks: ReportBlock, ssrc: int = 7) -> SenderReport:
    return SenderReport(ssrc, second << 32, 90_000 * second, 5, 6, blocks)


def clock(second: int, ssrc: int = 7) -> Clock:
    return Clock(ssrc, second << 32, 90_000 * second)


def test_each_report_is_read_whatever_stands_behind_it() -> None:
    reports = SenderReports()
    for second, rest in enumerate((NAME, NAME, None, None, Bye((7,)), NAME, NAME)):
        said = report(second).serialise() + (rest.serialise() if rest is not None else b"")
        assert list(reports.read(said)) == [clock(second)]


def test_reports_of_two_sources_are_both_read_each_time() -> None:
    reports = SenderReports()
    for second in range(3):
        data = compound([report(second), report(second, ssrc=8), NAME])
        assert list(reports.read(data)) == [clock(second), clock(second, 8)]


def test_reports_with_blocks_and_behind_others_are_read() -> None:
    reports = SenderReports()
    for second in range(3):
        assert list(reports.read(compound([report(second, BLOCK), NAME]))) == [clock(second)]
        behind = compound([ReceiverReport(7), report(second)])
        assert list(reports.read(behind)) == [clock(second)]


def test_what_has_no_report_has_no_clock() -> None:
    assert not SenderReports().read(compound([NAME]))


@pytest.mark.parametrize("size", [0, 3, 20, 27, 30, 35])
def test_a_report_that_is_cut_is_refused_after_whole_ones_too(size: int) -> None:
    reports = SenderReports()
    data = compound([report(1), NAME])
    for _ in range(2):
        with pytest.raises(ParseError):
            reports.read(data[:size])
        assert reports.read(data)
