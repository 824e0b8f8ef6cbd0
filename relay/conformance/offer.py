"""Session descriptions for the WHIP and WHEP cases, good and bad."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

H264: Final = (
    "a=rtpmap:96 H264/90000",
    "a=rtcp-fb:96 nack",
    "a=rtcp-fb:96 nack pli",
    "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
)
VP8: Final = ("a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack pli")
OPUS: Final = ("a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1")

CANDIDATE: Final = "candidate:1 1 udp 2122260223 127.0.0.1 9 typ host"


def ice_word(length: int) -> str:
    return secrets.token_hex(length)[:length]


@dataclass(frozen=True, slots=True)
class Media:
    """One media section of an offer.

    Attributes:
        lines: of its codec.
        extra: further lines.
    """

    kind: str
    mid: str
    payload_type: int
    lines: Sequence[str]
    extra: Sequence[str] = ()
    port: int = 9
    protocol: str = "UDP/TLS/RTP/SAVPF"


VIDEO: Final = Media("video", "1", 96, H264)
AUDIO: Final = Media("audio", "0", 111, OPUS)
DATA: Final = Media("application", "2", 0, ("a=sctp-port:5000",), protocol="UDP/DTLS/SCTP")


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer; each part can be left out or be made wrong.

    Attributes:
        at_session: ICE and DTLS lines stand before the media sections (OBS).
        bundle: of these mids; None: of all, empty: no group.
    """

    direction: str
    media: Sequence[Media] = (AUDIO, VIDEO)
    ufrag: str = field(default_factory=lambda: ice_word(8))
    pwd: str = field(default_factory=lambda: ice_word(24))
    fingerprint: str = field(
        default_factory=lambda: "sha-256 " + secrets.token_bytes(32).hex(":").upper()
    )
    setup: str = "actpass"
    candidates: Sequence[str] = (CANDIDATE,)
    at_session: bool = False
    bundle: Sequence[str] | None = None
    rtcp_mux_only: bool = True
    msid: str = "stream"

    def but(self, **changes: object) -> Offer:
        """The same with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        out = ["v=0", f"o=- {secrets.randbelow(2**60)} 2 IN IP4 127.0.0.1", "s=-", "t=0 0"]
        mids = [media.mid for media in self.media] if self.bundle is None else self.bundle
        if mids:
            out.append("a=group:BUNDLE " + " ".join(mids))
        transport = self._transport()
        if self.at_session:
            out += transport
        for media in self.media:
            out += self._section(media, [] if self.at_session else transport)
        return "\r\n".join(out) + "\r\n"

    def _transport(self) -> list[str]:
        named = (
            ("ice-ufrag", self.ufrag),
            ("ice-pwd", self.pwd),
            ("fingerprint", self.fingerprint),
            ("setup", self.setup),
        )
        return [f"a={name}:{value}" for name, value in named if value]

    def _section(self, media: Media, transport: Sequence[str]) -> list[str]:
        data = media.kind == "application"
        formats = "webrtc-datachannel" if data else str(media.payload_type)
        out = [
            f"m={media.kind} {media.port} {media.protocol} {formats}",
            "c=IN IP4 0.0.0.0",
            f"a=mid:{media.mid}",
            *transport,
            *(f"a={candidate}" for candidate in self.candidates),
        ]
        if not data:
            if self.direction:
                out.append(f"a={self.direction}")
            out.append("a=rtcp-mux")
            if self.rtcp_mux_only:
                out.append("a=rtcp-mux-only")
            if self.msid and self.direction != "recvonly":
                out.append(f"a=msid:{self.msid} {self.msid}-{media.mid}")
        return [*out, *media.lines, *media.extra]


@dataclass(frozen=True, slots=True)
class Section:
    """A media section of an answer: its first line and its attributes."""

    kind: str
    port: int
    attributes: Sequence[str]

    def values(self, name: str) -> list[str]:
        """Of ``a=name:value``; a bare ``a=name`` counts as an empty one."""
        found = (line.partition(":") for line in self.attributes)
        return [value for key, _, value in found if key == name]


def sections(answer: str) -> tuple[list[str], list[Section]]:
    """The session's attributes, and the media sections.

    Raises:
        ValueError: a media line without a port.
    """
    session: list[str] = []
    found: list[Section] = []
    scope = session
    for line in answer.replace("\r\n", "\n").split("\n"):
        if line.startswith("m="):
            kind, port, *_ = line[2:].split()
            scope = []
            found.append(Section(kind, int(port.partition("/")[0]), scope))
        elif line.startswith("a="):
            scope.append(line[2:])
    return session, found


def fragment(ufrag: str, pwd: str, *lines: str, mid: str = "0") -> bytes:
    """A trickle fragment (RFC 8840 section 9.2)."""
    head = ["a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 111", f"a=mid:{mid}"]
    words = [f"a=ice-ufrag:{ufrag}" if ufrag else "", f"a=ice-pwd:{pwd}" if pwd else ""]
    out = [*head, *filter(None, words), *(f"a={line}" for line in lines)]
    return ("\r\n".join(out) + "\r\n").encode()
