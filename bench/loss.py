"""What does a viewer see over a bad link, and how soon is all well again?

``python -m bench.loss [--full] [--seeds FIRST]``: 30 pictures a second of 2.2 Mbit/s and sound,
in virtual time, from our own sending side over a seeded link of 30 ms round trip that loses 1, 3,
5 and 10 % both ways and has one packet in ten come 20 to 50 ms late; then a squeeze to 500 kbit/s
of 20 s; then an outage of 2 s. Held against aiortc's receive path (its NACK generator, its jitter
buffer and its reports) behind the same sender and the same link.

A picture counts as shown when it is whole within a second of being sent and all since its key
frame were whole before it, and all that were sent since the stream began count. The seeds are
others than those that thresholds were chosen with (1 to 10).
"""

from __future__ import annotations

import argparse
import sys
from argparse import RawDescriptionHelpFormatter as RawText
from itertools import pairwise
from math import inf
from statistics import median
from typing import Any, Final, NamedTuple

from aiortc.codecs.h264 import h264_depayload
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtcrtpreceiver import NackGenerator, StreamStatistics
from aiortc.rtp import RtpPacket, unwrap_rtx

from bench.report import percentile, report
from relay.protocols.webrtc.rtcp import Nack, PictureLoss, ReceiverReport, ReportBlock
from relay.protocols.webrtc.viewer import ViewerState
from tests.netem import Clock
from tests.watched import FPS, SOUND_EVERY, Watched

LOSSES: Final = (0.01, 0.03, 0.05, 0.10)
LINK: Final[dict[str, Any]] = {
    "delay": 0.015,
    "jitter": 0.002,
    "reorder": 0.1,
    "reorder_by": (0.02, 0.05),
}
NARROW: Final = 500_000.0
SQUEEZE: Final = 20.0
OUTAGE: Final = 2.0
SETTLED: Final = 5.0
AFTER: Final = 12.0
REPORTS: Final = 1.0

LATEST: Final = 1.0
"""Seconds after it was sent in which a picture has to be whole: later it is not shown any more."""
SHOWN_AT_3: Final = 0.995
FREEZE_AT_5: Final = 0.4
BACK: Final = 3.0


class Aiortc(Watched):
    """The same with aiortc's parts as the viewer's receive side, as its receiver joins them.

    Its decoder is taken for one that tells of each picture that it cannot show.
    """

    def __init__(self, clock: Clock, **path: Any) -> None:
        self._nack = NackGenerator()
        self._buffer = JitterBuffer(capacity=512, is_video=True)
        self._statistics = StreamStatistics(90_000)
        self._last = -1
        self._failed = False
        super().__init__(clock, feedback=False, **path)
        clock.at(clock.now + REPORTS, self._report)

    def _arrive(self, data: bytes) -> None:
        packet = RtpPacket.parse(data)
        if packet.ssrc == self._audio.ssrc:
            self.sounds.append((float(packet.payload[:20]), self.clock.now))
            return
        if packet.payload_type == 103:
            packet = unwrap_rtx(packet, payload_type=102, ssrc=1000)
        else:
            self._statistics.add(packet)
        if self._nack.add(packet):
            missing = tuple(sorted(self._nack.missing))
            self.back.send(Nack(1, 1000, missing).serialise())
        setattr(packet, "_data", h264_depayload(packet.payload))  # noqa: B010
        lost, frame = self._buffer.add(packet)
        if lost or self._failed:
            self._failed = False
            self.back.send(PictureLoss(1, 1000).serialise())
        if frame is not None:
            self._decode(frame.data)

    def _decode(self, unit: bytes) -> None:
        number = next((n for n, made in reversed(self._units.items()) if made == unit), None)
        if number is None or not (number == self._last + 1 or b"\x65\x88\x84" in unit[:64]):
            self._failed = True
            return
        self._last = number
        self._show(unit)

    def _report(self) -> None:
        if self._statistics.max_seq is not None:
            lost = self._statistics.fraction_lost
            block = ReportBlock(1000, lost, 0, self._statistics.max_seq, 0, 0, 0)
            self.back.send(ReceiverReport(1, (block,)).serialise())
        self.clock.at(self.clock.now + REPORTS, self._report)


class Seen(NamedTuple):
    """What a viewer saw of a lossy link."""

    missing: float  # share of the pictures: never whole, or later than LATEST
    late: int  # of them whole, but later
    first: float  # seconds to the first picture
    freeze: float  # seconds, the longest
    wait: float  # seconds from sent to shown, 95th percentile


def lossy(kind: type[Watched], loss: float, seed: int, seconds: float) -> Seen:
    watch = kind(Clock(), seed=seed, loss=loss, back_loss=loss, **LINK)
    watch.run(seconds)
    sent = watch.number
    watch.forward.loss = watch.back.loss = 0.0  # the end of it gets through
    watch.run(1)
    whole = [s for s in watch.shown if s.number < sent]
    waits = [s.at - watch.begin - s.number / FPS for s in whole]
    shown = sum(wait <= LATEST for wait in waits)
    first = watch.shown[0]
    freeze = max(b.at - a.at for a, b in pairwise(watch.shown))
    return Seen(
        *(1 - shown / sent, len(whole) - shown, first.at - watch.begin, freeze),
        percentile(waits, 0.95),
    )


