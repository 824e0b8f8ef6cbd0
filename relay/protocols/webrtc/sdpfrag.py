"""The body of a WHIP or WHEP PATCH: ``application/trickle-ice-sdpfrag`` (RFC 8840 section 9.2).

Pure. Read with CRLF or LF, written with CRLF only: a known client looks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.errors import BadInput, ParseError, TooLarge
from relay.protocols.webrtc.sdp import (
    MAX_CANDIDATES,
    MAX_SECTIONS,
    Candidate,
    check_ice_token,
    parse_candidate,
)

CONTENT_TYPE: Final = "application/trickle-ice-sdpfrag"
MAX_SIZE: Final = 64 * 1024

_LINE: Final = re.compile(r"[a-z]=")


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a PATCH says.

    Attributes:
        ufrag, pwd: of the first media section that has them, else of the session.
        candidates: those we could send to; the others are dropped in silence.
        mids: of the pseudo media sections, in order.
    """

    ufrag: str | None
    pwd: str | None
    candidates: tuple[Candidate, ...]
    end_of_candidates: bool
    mids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MediaLine:
    """The pseudo media section that a fragment hangs its candidates on."""

    kind: str
    protocol: str
    payload_type: int
    mid: str | None


def parse(body: bytes) -> Fragment:
    """Read a fragment.

    Lines of a whole description (``v=``, ``o=``...) and unknown attributes are passed
    over. Candidates of every section are taken, since all of them share one transport.

    Raises:
        TooLarge: over ``MAX_SIZE`` bytes.
        ParseError: not text, not such lines, or nothing in it that means anything.
        BadInput: ``sdp_ice``, a ufrag or pwd of a wrong length.
    """
    if len(body) > MAX_SIZE:
        raise TooLarge("the fragment is too large")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ParseError("the fragment is not UTF-8") from error
    session: dict[str, str] = {}
    media: dict[str, str] = {}
    scope = session
    candidates: list[Candidate] = []
    mids: list[str] = []
    ended = meaning = False
    for line in text.replace("\r\n", "\n").split("\n"):
        line = line.strip()
        if not line:
            continue
        if not _LINE.match(line):
            raise ParseError(f"not a line of a fragment: {line[:40]!r}")
        if line[0] == "m":
            scope, meaning = media, True
            continue
        name, _, value = line[2:].partition(":") if line[0] == "a" else ("", "", "")
        if name in ("ice-ufrag", "ice-pwd"):
            scope.setdefault(name, check_ice_token(value, 4 if name == "ice-ufrag" else 22))
        elif name == "candidate":
            candidate = parse_candidate(value)
            if candidate is not None and len(candidates) < MAX_CANDIDATES:
                candidates.append(candidate)
        elif name == "end-of-candidates":
            ended = True
        elif name == "mid":
            if len(mids) < MAX_SECTIONS:
                mids.append(value[:255])
        else:
            continue
        meaning = True
    if not meaning:
        raise ParseError("the fragment says nothing")
    ufrag = media.get("ice-ufrag", session.get("ice-ufrag"))
    pwd = media.get("ice-pwd", session.get("ice-pwd"))
    return Fragment(ufrag, pwd, tuple(candidates), ended, tuple(mids))


def serialise(
    ufrag: str,
    pwd: str,
    candidates: Sequence[Candidate],
    lines: Sequence[MediaLine],
    *,
    ice_options: str,
) -> str:
    """The answer to a restart: our whole new ICE side, on the first media section."""
    if not lines:
        raise BadInput("a fragment needs a media section")
    first = lines[0]
    out = [f"a=ice-options:{ice_options}"]
    mids = [line.mid for line in lines if line.mid is not None]
    if mids:
        out.append("a=group:BUNDLE " + " ".join(mids))
    out.append(f"m={first.kind} 9 {first.protocol} {first.payload_type}")
    if first.mid is not None:
        out.append(f"a=mid:{first.mid}")
    out += [f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{pwd}"]
    out += [f"a=candidate:{candidate}" for candidate in candidates]
    out.append("a=end-of-candidates")
    return "\r\n".join(out) + "\r\n"
