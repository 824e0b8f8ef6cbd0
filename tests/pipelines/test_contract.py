from __future__ import annotations

import numpy as np

from pipelines.contract import Frame, Pipeline, blank, planes
from pipelines.echo import Echo
from pipelines.passthrough import Passthrough


def test_planes_are_views_in_the_order_of_i420() -> None:
    frame = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    y, u, v = planes(frame)
    assert y.shape == (4, 8)
    assert u.shape == v.shape == (2, 4)
    assert u.ravel().tolist() == list(range(32, 40))
    assert v.ravel().tolist() == list(range(40, 48))
    v[:] = 9
    assert (frame.ravel()[40:] == 9).all()


def test_planes_of_a_height_that_is_no_multiple_of_four() -> None:
    frame = blank(6, 10)
    y, u, v = planes(frame)
    assert (y.shape, u.shape, v.shape) == ((10, 6), (5, 3), (5, 3))
    for plane, value in ((y, 1), (u, 2), (v, 3)):
        plane[:] = value
    assert np.bincount(frame.ravel()).tolist() == [0, 60, 15, 15]


def test_a_pipeline_needs_nothing_but_process() -> None:
    class Minimal(Pipeline):
        def process(self, frame: Frame, pts: int) -> Frame:
            return frame

    pipeline = Minimal()
    pipeline.load({})
    pipeline.reset()
    pipeline.update({})
    assert pipeline.frame_size(64, 36) == (64, 36)
    assert pipeline.schema["properties"] == {}
    pipeline.close()


def test_passthrough_hands_the_same_frame_back_and_echo_is_never_asked() -> None:
    frame = blank(8, 4)
    assert Passthrough().process(frame, 0) is frame
    assert Echo.untouched
    assert not Passthrough.untouched
