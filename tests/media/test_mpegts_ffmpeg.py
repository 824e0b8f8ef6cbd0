"""FFmpeg, by PyAV and by its command, as the reference for transport streams."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from relay.media.h264 import AUD, is_keyframe, join_annexb, nal_type, split_annexb
from relay.media.mpegts import Demuxer, Muxer
from relay.media.segmenter import Cut, Segmenter
from relay.media.unit import AccessUnit, Codec

pytestmark = pytest.mark.usefixtures("backend")

PICTURES = 45
WIDTH, HEIGHT = 192, 128
TICKS = Fraction(1, 90000)


@functools.cache
def clip() -> tuple[AccessUnit, ...]:
    """1.5 s of H.264 with a key frame every 15 pictures, and Opus, by pts."""
    return tuple(sorted((*_video(), *_audio()), key=lambda unit: unit.pts))


def _video() -> list[AccessUnit]:
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "g": "15",
        "crf": "10",
        "x264-params": "slices=2",
    }
    noise = np.random.default_rng(1)
    units: list[AccessUnit] = []
    for n in range(PICTURES + 1):
        frame = None
        if n < PICTURES:
            pixels = noise.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts = n
        for packet in encoder.encode(frame):
            payload = join_annexb(split_annexb(bytes(packet)))
            pts = 90000 + int(packet.pts or 0) * 3000
            units.append(AccessUnit(Codec.H264, payload, pts, 0.0, is_keyframe(payload)))
    return units


def _audio() -> list[AccessUnit]:
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48000, "stereo", "s16"
    encoder.open()
    units: list[AccessUnit] = []
    for n in range(75):
        samples = np.full((1, 2 * encoder.frame_size), n * 100, np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48000, n * encoder.frame_size
        for packet in encoder.encode(frame):
            payload, pts = bytes(packet), 90000 + len(units) * 1800
            units.append(AccessUnit(Codec.OPUS, payload, pts, 0.0))
    return units


def quiet(pts: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(
        np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
    )
    frame.sample_rate, frame.pts = 48000, pts
    return frame


def by_ffmpeg(options: dict[str, str] | None = None, *, aac: bool = False) -> bytes:
    """The clip as FFmpeg's muxer writes it."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts", options=options) as container:
        video: Any = container.add_stream("libx264")
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio: Any = container.add_stream("libopus", rate=48000, layout="stereo")
        silence: Any = container.add_stream("aac", rate=48000) if aac else None
        for unit in clip():
            packet = av.Packet(unit.payload)
            packet.stream = video if unit.is_video else audio
            packet.time_base = TICKS
            packet.pts = packet.dts = unit.pts
            packet.is_keyframe = unit.keyframe or not unit.is_video
            container.mux(packet)
        if silence is not None:
            for n in range(20):
                container.mux(silence.encode(quiet(48000 + 1024 * n)))
    return file.getvalue()


def without_delimiters(packet: Any) -> bytes:
    return join_annexb(n for n in split_annexb(bytes(packet)) if nal_type(n) != AUD)


def opened(data: bytes, options: dict[str, str] | None = None) -> Any:
    return av.open(io.BytesIO(data), format="mpegts", options=options or {})


def ours() -> bytes:
    muxer = Muxer(audio=True)
    return muxer.tables() + b"".join(muxer.write(unit) for unit in clip())


def control_header(packet: bytes) -> bytes:
    full, rest = divmod(len(packet), 255)
    return b"\x7f\xe0" + b"\xff" * full + bytes((rest,))


def of(codec: Codec) -> list[tuple[bytes, int]]:
    return [(unit.payload, unit.pts) for unit in clip() if unit.codec is codec]


@pytest.mark.parametrize("options", [{}, {"fflags": "noparse"}])
def test_ffmpeg_reads_the_packets_that_we_wrote(options: dict[str, str]) -> None:
    with opened(ours(), options) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "opus")
        assert video.time_base == TICKS
        packets = [p for p in container.demux() if p.size]
    assert [(without_delimiters(p), p.pts) for p in packets if p.stream is video] == of(Codec.H264)
    # It is FFmpeg's parser that takes the control header of a packet off.
    sent = of(Codec.OPUS)
    if options:
        sent = [(control_header(payload) + payload, pts) for payload, pts in sent]
    assert [(bytes(p), p.pts) for p in packets if p.stream is audio] == sent


