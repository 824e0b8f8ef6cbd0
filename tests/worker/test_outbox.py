from __future__ import annotations

import asyncio

from relay.protocols.trickle.publisher import TricklePublisher
from relay.rpc.events import Event
from relay.worker.outbox import MAX_WAITING, Outbox
from tests.worker.desk import desk, until


def event(number: int) -> Event:
    return Event({"type": "test", "number": number})


async def test_events_arrive_in_order_and_the_newest_are_kept() -> None:
    async with desk() as it:
        publisher = TricklePublisher(it._session, it.url("mid-events"))
        outbox = Outbox(publisher)
        for number in range(MAX_WAITING + 5):
            outbox.put(event(number))
        assert outbox.lost == 5
        task = asyncio.create_task(outbox.run())
        await outbox.drained(10)
        await until(lambda: it.events and it.events[-1].body["number"] == MAX_WAITING + 4)
        numbers = [each.body["number"] for each in it.events]
        assert numbers == sorted(numbers)
        task.cancel()
        await publisher.close()


async def test_a_closed_channel_loses_events_and_nothing_else() -> None:
    async with desk() as it:
        publisher = TricklePublisher(it._session, it.url("nowhere"))
        outbox = Outbox(publisher)
        task = asyncio.create_task(outbox.run())
        outbox.put(event(1))
        await outbox.drained(10)
        outbox.put(event(2))
        await outbox.drained(10)
        assert outbox.lost == 2
        assert not task.done()
        task.cancel()
        await publisher.close()


async def test_a_job_without_an_events_channel_has_nothing_to_send() -> None:
    outbox = Outbox(None)
    outbox.put(event(1))
    await outbox.drained(0)
    assert outbox.lost == 0


async def test_waiting_for_the_last_words_is_bounded() -> None:
    async with desk() as it:
        outbox = Outbox(TricklePublisher(it._session, it.url("mid-events")))
        outbox.put(event(1))
        await outbox.drained(0.01)  # nothing sends: run was never called
