"""Writes session descriptions: our answers, and the offers of our own clients. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.media.unit import Codec
from relay.protocols.webrtc.negotiation import FEEDBACK, Line, Negotiated, TrackParameters
from relay.protocols.webrtc.sdp import Candidate, Section

ICE_OPTIONS: Final = "trickle"


@dataclass(frozen=True, slots=True)
class LocalSide:
    """What of us goes into a description.

    Attributes:
        fingerprint: sha-256, upper-case hexadecimal with colons.
        name: one word for CNAME, stream and session id.
    """

    ufrag: str
    pwd: str
    fingerprint: str
    candidates: Sequence[Candidate]
    name: str


def write_answer(agreed: Negotiated, local: LocalSide) -> str:
    """The answer: complete, nothing is trickled after it."""
    out = _session_lines(local, agreed.bundle)
    direction = "recvonly" if agreed.receive else "sendonly"
    setup = "active" if agreed.active else "passive"
    candidates = _candidate_lines(local)
    for line in agreed.lines:
        if line.track is None:
            out += _rejected_lines(line.section)
            continue
        section, track = line.section, line.track
        out += _media_lines(section.kind, section.protocol, track, local, direction, setup)
        if section.rtcp_rsize:
            out.append("a=rtcp-rsize")
        out += _codec_lines(track, line.parameters)
        if not agreed.receive:
            out += _source_lines(track, section.kind, local.name)
        out += candidates
    return "\r\n".join(out) + "\r\n"


def _session_lines(local: LocalSide, bundle: Sequence[str]) -> list[str]:
    out = [
        "v=0",
        f"o=- {int.from_bytes(local.name.encode()[:7], 'big')} 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
    ]
    if bundle:
        out.append("a=group:BUNDLE " + " ".join(bundle))
    out.append("a=msid-semantic:WMS *")
    return out


def write_offer(lines: Sequence[Line], local: LocalSide, *, send: bool) -> str:
    """The offer of a client of ours; ``actpass``, and every section in one BUNDLE."""
    out = _session_lines(local, [line.section.mid for line in lines if line.section.mid])
    direction = "sendonly" if send else "recvonly"
    candidates = _candidate_lines(local)
    for line in lines:
        section, track = line.section, line.track
        if track is None:
            continue
        out += _media_lines(section.kind, section.protocol, track, local, direction, "actpass")
        out.append("a=rtcp-rsize")
        out += _codec_lines(track, line.parameters)
        if send:
            out += _source_lines(track, section.kind, local.name)
        out += candidates
    return "\r\n".join(out) + "\r\n"


def _rejected_lines(section: Section) -> list[str]:
    out = [
        f"m={section.kind} 0 {section.protocol} {' '.join(section.format_list)}",
        "c=IN IP4 0.0.0.0",
    ]
    return [*out, f"a=mid:{section.mid}"] if section.mid else out


def _media_lines(
    kind: str, protocol: str, track: TrackParameters, local: LocalSide, direction: str, setup: str
) -> list[str]:
    """The head of a media section: where, which way, ICE, DTLS, header extensions."""
    types = [track.payload_type, track.rtx_payload_type]
    candidate = local.candidates[0]
    version = 6 if ":" in candidate.host else 4
    out = [
        f"m={kind} {candidate.port} {protocol} {' '.join(str(t) for t in types if t is not None)}",
        f"c=IN IP{version} {candidate.host}",
    ]
    if track.mid:
        out.append(f"a=mid:{track.mid}")
    out += [
        f"a={direction}",
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.pwd}",
        f"a=ice-options:{ICE_OPTIONS}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{setup}",
    ]
    out += [f"a=extmap:{number} {uri}" for uri, number in track.extensions.items()]
    return out


def _codec_lines(track: TrackParameters, parameters: str) -> list[str]:
    """rtpmap, rtcp-fb and fmtp of a track and of its retransmissions."""
    number = track.payload_type
    name = "H264/90000" if track.codec is Codec.H264 else "opus/48000/2"
    out = [f"a=rtpmap:{number} {name}"]
    out += [f"a=rtcp-fb:{number} {f}" for f in FEEDBACK if f in track.feedback]
    if parameters:
        out.append(f"a=fmtp:{number} {parameters}")
    if track.rtx_payload_type is not None:
        out.append(f"a=rtpmap:{track.rtx_payload_type} rtx/{track.clock_rate}")
        out.append(f"a=fmtp:{track.rtx_payload_type} apt={number}")
    return out


def _source_lines(track: TrackParameters, kind: str, name: str) -> list[str]:
    """msid and ssrc of what we send; one stream for all sections."""
    out = [f"a=msid:{name} {name}-{kind}"]
    sources = [track.ssrc]
    if track.rtx_ssrc is not None:
        sources.append(track.rtx_ssrc)
        out.append(f"a=ssrc-group:FID {track.ssrc} {track.rtx_ssrc}")
    for ssrc in sources:
        out += [f"a=ssrc:{ssrc} cname:{name}", f"a=ssrc:{ssrc} msid:{name} {name}-{kind}"]
    return out


def _candidate_lines(local: LocalSide) -> list[str]:
    """Ours, complete, in each section: aiortc reads the last, most clients the first."""
    return [*(f"a=candidate:{c}" for c in local.candidates), "a=end-of-candidates"]
