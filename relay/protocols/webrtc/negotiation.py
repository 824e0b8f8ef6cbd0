"""What we accept of an offer, and of an answer (RFC 9725 section 4, JSEP). Pure.

WHIP and WHEP know no renegotiation, so the first answer is the last word: an offer is
accepted whole or refused whole, never with single sections zeroed. The one exception is
the data channel that some players always offer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relay.errors import BadInput, PeerError, Unprocessable
from relay.media.unit import Codec
from relay.protocols.webrtc.sdp import Description, Format, Section
from relay.protocols.webrtc.sdpfrag import MediaLine

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
TRANSPORT_CC: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"
START_BITRATE: Final = 2000
"""kbit/s that a Chromium publisher is told to begin with, instead of its 300."""

_EXTENSIONS: Final = (MID, TRANSPORT_CC)
FEEDBACK: Final = ("nack", "nack pli", "ccm fir", "transport-cc", "goog-remb")
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
    feedback = [f for f in FEEDBACK if f in entry.feedback]
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


def offered_tracks(ssrcs: Sequence[int], *, audio: bool) -> list[Line]:
    """What our own clients offer: H.264 with retransmission, and Opus.

    The sections are made as if they had been read, so that the answer to them is judged
    by the same rules as an offer.
    """
    video = Section("video", 9, PROTOCOL, ["96", "97"], mid="0")
    tracks = [
        TrackParameters(
            codec=Codec.H264,
            mid="0",
            payload_type=96,
            rtx_payload_type=97,
            clock_rate=90000,
            ssrc=ssrcs[0],
            rtx_ssrc=ssrcs[1],
            remote_ssrc=None,
            remote_rtx_ssrc=None,
            extensions={MID: 1},
            feedback=frozenset(("nack", "nack pli", "ccm fir")),
        )
    ]
    lines = [
        Line(
            video,
            tracks[0],
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        )
    ]
    if audio:
        opus = replace(
            tracks[0],
            codec=Codec.OPUS,
            mid="1",
            payload_type=111,
            rtx_payload_type=None,
            clock_rate=48000,
            ssrc=ssrcs[2],
            rtx_ssrc=None,
            feedback=frozenset(),
            packetization_mode=0,
        )
        section = Section("audio", 9, PROTOCOL, ["111"], mid="1")
        lines.append(Line(section, opus, "minptime=10;useinbandfec=1;stereo=1"))
    return lines


def accept_answer(answer: Description, offered: Sequence[Line], *, receive: bool) -> Negotiated:
    """What the other end made of our offer.

    Raises:
        PeerError: ``bad_answer``, it does not fit the offer or cannot be used.
    """
    if len(answer.sections) != len(offered):
        raise _bad_answer("it has another number of media sections")
    lines = [
        _accepted(section, line) for section, line in zip(answer.sections, offered, strict=True)
    ]
    used = [line.section for line in lines if line.track is not None]
    if not used:
        raise _bad_answer("it accepts no track")
    own = _transport_section(answer, used).transport
    if own.ufrag is None or own.pwd is None or not own.fingerprints:
        raise _bad_answer("it lacks ICE credentials or a fingerprint")
    if own.setup not in ("active", "passive"):
        raise _bad_answer("it chooses no DTLS role")
    return Negotiated(
        tuple(lines),
        tuple(answer.bundle or ()),
        receive,
        own.ufrag,
        own.pwd,
        tuple(f for f in own.fingerprints if f[0] in _HASHES),
        active=own.setup == "passive",
        patient=False,
    )


def _bad_answer(why: str) -> PeerError:
    return PeerError(f"the answer cannot be used: {why}", code="bad_answer")


def _accepted(section: Section, line: Line) -> Line:
    track = line.track
    if track is None or section.kind != line.section.kind:
        raise _bad_answer("its media sections are in another order")
    entry = section.formats.get(track.payload_type)
    if section.rejected or entry is None or entry.name not in ("h264", "opus"):
        return Line(section, None)
    ours = (track.ssrc, track.rtx_ssrc or 0)
    return Line(section, replace(track_of(section, entry, ours), mid=track.mid))
