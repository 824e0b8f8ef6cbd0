from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.protocols.trickle.client import open_session
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.subscriber import TrickleSubscriber
from relay.rpc import records
from tests.protocols.trickle.test_tls import certificate, serving
from tests.protocols.trickle.wire import serve


@pytest.fixture
def by_record(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that TLS is read with, while what a process is told at its start holds."""
    asked: list[int] = []

    class Seen(records.RecordReader):
        def read(self, len: int = 1024, buffer: Any = None) -> bytes:  # noqa: A002
            asked.append(len)
            data = super().read(len, buffer)
            assert data.__len__() <= records.RECORD
            return data

    monkeypatch.setattr(ssl.SSLContext, "sslobject_class", Seen)
    return asked


async def test_more_than_a_record_comes_whole(tmp_path: Path, by_record: list[int]) -> None:
    body = bytes(range(256)) * 2000
    async with serve(ssl=serving(certificate(tmp_path))) as site, open_session() as session:
        site.server.create("ch", "video/MP2T")
        publisher = TricklePublisher(session, site.base + "ch", ssl=False)
        subscriber = TrickleSubscriber(session, site.base + "ch", start=0, ssl=False)
        await send_whole(publisher, body)
        assert await (await anext(subscriber)).read(1 << 20) == body
        await subscriber.close()
        await publisher.close()
    assert by_record


def test_it_holds_for_contexts_that_there_are() -> None:
    code = (
        "import ssl\n"
        "before = ssl.create_default_context()\n"
        "from relay.rpc.records import RecordReader, read_by_record\n"
        "read_by_record()\n"
        "one = before.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname='test')\n"
        "assert type(one) is RecordReader\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
