"""What the gateway and a process of its own say to one another, as values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc.stun import Address


@dataclass(frozen=True, slots=True)
class Unit:
    """Gateway: one access unit of a rendition.

    Attributes:
        payloads, timestamp: as ``Egress.frame`` takes them.
        at: monotonic seconds when it was sent, of the clock that both sides share.
        kept: it is of the group of pictures that new viewers begin with; the others had it.
    """

    rendition: int
    codec: Codec
    payloads: Sequence[bytes]
    timestamp: int
    at: float
    keyframe: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """Child: one access unit of a publisher, as ``IngestSink.unit`` takes it."""

    publisher: int
    unit: AccessUnit


@dataclass(frozen=True, slots=True)
class Datagram:
    """Gateway: it came from ``address``. Child: send it there, to a peer by TCP.

    Attributes:
        foreign: another process's peer is heard from there: answer, and claim nothing.
    """

    address: Address
    data: bytes
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Child: an authenticated check has come from there."""

    address: Address


@dataclass(frozen=True, slots=True)
class Release:
    """Child: nobody hears from there any more."""

    address: Address


@dataclass(frozen=True, slots=True)
class Expect:
    """Child: a check goes there; its answer is for me."""

    address: Address


@dataclass(frozen=True, slots=True)
class Lost:
    """Gateway: the TCP connection of that address has ended."""

    address: Address


# -- JSON


@dataclass(frozen=True, slots=True)
class Configure:
    """Gateway, first of all.

    Attributes:
        settings: of ``relay.config.WebRtc``.
        candidates: fields of a ``Candidate`` each.
        level: of the log.
    """

    settings: dict[str, Any]
    candidates: list[Any]
    level: int


@dataclass(frozen=True, slots=True)
class Open:
    """Gateway: a rendition that viewers here are about to watch."""

    rendition: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Gateway: start no viewer from the pictures so far."""

    rendition: int


@dataclass(frozen=True, slots=True)
class Shut:
    """Gateway: the rendition is over here; viewers, if any, are told."""

    rendition: int
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Gateway: let a viewer in. The reply has ``id``, ``answer`` and ``etag``."""

    call: int
    rendition: int
    offer: str


@dataclass(frozen=True, slots=True)
class Receive:
    """Gateway: let a publisher in, whose media comes under this number. The reply has ``id``,
    ``answer``, ``etag``, ``has_video`` and ``has_audio``."""

    call: int
    publisher: int
    offer: str


@dataclass(frozen=True, slots=True)
class AskKeyframe:
    """Gateway: ask the publisher for one, as ``IngestSession.request_keyframe``."""

    publisher: int


@dataclass(frozen=True, slots=True)
class Patch:
    """Gateway: as ``Session.patch``, the body as Latin-1. The reply has its fields, and the
    session's ``current`` entity tag."""

    call: int
    session: str
    body: str
    if_match: str | None


@dataclass(frozen=True, slots=True)
class Close:
    """Gateway: end a session."""

    call: int
    session: str
    reason: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """Gateway: what these viewers get. The reply has ``viewers``, those that are still here."""

    call: int
    sessions: list[Any]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Gateway: end all sessions with this reason, then yourself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Child: peers may come."""


@dataclass(frozen=True, slots=True)
class Load:
    """Child, several times a second.

    Attributes:
        share: of a core that it took in the last seconds.
        peers: sessions that it has.
        late: pictures that it has left out so far: they came too late, or the gateway did not
            read.
        dropped: as ``Peers.dropped``.
    """

    share: float
    peers: int
    late: int
    dropped: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """Child, several times a second.

    Attributes:
        publishers: of each its number and the fields of its ``IngestStatistics``.
    """

    publishers: list[Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """Child, to a call.

    Attributes:
        error: ``type``, ``message``, ``code`` and ``retry_after`` of a RelayError.
    """

    call: int
    result: dict[str, Any]
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ufrag:
    """Child: checks with this user name are for me, or no longer."""

    ufrag: str
    mine: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Child: a viewer of the rendition needs a key frame."""

    rendition: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Child: a session is over."""

    session: str
    reason: str


@dataclass(frozen=True, slots=True)
class Farewell:
    """Child: what to send to a peer, and where, when this process is lost.

    Attributes:
        address: of its socket, as a list.
        datagrams: in hexadecimal digits.
    """

    session: str
    address: list[Any]
    datagrams: list[Any]


@dataclass(frozen=True, slots=True)
class LogLine:
    """Child: a line for the gateway's log."""

    level: int
    name: str
    text: str


Call = Answer | Receive | Patch | Close | Statistics
Said = (
    Configure | Open | Forget | Shut | Call | AskKeyframe | Goodbye
    | Ready | Load | Figures | Reply | Ufrag | Wanted | Ended | Farewell | LogLine
)  # fmt: skip
Placed = Claim | Release | Expect | Lost
Message = Unit | Received | Datagram | Placed | Said
