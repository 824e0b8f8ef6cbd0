"""Reads session descriptions (RFC 8866, JSEP) into values. Pure, bounded, forgiving.

What is needed and broken is refused with a stable code; what is optional and broken
is left out, since a stranger's odd attribute is no reason to lose the stream.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from relay.errors import BadInput, TooLarge, Unprocessable

MAX_SIZE: Final = 128 * 1024
MAX_SECTIONS: Final = 32
MAX_CANDIDATES: Final = 64
_MAX_LINES: Final = 256  # of candidates of all kinds, in a section
_MAX_LIST: Final = 64
_MAX_FORMATS: Final = 256

DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")

_LINE: Final = re.compile(r"[a-z]=[^\x00-\x08\x0a-\x1f\x7f]*")  # parts of it are echoed
_LINES: Final = re.compile(rf"(?:{_LINE.pattern}\n)*")
_MEDIA: Final = re.compile(r"([!-~]+) (\d{1,5})(?:/\d+)? ([A-Za-z0-9/]+) (.+)")
_TOKEN: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate with a literal address (RFC 8839 section 5.1).

    Attributes:
        tcptype: of a TCP candidate (RFC 6544 section 4.5), "" for UDP. Only ours have it.
    """

    foundation: str
    priority: int
    host: str
    port: int
    kind: str = "host"
    tcptype: str = ""

    def __str__(self) -> str:
        place = f"{self.priority} {self.host} {self.port} typ {self.kind}"
        if self.tcptype:
            return f"{self.foundation} 1 tcp {place} tcptype {self.tcptype}"
        return f"{self.foundation} 1 udp {place}"


def parse_candidate(value: str) -> Candidate | None:
    """The candidate, or None for all that we cannot send to.

    Dropped in silence (RFC 9725 section 4.3.2): other transports, names (mDNS), addresses
    with a zone, broken lines, and addresses that no single host has. Component 0 is
    taken as 1, as a widespread client writes it.
    """
    parts = value.split()
    if len(parts) < 8 or parts[2].lower() != "udp" or parts[1] not in ("0", "1"):
        return None
    foundation, host, kind = parts[0], parts[4], parts[7]
    if not (parts[3].isdecimal() and parts[5].isdecimal() and parts[6] == "typ"):
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    port, priority = int(parts[5][:12]), int(parts[3][:12])
    if "%" in host or address.is_multicast or address.is_unspecified or host == "255.255.255.255":
        return None
    if not 0 < port < 65536 or not 0 <= priority < 1 << 32:
        return None
    return Candidate(foundation[:32], priority, str(address), port, kind[:16])


@dataclass(slots=True)
class Format:
    """One payload type of a media section."""

    payload_type: int
    name: str = ""  # lower case
    clock_rate: int = 0
    channels: int = 1
    parameters: dict[str, str | None] = field(default_factory=dict)  # fmtp, in wire order
    feedback: list[str] = field(default_factory=list)  # "nack", "nack pli", "transport-cc"...

    def parameter(self, name: str) -> str | None:
        return self.parameters.get(name)


@dataclass(slots=True)
class Transport:
    """The attributes of ICE and DTLS, which stand in a section or above all of them."""

    ufrag: str | None = None
    pwd: str | None = None
    setup: str | None = None
    fingerprints: list[tuple[str, str]] = field(default_factory=list)  # (hash, hex with colons)
    direction: str | None = None


@dataclass(slots=True, eq=False)
class Section:
    """One ``m=`` section."""

    kind: str
    port: int
    protocol: str
    format_list: list[str]
    transport: Transport = field(default_factory=Transport)
    formats: dict[int, Format] = field(default_factory=dict)  # in order of preference
    mid: str | None = None
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    bundle_only: bool = False
    simulcast: bool = False
    extensions: dict[str, int] = field(default_factory=dict)  # URI -> id
    stream_ids: list[str] = field(default_factory=list)  # of a=msid
    ssrcs: list[int] = field(default_factory=list)
    ssrc_groups: list[tuple[str, list[int]]] = field(default_factory=list)
    _wildcard_feedback: list[str] = field(default_factory=list)
    _candidates: list[str] = field(default_factory=list)

    @property
    def candidates(self) -> list[Candidate]:
        """Those that can be sent to. Read when they are asked for, which who answers never does."""
        known = (each for each in map(parse_candidate, self._candidates) if each is not None)
        return list(islice(known, MAX_CANDIDATES))

    @property
    def direction(self) -> str:
        return self.transport.direction or "sendrecv"

    @property
    def is_media(self) -> bool:
        return self.kind in ("audio", "video")

    @property
    def rejected(self) -> bool:
        return self.port == 0 and not self.bundle_only