def test_ffmpeg_decodes_what_we_wrote() -> None:
    with opened(ours()) as container:
        frames = list(container.decode(video=0))
    assert [f.pts for f in frames] == [pts for _, pts in of(Codec.H264)]
    assert {(f.width, f.height) for f in frames} == {(WIDTH, HEIGHT)}


def test_ffmpeg_decodes_segments_one_after_another_and_each_alone() -> None:
    segmenter = Segmenter(audio=True, min_duration=0.5)
    segments: list[bytes] = []
    for unit in clip():
        for item in segmenter.push(unit, unit.pts / 90000):
            if isinstance(item, Cut):
                assert item.sequence == len(segments)
                segments.append(b"")
            elif isinstance(item, bytes):
                segments[-1] += item
    assert len(segments) == 3
    for segment in segments:
        with opened(segment) as container:
            assert len(list(container.decode(video=0))) == 15
    with opened(b"".join(segments)) as container:
        assert len(list(container.decode(video=0))) == PICTURES
    with opened(b"".join(segments)) as container:
        sound = [(bytes(p), p.pts) for p in container.demux(audio=0) if p.size]
    assert sound == of(Codec.OPUS)


def test_the_ffmpeg_command_has_nothing_to_say() -> None:
    ffmpeg = shutil.which("ffmpeg")
    assert ffmpeg, "FFmpeg is needed for the tests"
    done = subprocess.run(
        [
            *(ffmpeg, "-v", "warning", "-err_detect", "explode"),
            *("-f", "mpegts", "-i", "pipe:0", "-c", "copy", "-f", "null", "-"),
        ],
        input=ours(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "options",
    [
        {},  # video without PES lengths, several Opus packets a PES
        {"omit_video_pes_length": "0"},
        {"pes_payload_size": "0"},
        {"flush_packets": "1", "mpegts_flags": "resend_headers"},
        {"mpegts_start_pid": "0x321", "mpegts_pmt_start_pid": "0x54"},
    ],
)
@pytest.mark.parametrize("size", [188, 1000, 1 << 20])
def test_we_read_what_ffmpeg_wrote(options: dict[str, str], size: int) -> None:
    data = by_ffmpeg(options)
    demuxer = Demuxer()
    units = []
    for at in range(0, len(data), size):
        units += demuxer.feed(data[at : at + size], 0.0)
    units += demuxer.flush(0.0)
    for codec in Codec:
        assert [(u.payload, u.pts) for u in units if u.codec is codec] == shifted(of(codec), units)
    assert sum(u.keyframe for u in units) == 3
    assert demuxer.dropped_packets == demuxer.dropped_units == demuxer.discontinuities == 0


def shifted(packets: list[tuple[bytes, int]], units: list[AccessUnit]) -> list[tuple[bytes, int]]:
    """FFmpeg adds its preload to every pts."""
    preload = units[0].pts - clip()[0].pts
    assert preload >= 0
    return [(payload, pts + preload) for payload, pts in packets]


def test_aac_beside_opus_is_left_out() -> None:
    demuxer = Demuxer()
    units = demuxer.feed(by_ffmpeg(aac=True), 0.0) + demuxer.flush(0.0)
    assert len(units) == len(clip())
    assert (demuxer.has_video, demuxer.has_audio) == (True, True)


def test_a_program_of_aac_alone_has_nothing_for_us() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream: Any = container.add_stream("aac", rate=48000)
        container.mux(stream.encode(quiet(0)))
        container.mux(stream.encode(None))
    demuxer = Demuxer()
    assert demuxer.feed(file.getvalue(), 0.0) == []
    assert (demuxer.has_video, demuxer.has_audio) == (False, False)


def test_with_lengths_written_by_ffmpeg_each_picture_leaves_with_its_last_packet() -> None:
    data = by_ffmpeg({"omit_video_pes_length": "0"})
    demuxer = Demuxer()
    for at in range(0, len(data), 188):
        demuxer.feed(data[at : at + 188], 0.0)
    assert demuxer.flush(0.0) == []