def full_rate(watch: Watched, since: float) -> float:
    """Seconds from then until nothing is missing any more."""
    times = sorted(s.at for s in watch.shown if s.at > since)
    for index, at in enumerate(times[: -FPS + 1]):
        if times[index + FPS - 1] - at < 1.1:
            return at - since
    return inf


class Squeezed(NamedTuple):
    """What a viewer saw of a link that grew narrow and wide again."""

    back: float  # seconds to the full rate
    sound: float  # share of the sound in the squeeze
    sound_wait: float  # seconds, 95th percentile there


def squeezed(kind: type[Watched], seed: int) -> Squeezed:
    watch = kind(Clock(), seed=seed, **LINK)
    watch.run(SETTLED)
    begin = watch.clock.now
    watch.forward.rate = NARROW
    watch.run(SQUEEZE)
    end = watch.clock.now
    watch.forward.rate = None
    watch.run(AFTER)
    waits = [there - sent for sent, there in watch.sounds if begin <= sent < end]
    return Squeezed(
        full_rate(watch, end),
        len(waits) / (SQUEEZE / SOUND_EVERY),
        percentile(waits, 0.95) if waits else inf,
    )


def outage(kind: type[Watched], seed: int) -> float:
    """Seconds from the end of an outage to the full rate."""
    watch = kind(Clock(), seed=seed, **LINK)
    watch.run(SETTLED)
    watch.forward.drop = watch.back.drop = lambda _: True
    watch.run(OUTAGE)
    end = watch.clock.now
    watch.forward.drop = watch.back.drop = None
    watch.run(AFTER)
    assert watch.viewer.state is ViewerState.LIVE or kind is Aiortc
    return full_rate(watch, end)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RawText)
    parser.add_argument("--full", action="store_true", help="ten seeds of 60 s; else three of 20")
    parser.add_argument("--seeds", type=int, default=101, metavar="FIRST")
    chosen = parser.parse_args(arguments)
    seeds = range(chosen.seeds, chosen.seeds + (10 if chosen.full else 3))
    seconds = 60.0 if chosen.full else 20.0
    kinds: dict[str, type[Watched]] = {"relay": Watched, "aiortc": Aiortc}
    seen: dict[tuple[str, float], list[Seen]] = {}
    for loss in LOSSES:
        for name, kind in kinds.items():
            runs = seen[name, loss] = [lossy(kind, loss, seed, seconds) for seed in seeds]
            print(
                f"{loss:4.0%} lost  {name:<7} shown {1 - median(r.missing for r in runs):8.3%}"
                f" (worst {1 - max(r.missing for r in runs):.3%}),"
                f" longest freeze {max(r.freeze for r in runs) * 1000:6.0f} ms,"
                f" first picture {max(r.first for r in runs) * 1000:4.0f} ms,"
                f" p95 of the wait {median(r.wait for r in runs) * 1000:5.0f} ms",
                flush=True,
            )
    narrow: dict[str, list[Squeezed]] = {}
    out: dict[str, list[float]] = {}
    for name, kind in kinds.items():
        runs_ = narrow[name] = [squeezed(kind, seed) for seed in seeds]
        out[name] = [outage(kind, seed) for seed in seeds]
        print(
            f"squeeze    {name:<7} full rate {median(r.back for r in runs_):5.2f} s after it"
            f" (worst {max(r.back for r in runs_):.2f}), sound in it"
            f" {median(r.sound for r in runs_):.1%}, p95 of its wait"
            f" {median(r.sound_wait for r in runs_) * 1000:.0f} ms"
        )
        print(
            f"outage     {name:<7} full rate {median(out[name]):5.2f} s after it"
            f" (worst {max(out[name]):.2f})",
            flush=True,
        )
    shown = 1 - max(run.missing for run in seen["relay", 0.03])
    freeze = max(run.freeze for run in seen["relay", 0.05])
    back = max(run.back for run in narrow["relay"])
    pairs = zip(seen["relay", 0.05], seen["aiortc", 0.05], strict=True)
    ratios = [ours.freeze / theirs.freeze for ours, theirs in pairs]
    return report(
        "loss",
        bars={
            f"at 3 % loss: {SHOWN_AT_3:.1%} shown": shown >= SHOWN_AT_3,
            f"at 5 % loss: no freeze of {FREEZE_AT_5:g} s": freeze <= FREEZE_AT_5,
            f"after the squeeze: back in {BACK:g} s": back <= BACK,
        },
        ratio=median(ratios),
        against="aiortc's receive path: the longest freeze at 5 % loss",
        samples=ratios,
        shown_at_3=round(shown, 5),
        late={f"{loss:.0%}": sum(r.late for r in seen["relay", loss]) for loss in LOSSES},
        freeze_at_5_ms=round(freeze * 1000),
        back_after_squeeze_s=round(back, 2),
        back_after_outage_s=round(max(out["relay"]), 2),
        aiortc_shown_at_3=round(1 - max(run.missing for run in seen["aiortc", 0.03]), 5),
        aiortc_freeze_at_5_ms=round(max(run.freeze for run in seen["aiortc", 0.05]) * 1000),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
