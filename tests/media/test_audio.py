"""How long Opus packets last."""

from __future__ import annotations

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.media.audio import MAX_DURATION, opus_duration


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\x00", 480),  # SILK, 10 ms
        (b"\x18\xff", 2880),  # SILK, 60 ms
        (b"\x60", 480),  # hybrid, 10 ms
        (b"\x68", 960),
        (b"\x80", 120),  # CELT, 2.5 ms
        (b"\x78\xcd", 960),
        (b"\xf8", 960),
        (b"\xf9", 1920),  # two frames of one size
        (b"\xfa", 1920),  # two frames of two sizes
        (b"\xfb\x03", 2880),  # three
        (b"\xfb\xc6", 5760),  # six, with padding and variable sizes
    ],
)
def test_durations(packet: bytes, samples: int) -> None:
    assert opus_duration(packet) == samples


@pytest.mark.parametrize("packet", [b"", b"\xfb", b"\xfb\x00", b"\xfb\x07", b"\x1b\x03"])
def test_malformed_packets_are_refused(packet: bytes) -> None:
    with pytest.raises(ParseError):
        opus_duration(packet)


@given(st.binary(max_size=100))
def test_bytes_of_strangers(packet: bytes) -> None:
    try:
        samples = opus_duration(packet)
    except ParseError:
        return
    assert 120 <= samples <= MAX_DURATION
    assert samples % 120 == 0


@pytest.mark.parametrize("milliseconds", ["2.5", "5", "10", "20", "40", "60", "120"])
def test_packets_of_a_real_encoder(milliseconds: str) -> None:
    context = av.AudioCodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = 48000, "stereo", "s16"
    context.options = {"frame_duration": milliseconds}
    context.open()
    frame = av.AudioFrame(format="s16", layout="stereo", samples=context.frame_size)
    frame.sample_rate = 48000
    packets = [*context.encode(frame), *context.encode(None)]
    assert packets
    assert {opus_duration(bytes(p)) for p in packets} == {round(float(milliseconds) * 48)}
