from __future__ import annotations

import numpy as np
import pytest

from relay.errors import ParseError
from relay.media.unit import VIDEO_CLOCK, AccessUnit, Codec
from relay.worker.codec import Decoder, Encoder, Picture
from tests.worker import clip


def luma_error(left: Picture, right: Picture) -> float:
    a = left.to_array("yuv420p", left.size).astype(int)
    b = right.to_array("yuv420p", right.size).astype(int)
    return float(np.abs(a - b).mean())


def test_each_frame_leaves_in_the_call_that_brought_it() -> None:
    encoder, decoder = Encoder(2_000_000, 2.0), Decoder()
    for number in range(40):
        source = clip.picture(320, 176, number)
        unit = encoder.encode(source)
        assert unit is not None
        assert unit.pts == source.pts
        [decoded] = decoder.decode(unit)
        assert decoded.pts == source.pts
        assert decoded.size == (320, 176)
        assert luma_error(decoded, source) < 12


def test_key_frames_come_at_the_interval_and_on_request() -> None:
    encoder = Encoder(1_000_000, 1.0)
    keys = []
    for number in range(70):
        if number == 40:
            encoder.request_keyframe()
        unit = encoder.encode(clip.picture(64, 48, number))
        assert unit is not None
        if unit.keyframe:
            keys.append(number)
            assert b"\x00\x00\x00\x01\x67" in unit.payload
            assert b"\x00\x00\x00\x01\x68" in unit.payload
    assert keys == [0, 30, 40]


