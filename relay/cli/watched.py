"""What a crowd of viewers saw, in figures. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from rich.table import Table
from rich.text import Text

STILL: Final = 2.0
"""Seconds without a new picture after which a viewer was not served."""
NOTHING: Final = 1.0
"""Seconds without picture or sound for anyone after which that is said."""

FULL: Final = 0.9
"""Share of a core from which a crowd in one process may lose by itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one viewer has come to.

    Attributes:
        connected: seconds from its offer until media could flow, None: it does not.
        first: seconds from its offer to its first picture, None: none yet.
        pictures, octets: whole ones, so far, but for those that our gateway squeezes together at
            a join for the next to be decoded; octets of media, sound among it.
        packets, lost: so far; lost on the way, made up for or not.
        why: it could not join, or was ended, and is not there now.
        still: the longest time in the window, in seconds, without a new picture.
        quiet: seconds since the last one, or since the window began.
        unheard: seconds since anything came, picture or sound; 0 where nothing ever has.
        returns: how often it joined again when its connection was lost.
        span: seconds of the stream, by the pictures' own times, that have come so far.
    """

    connected: float | None
    first: float | None
    pictures: int
    octets: int
    packets: int
    lost: int
    why: str = ""
    still: float = 0.0
    quiet: float = 0.0
    unheard: float = 0.0
    returns: int = 0
    span: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """What all of them saw.

    Attributes:
        joined: viewers that were connected; of them ``ended`` were before the end.
        connected, first: seconds, of those that were, sorted.
        seconds: of the window that rates are of.
        rate: pictures a second of all; ``rates`` of each that was there to the end, sorted.
        bitrate: bits a second of all.
        octets, packets, lost: in the window.
        reasons: why viewers could not join, or were ended.
        cpu: share of a core that watching took, each process that did.
        still: viewers that were there to the end, and saw nothing new for STILL meanwhile.
        returned: viewers that were there to the end, by another connection than their first.
        state: what the gateway says of the stream, where that was asked.
    """

    viewers: int
    joined: int
    ended: int
    connected: tuple[float, ...]
    first: tuple[float, ...]
    seconds: float
    rate: float
    rates: tuple[float, ...]
    octets: int
    packets: int
    lost: int
    reasons: Counter[str]
    cpu: tuple[float, ...]
    still: int = 0
    returned: int = 0
    state: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Told:
        """What ``as_dict`` made of one."""
        lists = {name: tuple(given[name]) for name in ("connected", "first", "rates", "cpu")}
        return cls(**{**given, **lists, "reasons": Counter(given["reasons"])})

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "reasons": dict(self.reasons)}

    @property
    def bitrate(self) -> float:
        return self.octets * 8 / self.seconds

    @property
    def without_picture(self) -> int:
        """Connected, and never saw anything."""
        return self.joined - len(self.first)

    @property
    def share_lost(self) -> float:
        return self.lost / max(1, self.packets + self.lost)

    @property
    def why(self) -> str:
        """What did not go well, in words; empty when all did."""
        words = []
        if missing := self.viewers - self.joined:
            words.append(f"{missing} of {self.viewers} viewers could not join")
        if self.ended:
            words.append(f"{self.ended} were ended before they left")
        if self.returned:
            words.append(f"{self.returned} lost the connection and joined again")
        if self.without_picture:
            words.append(f"{self.without_picture} saw no picture")
        if self.still:
            words.append(f"{self.still} saw nothing new for {STILL:g} s or more")
        more = [f"{count} x {reason}" for reason, count in self.reasons.most_common(2)]
        if self.state:
            more.append(f"the stream is {self.state}")
        return "; ".join([", ".join(words), *more]) if words else ""

    def with_state(self, state: str) -> Told:
        return replace(self, state=state)


def summed(before: Sequence[Seen], after: Sequence[Seen], seconds: float, *, cpu: float) -> Told:
    """The same viewers at both ends of a window of ``seconds``."""
    seconds = max(seconds, 0.001)
    pairs = [*zip(before, after, strict=True)]
    there = [seen for seen in after if seen.connected is not None]
    rates = [_rate(a, b, seconds) for a, b in pairs if b.connected and not b.why]
    return Told(
        viewers=len(after),
        joined=len(there),
        ended=sum(bool(seen.why) for seen in there),
        connected=tuple(sorted(seen.connected or 0.0 for seen in there)),
        first=tuple(sorted(seen.first for seen in there if seen.first is not None)),
        seconds=seconds,
        rate=sum(_rate(a, b, seconds) for a, b in pairs),
        rates=tuple(sorted(rates)),
        octets=sum(b.octets - a.octets for a, b in pairs),
        packets=sum(b.packets - a.packets for a, b in pairs),
        lost=sum(b.lost - a.lost for a, b in pairs),
        reasons=Counter(seen.why for seen in after if seen.why),
        cpu=(cpu,),
        still=sum(b.still >= STILL for b in there if b.first is not None and not b.why),
        returned=sum(bool(b.returns) for b in there if not b.why),
    )


def _rate(before: Seen, after: Seen, seconds: float) -> float:
    """Pictures a second. Where a server sends those that catch up at a join with their own times,
    they are of more seconds of the stream than it took them to come."""
    return (after.pictures - before.pictures) / max(seconds, after.span - before.span)


def merged(parts: Sequence[Told]) -> Told:
    """What several processes saw at the same time, as if by one."""
    if len(parts) == 1:
        return parts[0]

    def total(name: str) -> Any:
        return sum(getattr(part, name) for part in parts)

    def all_of(name: str) -> tuple[float, ...]:
        return tuple(sorted(each for part in parts for each in getattr(part, name)))

    return Told(
        viewers=total("viewers"),
        joined=total("joined"),
        ended=total("ended"),
        connected=all_of("connected"),
        first=all_of("first"),
        seconds=max(part.seconds for part in parts),
        rate=total("rate"),
        rates=all_of("rates"),
        octets=total("octets"),
        packets=total("packets"),
        lost=total("lost"),
        reasons=sum((part.reasons for part in parts), Counter()),
        cpu=all_of("cpu"),
        still=total("still"),
        returned=total("returned"),
    )


@dataclass(frozen=True, slots=True)
class Glance:
    """What a crowd sees at a moment.

    Attributes:
        joined, lost: viewers that are connected, and that are not any more, or never were.
        rate, bitrate: pictures and bits a second.
        still: of those connected, who has seen nothing new for STILL.
        returned: of those connected, who had lost the connection before.
        why: what most of the lost ones say.
        nothing: for so many seconds nothing has come to any of those connected; 0 below NOTHING.
        early: between two that are a second apart, for what cannot wait.
    """

    joined: int
    lost: int
    rate: float
    bitrate: float
    still: int = 0
    returned: int = 0
    why: str = ""
    nothing: float = 0.0
    early: bool = False


def glance(before: Sequence[Seen], after: Sequence[Seen], seconds: float) -> Glance:
    told = summed(before, after, seconds, cpu=0.0)
    there = [seen for seen in after if seen.connected is not None and not seen.why]
    nothing = min((seen.unheard for seen in there), default=0.0)
    return Glance(
        joined=len(there),
        lost=told.reasons.total(),
        rate=told.rate,
        bitrate=told.bitrate,
        still=sum(seen.quiet >= STILL for seen in there),
        returned=told.returned,
        why=told.reasons.most_common(1)[0][0] if told.reasons else "",
        nothing=nothing if nothing >= NOTHING else 0.0,
    )


def at(found: Sequence[float], share: float) -> float | None:
    """The value that ``share`` of them (sorted) do not exceed; None of none."""
    return found[min(len(found) - 1, int(share * len(found)))] if found else None


def in_figures(told: Told) -> dict[str, Any]:
    """For a program: times in milliseconds."""
    return {
        "viewers": told.viewers,
        "connected": told.joined,
        "ended": told.ended,
        "with_picture": len(told.first),
        "still": told.still,
        "returned": told.returned,
        "connect_ms": _percentiles(told.connected, 1000),
        "first_picture_ms": _percentiles(told.first, 1000),
        "seconds": round(told.seconds, 3),
        "pictures_per_second": round(told.rate, 1),
        "pictures_per_second_each": {
            "least": told.rates[0] if told.rates else None,
            "p50": at(told.rates, 0.5),
        },
        "packets": told.packets,
        "lost": told.lost,
        "bytes": told.octets,
        "bitrate": round(told.bitrate),
        "cpu": [round(share, 3) for share in told.cpu],
        "reasons": dict(told.reasons),
        "why": told.why,
    }


def _percentiles(found: Sequence[float], scale: float) -> dict[str, float | None]:
    ends = {"p50": at(found, 0.5), "p95": at(found, 0.95), "max": at(found, 1.0)}
    return {name: None if it is None else round(it * scale, 1) for name, it in ends.items()}


def table(told: Told) -> Table:
    """For a person."""
    shown = Table(box=None, show_header=False)
    shown.add_column(style="bold")
    shown.add_column()
    ended = f", {told.ended} ended before they left" if told.ended else ""
    again = f", {told.returned} joined again" if told.returned else ""
    shown.add_row("viewers", f"{told.joined} of {told.viewers} connected{ended}{again}")
    shown.add_row("connected after", _times(told.connected))
    shown.add_row("first picture after", _times(told.first))
    shown.add_row("pictures a second", f"{told.rate:.0f}")
    if told.rates:
        middle = told.rates[len(told.rates) // 2]
        shown.add_row("of each viewer", f"{told.rates[0]:.1f} at least, {middle:.1f} in the middle")
    lost = f"{told.lost} of {told.packets + told.lost} packets ({told.share_lost * 100:.2f} %)"
    shown.add_row("lost on the way", lost)
    amount = f"{told.octets / 1e6:.1f} MB in {told.seconds:.1f} s"
    shown.add_row("bytes", f"{amount}, {told.bitrate / 1e6:.1f} Mbit/s")
    shown.add_row("this command took", " + ".join(f"{share:.2f}" for share in told.cpu) + " cores")
    if max(told.cpu) > FULL:
        words = "it may have lost by itself: watch with fewer, or from elsewhere too"
        shown.add_row("", Text(words, style="yellow"))
    for reason, count in told.reasons.most_common(5):
        shown.add_row(Text("lost", style="yellow"), Text(f"{count} x {reason}"))
    return shown


def _times(found: Sequence[float]) -> str:
    if not found:
        return "-"
    ends = (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    return ", ".join(f"{name} {(at(found, share) or 0) * 1000:.0f} ms" for name, share in ends)
