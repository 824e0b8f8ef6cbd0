"""Who may read and write which segment of a channel."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from relay.errors import BadInput, NotFound, RelayError, SegmentGone, TooLarge, Unavailable
from relay.protocols.trickle.channel import SLOTS, Budget, Channel, Limits, Writer
from relay.protocols.trickle.paths import CURRENT, LATEST, MAX_SEQUENCE
from relay.protocols.trickle.segment import Cursor


def make(limits: Limits | None = None, budget: Budget | None = None) -> Channel:
    return Channel("name", "video/MP2T", 0.0, limits or Limits(), budget or Budget(1 << 30))


def put(channel: Channel, sequence: int, data: bytes = b"x", now: float = 1.0) -> None:
    writer = channel.write(sequence)
    if data:
        writer.write(data, now)
    writer.finish(now)
    writer.release()


def body(channel: Channel, sequence: int) -> bytes:
    return channel.read(sequence).segment.read(Cursor(), 1 << 20)


def test_the_next_number_moves_on_the_first_byte() -> None:
    channel = make()
    writer = channel.write(0)
    assert channel.next_write == 0
    writer.write(b"a", 5.0)
    assert (channel.next_write, channel.last_write) == (1, 5.0)
    writer.write(b"b", 6.0)
    assert channel.next_write == 1
    writer.finish(6.0)
    assert body(channel, CURRENT) == b"ab"


def test_an_empty_segment_counts() -> None:
    channel = make()
    put(channel, 0, b"")
    assert channel.next_write == 1
    assert channel.read(0).segment.decided


def test_minus_one_is_the_next_and_minus_two_the_current() -> None:
    channel = make()
    assert channel.read(LATEST).segment is channel.read(CURRENT).segment is channel.write(0).segment
    put(channel, 0)
    assert channel.read(LATEST).segment.sequence == 1
    assert channel.read(CURRENT).segment.sequence == 0
    assert channel.write(LATEST).segment.sequence == 1
    assert channel.read(LATEST).was_next
    assert not channel.read(CURRENT).was_next


def test_only_what_may_come_soon_is_waited_for() -> None:
    channel = make()
    assert channel.read(1).segment.sequence == 1
    with pytest.raises(SegmentGone) as gone:
        channel.read(2)
    assert gone.value.latest == 0
    put(channel, 0)
    put(channel, 1)
    with pytest.raises(SegmentGone):
        channel.read(3)
    channel.write(3)
    assert channel.read(3).segment.sequence == 3


def test_five_segments_are_kept() -> None:
    channel = make()
    for sequence in range(7):
        put(channel, sequence)
    for sequence in range(2):
        with pytest.raises(SegmentGone) as gone:
            channel.read(sequence)
        assert gone.value.latest == 7
    assert [body(channel, n) for n in range(2, 7)] == [b"x"] * 5
    assert channel.bytes == 5
    assert channel.received == 7


def test_a_reader_keeps_what_is_pushed_out() -> None:
    channel = make()
    put(channel, 0, b"kept")
    segment = channel.read(0).segment
    put(channel, SLOTS)
    assert segment.read(Cursor(), 10) == b"kept"


def test_an_older_number_takes_the_slot_of_a_newer_one() -> None:
    channel = make()
    writer = channel.write(7)
    writer.write(b"new", 1.0)
    put(channel, 2, b"restart")
    assert writer.segment.closed
    assert channel.next_write == 3
    writer.write(b"late", 2.0)
    assert channel.bytes == len(b"restart")


def test_a_jump_of_a_thousand_million() -> None:
    channel = make()
    put(channel, 0)
    put(channel, 10**9)
    assert channel.next_write == 10**9 + 1
    assert channel.read(10**9).segment.closed


def test_the_last_number() -> None:
    channel = make()
    put(channel, MAX_SEQUENCE)
    assert channel.next_write == MAX_SEQUENCE + 1
    with pytest.raises(BadInput):
        channel.write(LATEST)


def test_a_second_writer_goes_on_where_the_first_vanished() -> None:
    channel = make()
    writer = channel.write(0)
    writer.write(b"half ", 1.0)
    assert writer.release()
    put(channel, 0, b"whole")
    assert body(channel, 0) == b"half whole"


def test_a_finished_segment_takes_nothing_more() -> None:
    channel = make()
    put(channel, 0, b"one")
    put(channel, 0, b"two")
    assert body(channel, 0) == b"one"
    assert channel.next_write == 1


def test_an_abandoned_segment_is_closed_unless_it_was_taken_up_again() -> None:
    channel = make()
    first = channel.write(0)
    first.write(b"x", 1.0)
    assert first.release()
    segment = first.segment
    again = channel.write(0)
    channel.expire(segment, 1)
    assert not segment.closed
    assert again.release()
    channel.expire(segment, 1)
    assert not segment.closed
    channel.expire(segment, 2)
    assert segment.closed


def test_a_preconnect_that_vanishes_changes_nothing() -> None:
    channel = make()
    writer = channel.write(0)
    assert not writer.release()
    assert channel.next_write == 0
    assert not writer.segment.closed


def test_reset_closes_what_is_older_and_keeps_what_is_newer() -> None:
    channel = make()
    old, new = channel.write(0), channel.write(3)
    old.write(b"half", 1.0)
    channel.write(2, reset=True)
    assert old.segment.closed
    assert not new.segment.closed


def test_a_late_empty_preconnect_of_an_earlier_publisher_moves_nothing() -> None:
    channel = make()
    put(channel, 8)
    old = channel.write(9)
    writer = channel.write(0)
    writer.write(b"restart", 2.0)
    old.finish(3.0)
    assert channel.next_write == 1
    writer.finish(3.0)
    put(channel, 1)
    channel.write(0).finish(4.0)
    assert channel.next_write == 2


def test_a_publisher_that_starts_anew_is_not_taken_for_the_one_before() -> None:
    channel = make()
    for sequence in range(8):
        put(channel, sequence, b"old")
    for sequence in range(6):
        put(channel, sequence, b"new")
    assert [body(channel, n) for n in range(1, 6)] == [b"new"] * 5


def test_segments_that_begin_in_another_order_are_all_kept() -> None:
    channel = make()
    put(channel, 0)
    for sequence in (2, 1, 3):
        put(channel, sequence, b"%d" % sequence)
    assert [body(channel, n) for n in (1, 2, 3)] == [b"1", b"2", b"3"]


def test_a_deleted_segment_sends_readers_on() -> None:
    channel = make()
    segment = channel.read(0).segment
    channel.delete(0)
    assert segment.closed
    assert channel.next_write == 1
    with pytest.raises(BadInput):
        channel.delete(4)


def test_a_reader_does_not_push_out_what_a_writer_has_opened() -> None:
    channel = make()
    writer = channel.write(SLOTS)
    with pytest.raises(SegmentGone):
        channel.read(0)
    assert not writer.segment.closed


def test_a_closed_channel_ends_everything() -> None:
    channel = make()
    segment, other = channel.read(0).segment, channel.write(1).segment
    assert channel.close("deleted")
    assert not channel.close("again")
    assert segment.closed
    assert other.closed
    assert channel.bytes == 0
    for call in (channel.read, channel.write, channel.delete):
        with pytest.raises(NotFound):
            call(0)


def test_a_segment_over_its_bound_is_closed() -> None:
    channel = make(Limits(segment_bytes=10))
    writer = channel.write(0)
    writer.write(b"12345", 1.0)
    with pytest.raises(TooLarge):
        writer.write(b"678901", 1.0)
    assert writer.segment.closed
    assert body(channel, 0) == b"12345"


def test_a_channel_over_its_bound_forgets_its_oldest() -> None:
    channel = make(Limits(segment_bytes=10, channel_bytes=20))
    half = channel.write(0)
    half.write(b"0" * 6, 1.0)
    for sequence in (1, 2, 3):
        put(channel, sequence, b"x" * 6)
    assert channel.bytes <= 20
    with pytest.raises(SegmentGone):
        channel.read(1)
    assert [len(body(channel, n)) for n in (0, 2, 3)] == [6, 6, 6]


def test_a_server_over_its_bound_takes_nothing_more() -> None:
    budget = Budget(10)
    first, second = make(budget=budget), make(budget=budget)
    put(first, 0, b"x" * 8)
    with pytest.raises(Unavailable):
        put(second, 0, b"x" * 8)
    first.close("deleted")
    put(second, 1, b"x" * 8)
    assert budget.used == 8


def test_readers_and_writers_are_counted() -> None:
    channel = make(Limits(readers=1, writers=1))
    writer = channel.write(0)
    with pytest.raises(Unavailable):
        channel.write(1)
    writer.release()
    channel.write(1)
    channel.readers = 1
    with pytest.raises(Unavailable):
        channel.read(0)


class Chaos(RuleBasedStateMachine):
    """Any order of requests keeps the bounds and the books."""

    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(300)
        limits = Limits(segment_bytes=60, channel_bytes=100)
        self.channels = [make(limits, self.budget) for _ in range(2)]
        self.live: set[Writer] = set()

    @rule(
        target=writers,
        which=st.integers(0, 1),
        sequence=st.integers(-1, 12),
        reset=st.booleans(),
    )
    def open(self, which: int, sequence: int, reset: bool) -> Writer | None:
        try:
            writer = self.channels[which].write(sequence, reset=reset)
        except RelayError:
            return None
        self.live.add(writer)
        return writer

    @rule(writer=writers, size=st.integers(1, 80))
    def write(self, writer: Writer | None, size: int) -> None:
        if writer in self.live and writer is not None:
            try:
                writer.write(b"x" * size, 1.0)
            except (TooLarge, Unavailable):
                assert writer.segment.closed

    @rule(writer=writers, clean=st.booleans())
    def leave(self, writer: Writer | None, clean: bool) -> None:
        if writer in self.live and writer is not None:
            self.live.discard(writer)
            if clean:
                writer.finish(1.0)
                assert writer.segment.closed
            writer.release()

    @rule(which=st.integers(0, 1), sequence=st.integers(-2, 14))
    def read(self, which: int, sequence: int) -> None:
        channel = self.channels[which]
        try:
            reading = channel.read(sequence)
        except SegmentGone:
            return
        assert sequence < 0 or reading.segment.sequence == sequence

    @rule(which=st.integers(0, 1), sequence=st.integers(0, 14))
    def delete(self, which: int, sequence: int) -> None:
        try:
            self.channels[which].delete(sequence)
        except BadInput:
            return
        assert self.channels[which].read(sequence).segment.closed

    @invariant()
    def books_balance(self) -> None:
        assert self.budget.used == sum(channel.bytes for channel in self.channels)
        assert 0 <= self.budget.used <= 200
        for channel in self.channels:
            kept = [s for s in channel._slots if s is not None]
            assert channel.bytes == sum(s.size for s in kept)
            assert all(s.writers >= 0 for s in kept)


TestChaos = Chaos.TestCase
TestChaos.settings = settings(max_examples=40, stateful_step_count=40)