@dataclass(slots=True)
class Description:
    """A whole offer or answer."""

    sections: list[Section]
    bundle: list[str] | None  # the mids of the first BUNDLE group, None without one
    ice_lite: bool


def parse(text: str) -> Description:
    """Read an offer or an answer.

    Raises:
        TooLarge: ``sdp_too_large``, more than ``MAX_SIZE`` characters.
        BadInput: ``sdp_parse``; ``sdp_no_media``; ``sdp_duplicate_mid``.
        Unprocessable: ``too_many_tracks``, more than ``MAX_SECTIONS`` sections.
    """
    if len(text) > MAX_SIZE:
        raise TooLarge("the session description is too large", code="sdp_too_large")
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    lines = [line for line in lines if line]
    if not lines or lines[0] != "v=0":
        raise _bad("a session description begins with v=0")
    session = Transport()
    sections: list[Section] = []
    description = Description(sections, None, False)
    if not _LINES.fullmatch("\n".join([*lines, ""])):
        line = next(line for line in lines if not _LINE.fullmatch(line))
        raise _bad(f"not a line of a session description: {line[:40]!r}")
    for line in lines[1:]:
        if line[0] == "m":
            if len(sections) == MAX_SECTIONS:
                raise Unprocessable("too many media sections", code="too_many_tracks")
            sections.append(_parse_media(line[2:]))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            if not sections:
                _session_attribute(description, session, name, value)
            elif (reader := _READERS.get(name)) is not None:
                reader(sections[-1], value)
            elif (of_both := _TRANSPORT_READERS.get(name)) is not None:
                of_both(sections[-1].transport, value)
    if not sections:
        raise BadInput("the session description has no media section", code="sdp_no_media")
    mids = [section.mid for section in sections if section.mid is not None]
    if len(set(mids)) != len(mids):
        raise BadInput("two media sections have the same mid", code="sdp_duplicate_mid")
    for section in sections:
        _inherit(section, session)
    return description


def _bad(message: str) -> BadInput:
    return BadInput(message, code="sdp_parse")


def _parse_media(value: str) -> Section:
    match = _MEDIA.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise _bad(f"not a media line: {value[:40]!r}")
    section = Section(match[1], int(match[2]), match[3], match[4].split()[:_MAX_FORMATS])
    if section.is_media:
        for text in section.format_list:
            if not text.isdecimal() or int(text[:4]) > 127:
                raise _bad(f"not a payload type: {text[:10]!r}")
            section.formats.setdefault(int(text), Format(int(text)))
    return section


def _inherit(section: Section, session: Transport) -> None:
    """Media level first, then session level; and spread ``rtcp-fb:*``."""
    own = section.transport
    own.ufrag = own.ufrag or session.ufrag
    own.pwd = own.pwd or session.pwd
    own.setup = own.setup or session.setup
    own.direction = own.direction or session.direction
    own.fingerprints = own.fingerprints or session.fingerprints
    for entry in section.formats.values():
        entry.feedback += [f for f in section._wildcard_feedback if f not in entry.feedback]


def _session_attribute(description: Description, session: Transport, name: str, value: str) -> None:
    if name == "group":
        kind, *mids = value.split() or [""]
        if kind == "BUNDLE" and description.bundle is None:
            description.bundle = mids
    elif name == "ice-lite":
        description.ice_lite = True
    elif name in _TRANSPORT_READERS:
        _TRANSPORT_READERS[name](session, value)


def _read_ufrag(transport: Transport, value: str) -> None:
    transport.ufrag = check_ice_token(value, 4)


def _read_pwd(transport: Transport, value: str) -> None:
    transport.pwd = check_ice_token(value, 22)


def _read_setup(transport: Transport, value: str) -> None:
    transport.setup = value.lower()


def _read_fingerprint(transport: Transport, value: str) -> None:
    parts = value.split()
    if len(parts) == 2 and len(transport.fingerprints) < 8:
        transport.fingerprints.append((parts[0].lower(), parts[1].upper()))


def _direction(name: str) -> Callable[[Transport, str], None]:
    def read(transport: Transport, value: str) -> None:
        transport.direction = name

    return read


def check_ice_token(value: str, least: int) -> str:
    """An ICE user name or password of a sane length (RFC 8839 section 5.4).

    Raises:
        BadInput: ``sdp_ice``.
    """
    value = value.strip()
    if not least <= len(value) <= 256 or not _TOKEN.fullmatch(value):
        raise BadInput("ice-ufrag or ice-pwd has a wrong length or form", code="sdp_ice")
    return value


