"""A viewer that has left is held by nobody here, wherever it was served."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from weakref import ref

import pytest

from relay.protocols.webrtc.egress import EgressSession
from relay.protocols.webrtc.processes.session import FarViewer
from tests.protocols.webrtc.processes.hall import SHOW, hall, until


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _free(session: ref[EgressSession | FarViewer]) -> bool:
    return session() is None


@pytest.mark.usefixtures("uncollected")
async def test_the_session_of_a_viewer_that_left_is_free_while_others_watch() -> None:
    async with hall() as made:
        await made.started()
        made.picture(keyframe=True)
        stays = await made.watcher(1)
        for where in (0, 1):
            session = ref((await made.watcher(where)).session)
            assert made.egress.count(SHOW) == 2
            await made.watchers.pop().leave()
            await until(lambda: made.egress.count(SHOW) == 1)
            await until(partial(_free, session))
        assert [viewer.id for viewer in await made.egress.viewers(SHOW)] == [stays.session.id]