def noise(times: list[int], bitrate: int, keyframe_interval: float) -> list[AccessUnit]:
    """Pictures of these times that no encoder makes small, encoded."""
    rng = np.random.default_rng(3)
    encoder = Encoder(bitrate, keyframe_interval)
    base = clip.flat(320, 176, 100, 0)
    units = []
    for pts in times:
        frame = base.replaced(rng.integers(16, 235, (176 * 3 // 2, 320), dtype=np.uint8), "yuv420p")
        frame.pts = pts
        unit = encoder.encode(frame)
        assert unit is not None
        units.append(unit)
    return units


def worst_second(units: list[AccessUnit]) -> int:
    """The most bits of any second that a picture begins."""
    return max(
        sum(8 * len(unit.payload) for unit in units if 0 <= unit.pts - first.pts < VIDEO_CLOCK)
        for first in units
    )


def test_noise_stays_near_the_bitrate_and_key_frames_do_not_balloon() -> None:
    units = noise([number * clip.STEP for number in range(90)], 500_000, 1.0)
    keys = [len(unit.payload) for unit in units if unit.keyframe]
    assert sum(len(unit.payload) for unit in units) * 8 / 3 < 500_000 * 1.6
    assert max(keys[1:]) * 8 < 500_000 * 0.5


@pytest.mark.parametrize("silent", [1.0, 1.6, 2.5])
def test_a_standstill_does_not_make_the_encoder_overshoot(silent: float) -> None:
    times = [number * clip.STEP for number in range(240)]
    gap = range(2 * VIDEO_CLOCK + 20_000, round((2 + silent) * VIDEO_CLOCK) + 20_000)
    units = noise([pts for pts in times if pts not in gap], 500_000, 2.0)
    assert worst_second(units) < 500_000 * 1.6


def test_a_frame_rate_that_rises_is_planned_for_at_once_by_one_key_frame() -> None:
    slow = [number * 6 * clip.STEP for number in range(21)]  # four seconds
    fast = [slow[-1] + number * clip.STEP for number in range(1, 150)]
    units = noise([*slow, *fast], 500_000, 2.0)
    risen = [unit for unit in units if unit.pts > slow[-1]]
    assert worst_second(risen) < 500_000 * 2.5
    assert worst_second([unit for unit in risen if unit.pts > slow[-1] + VIDEO_CLOCK]) < 800_000
    early = [unit.pts for unit in risen if unit.pts < slow[-1] + VIDEO_CLOCK and unit.keyframe]
    assert len(early) == 1


def test_another_frame_rate_is_planned_for_at_the_next_key_frame() -> None:
    encoder = Encoder(1_000_000, 1.0)
    for number in range(200):
        unit = encoder.encode(clip.picture(64, 48, number, number * clip.STEP // 2))
        assert unit is not None
    assert encoder.reopened == 1


def test_a_new_size_goes_through_as_a_key_frame() -> None:
    encoder, decoder = Encoder(1_000_000, 5.0), Decoder()
    sizes, keys = [], []
    for number in range(20):
        portrait = number >= 10
        source = clip.picture(96, 160, number) if portrait else clip.picture(160, 96, number)
        unit = encoder.encode(source)
        assert unit is not None
        sizes += [decoded.size for decoded in decoder.decode(unit)]
        keys.append(unit.keyframe)
    assert sizes == [(160, 96)] * 10 + [(96, 160)] * 10
    assert [number for number, key in enumerate(keys) if key] == [0, 10]


def test_a_frame_out_of_order_is_left_out_and_a_source_that_begins_anew_is_not() -> None:
    encoder = Encoder(1_000_000, 5.0)
    assert encoder.encode(clip.picture(64, 48, 0, 900_000)) is not None
    assert encoder.encode(clip.picture(64, 48, 0, 900_000)) is None
    assert encoder.encode(clip.picture(64, 48, 0, 897_000)) is None
    again = encoder.encode(clip.picture(64, 48, 0, 900_000 - VIDEO_CLOCK))
    assert again is not None
    assert again.keyframe
    following = encoder.encode(clip.picture(64, 48, 1, 903_000 - VIDEO_CLOCK))
    assert following is not None
    assert not following.keyframe


def test_a_very_late_timestamp_is_encoded() -> None:
    encoder, decoder = Encoder(1_000_000, 5.0), Decoder()
    unit = encoder.encode(clip.picture(64, 48, 0, 1 << 40))
    assert unit is not None
    [decoded] = decoder.decode(unit)
    assert decoded.pts == 1 << 40


def test_garbage_is_refused_and_the_decoder_goes_on_with_the_next_key_frame() -> None:
    decoder = Decoder()
    with pytest.raises(ParseError):
        decoder.decode(AccessUnit(Codec.H264, b"\xff" * 500, 0, 0.0))
    [decoded] = decoder.decode(clip.video(frames=1)[0])
    assert decoded.size == (160, 96)


def test_nothing_is_shown_before_a_key_frame() -> None:
    decoder = Decoder()
    shown = []
    for unit in clip.video(frames=20)[1:]:
        try:
            shown += decoder.decode(unit)
        except ParseError:
            continue
    assert shown == []


def test_a_picture_over_the_bound_is_refused() -> None:
    huge = clip.foreign("yuv420p", "high", 4096, 2320)
    with pytest.raises(ParseError):
        Decoder().decode(AccessUnit(Codec.H264, huge, 0, 0.0, keyframe=True))


def test_other_chroma_formats_are_converted() -> None:
    unit = AccessUnit(Codec.H264, clip.foreign("yuv444p", "high444"), 0, 0.0, keyframe=True)
    [decoded] = Decoder().decode(unit)
    assert decoded.to_array("yuv420p", decoded.size).shape == (72, 64)
    encoder = Encoder(1_000_000, 2.0)
    again = encoder.encode(decoded)
    assert again is not None
    [back] = Decoder().decode(again)
    assert luma_error(back, decoded) < 3


def test_an_array_is_read_only_and_survives_its_picture() -> None:
    source = clip.picture(64, 48, 5)
    array = source.to_array("yuv420p", source.size)
    del source
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0
    np.testing.assert_array_equal(array, clip.pattern(64, 48, 5))


@pytest.mark.parametrize("matrix", [1, 5, 2])
def test_colours_survive_the_way_through_rgb(matrix: int) -> None:
    red = np.full((48, 64, 3), (200, 40, 30), np.uint8)
    base = clip.flat(64, 48, 100, 0)
    base.encodable().colorspace = matrix
    there = base.replaced(red, "rgb24")
    back = there.to_array("rgb24", (64, 48))
    assert np.abs(back.astype(int) - red).max() < 6
    assert there.encodable().colorspace == base.encodable().colorspace


def test_results_are_scaled_when_asked_to_and_odd_sizes_lose_a_line() -> None:
    base = clip.flat(64, 48, 100, 0)
    small = np.full((24, 32, 3), 90, np.uint8)
    assert base.replaced(small, "rgb24", (64, 48)).size == (64, 48)
    assert base.replaced(clip.pattern(32, 24, 0), "yuv420p", (64, 48)).size == (64, 48)
    odd = base.replaced(np.full((25, 33, 3), 90, np.uint8), "rgb24")
    unit = Encoder(1_000_000, 2.0).encode(odd)
    assert unit is not None
    [decoded] = Decoder().decode(unit)
    assert decoded.size == (32, 24)
