"""What we accept of an offer, and the answer's text (RFC 9725 section 4, JSEP). Pure.

WHIP and WHEP know no renegotiation, so the first answer is the last word: an offer is
accepted whole or refused whole, never with single sections zeroed. The one exception is
the data channel that some players always offer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.errors import BadInput, Unprocessable
from relay.media.unit import Codec
from relay.protocols.webrtc.sdp import Candidate, Description, Format, Section
from relay.protocols.webrtc.sdpfrag import MediaLine

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
TRANSPORT_CC: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
ICE_OPTIONS: Final = "trickle"
START_BITRATE: Final = 2000
"""kbit/s that a Chromium publisher is told to begin with, instead of its 300."""

_EXTENSIONS: Final = (MID, TRANSPORT_CC)
_FEEDBACK: Final = ("nack", "nack pli", "ccm fir", "transport-cc", "goog-remb")
_HASHES: Final = frozenset(("sha-256", "sha-384", "sha-512"))
_OPUS_ECHO: Final = frozenset(
    ("minptime", "useinbandfec", "stereo", "sprop-stereo", "maxaveragebitrate", "maxplaybackrate")
)
_H264_ECHO: Final = frozenset(("level-asymmetry-allowed", "packetization-mode", "profile-level-id"))


@dataclass(frozen=True, slots=True)
class TrackParameters:
    """What both ends agreed on for one media section.

    Attributes:
        ssrc: ours: of the media when we send, of our RTCP when we receive.
        rtx_ssrc: ours, None without retransmission.
        remote_ssrc, remote_rtx_ssrc: as the other end declared them; often it does not.
        extensions: RTP header extensions, URI to id (1 to 14).
        feedback: of "nack", "nack pli", "ccm fir", "transport-cc", "goog-remb".
        packetization_mode: H.264 only (RFC 6184 section 8.1); 0 forbids STAP-A and FU-A.
    """

    codec: Codec
    mid: str
    payload_type: int
    rtx_payload_type: int | None
    clock_rate: int
    ssrc: int
    rtx_ssrc: int | None
    remote_ssrc: int | None
    remote_rtx_ssrc: int | None
    extensions: Mapping[str, int]
    feedback: frozenset[str]
    packetization_mode: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """A media section of the offer, and what becomes of it; no track: answered with port 0."""

    section: Section
    track: TrackParameters | None
    parameters: str = ""  # the fmtp we answer with


@dataclass(frozen=True, slots=True)
class Negotiated:
    """An accepted offer."""

    lines: tuple[Line, ...]
    bundle: tuple[str, ...]  # accepted mids of the offer's BUNDLE group
    receive: bool
    remote_ufrag: str
    remote_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    active: bool  # we open the DTLS handshake
    patient: bool  # the offer named its DTLS role: FFmpeg's form, which likes no checks of ours

    def track(self, codec: Codec) -> TrackParameters | None:
        tracks = (line.track for line in self.lines)
        return next((t for t in tracks if t is not None and t.codec is codec), None)

    def media_lines(self) -> list[MediaLine]:
        """The accepted sections, as a trickle fragment names them."""
        return [
            MediaLine(
                line.section.kind,
                line.section.protocol,
                line.track.payload_type,
                line.section.mid,
            )
            for line in self.lines
            if line.track is not None
        ]


def negotiate(offer: Description, *, receive: bool, ssrcs: Sequence[int]) -> Negotiated:
    """Accept or refuse an offer.

    Args:
        receive: we receive (WHIP, the answer is recvonly), or we send (WHEP, sendonly).
        ssrcs: four unused SSRCs of ours.

    Raises:
        BadInput: ``sdp_no_ice``, ``sdp_no_fingerprint``.
        Unprocessable: with one of the codes of ``_refuse`` below.
    """
    active = _active_sections(offer, receive=receive)
    first = _transport_section(offer, active)
    own = first.transport
    if own.ufrag is None or own.pwd is None:
        raise BadInput("the offer has no ice-ufrag or ice-pwd", code="sdp_no_ice")
    if not own.fingerprints:
        raise BadInput("the offer has no fingerprint", code="sdp_no_fingerprint")
    fingerprints = tuple(f for f in own.fingerprints if f[0] in _HASHES)
    if not fingerprints:
        raise _refuse("fingerprint_hash", "only sha-256, sha-384 and sha-512 are accepted")
    if own.setup not in (None, "actpass", "active", "passive"):
        raise _refuse("dtls_setup", f"a=setup:{own.setup} cannot be answered")
    if offer.ice_lite:
        raise _refuse("ice_lite", "the offering side must be a full ICE agent")
    lines = []
    for section in offer.sections:
        if section in active:
            pair = ssrcs[:2] if section.kind == "video" else ssrcs[2:4]
            lines.append(_accept(section, receive=receive, ssrcs=pair))
        else:
            lines.append(Line(section, None))
    bundle = tuple(
        section.mid for section in active if section.mid and section.mid in (offer.bundle or ())
    )
    setup = own.setup or "actpass"
    return Negotiated(
        tuple(lines),
        bundle,
        receive,
        own.ufrag,
        own.pwd,
        fingerprints,
        active=setup == "passive",
        patient=setup != "actpass",
    )


def _refuse(code: str, message: str) -> Unprocessable:
    return Unprocessable(message, code=code)


def _active_sections(offer: Description, *, receive: bool) -> list[Section]:
    """The sections that become tracks; everything that cannot be served raises."""
    active: list[Section] = []
    for section in offer.sections:
        if not section.is_media:
            if receive and not section.rejected:
                raise _refuse("data_channel", f"m={section.kind} is not accepted when publishing")
        elif not section.rejected:
            active.append(section)
    kinds = [section.kind for section in active]
    if not active:
        raise _refuse("no_tracks", "the offer has neither audio nor video")
    if len(set(kinds)) != len(kinds):
        raise _refuse("too_many_tracks", "at most one audio and one video track are accepted")
    if len({name for section in active for name in section.stream_ids}) > 1:
        raise _refuse("too_many_streams", "all tracks must belong to one media stream")
    for section in active:
        _check_section(section, receive=receive)
    outside = [s for s in active if s.mid is None or s.mid not in (offer.bundle or ())]
    if len(active) > 1 and outside:
        raise _refuse("not_bundled", "all media sections must be in one BUNDLE group")
    return active


def _check_section(section: Section, *, receive: bool) -> None:
    wanted = ("sendonly" if receive else "recvonly", "sendrecv")
    if section.direction not in wanted:
        raise _refuse("direction", f"a={section.direction} cannot be answered; use a={wanted[0]}")
    if "SAVP" not in section.protocol:
        raise _refuse("transport_protocol", f"{section.protocol} is not media over DTLS-SRTP")
    if not section.rtcp_mux:
        raise _refuse("no_rtcp_mux", "a=rtcp-mux is needed")
    if receive and (section.simulcast or any(g[0] == "SIM" for g in section.ssrc_groups)):
        raise _refuse("simulcast", "simulcast is not accepted: send one layer")


def _transport_section(offer: Description, active: Sequence[Section]) -> Section:
    """The section whose ICE and DTLS attributes count: the first of the BUNDLE group."""
    for mid in offer.bundle or ():
        for section in active:
            if section.mid == mid:
                return section
    return active[0]


def _accept(section: Section, *, receive: bool, ssrcs: Sequence[int]) -> Line:
    if section.kind == "video":
        entry = choose_h264(section)
        if entry is None:
            raise _refuse("no_h264", "the offer has no H.264: choose H.264 as the video codec")
        parameters = _echo(entry, _H264_ECHO)
        if receive:
            parameters.append(f"x-google-start-bitrate={START_BITRATE}")
    else:
        entry = choose_opus(section)
        if entry is None:
            raise _refuse("no_common_codec", "the offer has no Opus: choose Opus as audio codec")
        parameters = _echo(entry, _OPUS_ECHO)
    return Line(section, track_of(section, entry, ssrcs), ";".join(parameters))


def _echo(entry: Format, names: frozenset[str]) -> list[str]:
    return [
        key if value is None else f"{key}={value}"
        for key, value in entry.parameters.items()
        if key in names
    ]


def choose_h264(section: Section) -> Format | None:
    """The H.264 format to use: mode 1 first, then baseline, then the offer's order.

    Any profile is taken, since the declared one often is not the one that is sent.
    """
    ranked = [
        (
            entry.parameter("packetization-mode") != "1",
            not (entry.parameter("profile-level-id") or "42").startswith("42"),
            index,
        )
        for index, entry in enumerate(section.formats.values())
        if entry.name == "h264"
        and entry.clock_rate == 90000
        and entry.parameter("packetization-mode") in (None, "0", "1")
        and _is_usable(entry.payload_type)
    ]
    return list(section.formats.values())[min(ranked)[2]] if ranked else None


def choose_opus(section: Section) -> Format | None:
    formats = section.formats.values()
    usable = (e for e in formats if e.name == "opus" and e.clock_rate == 48000)
    return next((entry for entry in usable if _is_usable(entry.payload_type)), None)


def _is_usable(payload_type: int) -> bool:
    """64 to 95 cannot be told from RTCP on one port (RFC 5761 section 4)."""
    return not 64 <= payload_type <= 95


def track_of(section: Section, entry: Format, ssrcs: Sequence[int]) -> TrackParameters:
    """The agreed parameters of a section for one of its formats."""
    feedback = [f for f in _FEEDBACK if f in entry.feedback]
    if "transport-cc" in feedback and "goog-remb" in feedback:
        feedback.remove("goog-remb")
    apt = str(entry.payload_type)
    rtx = next(
        (
            other.payload_type
            for other in section.formats.values()
            if other.name == "rtx"
            and other.parameter("apt") == apt
            and other.clock_rate == entry.clock_rate
            and _is_usable(other.payload_type)
        ),
        None,
    )
    mode = entry.parameter("packetization-mode") if entry.name == "h264" else None
    pairs = [ssrcs_ for name, ssrcs_ in section.ssrc_groups if name == "FID" and len(ssrcs_) == 2]
    remote = pairs[0][0] if pairs else next(iter(section.ssrcs), None)
    return TrackParameters(
        codec=Codec.H264 if entry.name == "h264" else Codec.OPUS,
        mid=section.mid or "",
        payload_type=entry.payload_type,
        rtx_payload_type=rtx,
        clock_rate=entry.clock_rate,
        ssrc=ssrcs[0],
        rtx_ssrc=ssrcs[1] if rtx is not None else None,
        remote_ssrc=remote,
        remote_rtx_ssrc=pairs[0][1] if pairs and rtx is not None else None,
        extensions={u: section.extensions[u] for u in _EXTENSIONS if u in section.extensions},
        feedback=frozenset(feedback),
        packetization_mode=int(mode or 0),
    )


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
    for line in agreed.lines:
        if line.track is None:
            out += _rejected_lines(line.section)
            continue
        section, track = line.section, line.track
        out += media_lines(section.kind, section.protocol, track, local, direction, setup)
        if section.rtcp_rsize:
            out.append("a=rtcp-rsize")
        out += codec_lines(track, line.parameters)
        if not agreed.receive:
            out += source_lines(track, section.kind, local.name)
        out += candidate_lines(local)
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


def _rejected_lines(section: Section) -> list[str]:
    out = [
        f"m={section.kind} 0 {section.protocol} {' '.join(section.format_list)}",
        "c=IN IP4 0.0.0.0",
    ]
    return [*out, f"a=mid:{section.mid}"] if section.mid else out


def media_lines(
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


def codec_lines(track: TrackParameters, parameters: str) -> list[str]:
    """rtpmap, rtcp-fb and fmtp of a track and of its retransmissions."""
    number = track.payload_type
    name = "H264/90000" if track.codec is Codec.H264 else "opus/48000/2"
    out = [f"a=rtpmap:{number} {name}"]
    out += [f"a=rtcp-fb:{number} {f}" for f in _FEEDBACK if f in track.feedback]
    if parameters:
        out.append(f"a=fmtp:{number} {parameters}")
    if track.rtx_payload_type is not None:
        out.append(f"a=rtpmap:{track.rtx_payload_type} rtx/{track.clock_rate}")
        out.append(f"a=fmtp:{track.rtx_payload_type} apt={number}")
    return out


def source_lines(track: TrackParameters, kind: str, name: str) -> list[str]:
    """msid and ssrc of what we send; one stream for all sections."""
    out = [f"a=msid:{name} {name}-{kind}"]
    sources = [track.ssrc]
    if track.rtx_ssrc is not None:
        sources.append(track.rtx_ssrc)
        out.append(f"a=ssrc-group:FID {track.ssrc} {track.rtx_ssrc}")
    for ssrc in sources:
        out += [f"a=ssrc:{ssrc} cname:{name}", f"a=ssrc:{ssrc} msid:{name} {name}-{kind}"]
    return out


def candidate_lines(local: LocalSide) -> list[str]:
    """Ours, complete, in each section: aiortc reads the last, most clients the first."""
    return [*(f"a=candidate:{c}" for c in local.candidates), "a=end-of-candidates"]
