from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile

import pytest

from relay.cli import census, logs


async def test_a_task_and_a_file_are_counted() -> None:
    before = census.take()
    task = asyncio.create_task(asyncio.sleep(60))
    with tempfile.TemporaryFile():
        after = census.take()
    assert sum(after["tasks"].values()) == sum(before["tasks"].values()) + 1
    assert after["descriptors"] == before["descriptors"] + 1
    task.cancel()


async def test_a_signal_asks_for_it(caplog: pytest.LogCaptureFixture) -> None:
    census.install()
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(500):
        if caplog.records:
            break
        await asyncio.sleep(0.01)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
    found = census.read(caplog.records[0].getMessage())
    assert found is not None
    assert found["threads"] >= 1


def test_it_is_read_from_text_and_from_json() -> None:
    record = logging.makeLogRecord(
        {"name": census.log.name, "msg": census.MARK + '{"threads": 2}', "levelno": 30}
    )
    for formatter in (logs.TextFormatter(), logs.JsonFormatter("worker")):
        assert census.read(formatter.format(record)) == {"threads": 2}
    assert census.read("12:00:00 another line") is None
    assert census.read(f"12:00:00 {census.log.name}: another line") is None