def _read_mid(section: Section, value: str) -> None:
    if not 0 < len(value) <= 255 or not _TOKEN.fullmatch(value):
        raise _bad("not a mid")
    section.mid = value


def _read_candidate(section: Section, value: str) -> None:
    if len(section._candidates) < _MAX_LINES:
        section._candidates.append(value)


def _read_extmap(section: Section, value: str) -> None:
    parts = value.split()
    number = parts[0].partition("/")[0] if parts else ""
    # 15 and above need the two-byte form, which we never answer with (RFC 8285 section 4.2).
    usable = len(parts) >= 2 and number.isdecimal() and 1 <= int(number[:4]) <= 14
    if usable and len(section.extensions) < _MAX_LIST:
        section.extensions.setdefault(parts[1], int(number))


def _read_rtpmap(section: Section, value: str) -> None:
    entry, rest = _format_of(section, value)
    parts = rest.split("/")
    if entry is None or len(parts) < 2 or not parts[1].isdecimal():
        return
    entry.name, entry.clock_rate = parts[0].lower(), int(parts[1][:9])
    if len(parts) > 2 and parts[2].isdecimal():
        entry.channels = int(parts[2][:3])


def _read_fmtp(section: Section, value: str) -> None:
    entry, rest = _format_of(section, value)
    if entry is None:
        return
    for part in rest.split(";")[:_MAX_LIST]:
        key, equals, text = part.strip().partition("=")
        if key:
            entry.parameters[key.strip().lower()] = text.strip() if equals else None


def _read_feedback(section: Section, value: str) -> None:
    number, _, rest = value.partition(" ")
    text = " ".join(rest.split())
    if number == "*":
        if len(section._wildcard_feedback) < _MAX_LIST:
            section._wildcard_feedback.append(text)
        return
    entry, _ = _format_of(section, value)
    if entry is not None and len(entry.feedback) < _MAX_LIST:
        entry.feedback.append(text)


def _format_of(section: Section, value: str) -> tuple[Format | None, str]:
    number, _, rest = value.partition(" ")
    entry = section.formats.get(int(number)) if number.isdecimal() and len(number) < 4 else None
    return entry, rest.strip()


def _read_msid(section: Section, value: str) -> None:
    parts = value.split()
    known = not parts or parts[0] == "-" or parts[0] in section.stream_ids
    if not known and len(section.stream_ids) < _MAX_LIST:
        section.stream_ids.append(parts[0])


def _read_ssrc(section: Section, value: str) -> None:
    number = _ssrc(value.partition(" ")[0])
    if number is not None and number not in section.ssrcs and len(section.ssrcs) < _MAX_LIST:
        section.ssrcs.append(number)


def _read_ssrc_group(section: Section, value: str) -> None:
    semantic, *numbers = value.split()[:_MAX_LIST] or [""]
    ssrcs = [ssrc for ssrc in map(_ssrc, numbers) if ssrc is not None]
    if len(section.ssrc_groups) < _MAX_LIST:
        section.ssrc_groups.append((semantic, ssrcs))


def _ssrc(text: str) -> int | None:
    if text.isdecimal() and len(text) <= 10 and int(text) < 1 << 32:
        return int(text)
    return None


def _flag(name: str) -> Callable[[Section, str], None]:
    def read(section: Section, value: str) -> None:
        setattr(section, name, True)

    return read


_TRANSPORT_READERS: Final[Mapping[str, Callable[[Transport, str], None]]] = {
    "ice-ufrag": _read_ufrag,
    "ice-pwd": _read_pwd,
    "setup": _read_setup,
    "fingerprint": _read_fingerprint,
    **{name: _direction(name) for name in DIRECTIONS},
}

_READERS: Final[Mapping[str, Callable[[Section, str], None]]] = {
    "mid": _read_mid,
    "candidate": _read_candidate,
    "extmap": _read_extmap,
    "rtpmap": _read_rtpmap,
    "fmtp": _read_fmtp,
    "rtcp-fb": _read_feedback,
    "msid": _read_msid,
    "ssrc": _read_ssrc,
    "ssrc-group": _read_ssrc_group,
    "rtcp-mux": _flag("rtcp_mux"),
    "rtcp-mux-only": _flag("rtcp_mux"),
    "rtcp-rsize": _flag("rtcp_rsize"),
    "bundle-only": _flag("bundle_only"),
    "simulcast": _flag("simulcast"),
}
