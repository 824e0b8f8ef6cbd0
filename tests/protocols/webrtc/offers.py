"""Offers as real clients write them (shortened to what differs), and parts to vary."""

from __future__ import annotations

FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(["AB"] * 32)
UFRAG = "EsAw"
PWD = "P2uYro0UCOQ4zxjKXaWCBui1"
ICE = [f"a=ice-ufrag:{UFRAG}", f"a=ice-pwd:{PWD}"]
SESSION = ["v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0"]
BUNDLE = "a=group:BUNDLE 0 1"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"


def join(*parts: list[str] | str, end: str = "\r\n") -> str:
    lines = [line for part in parts for line in ([part] if isinstance(part, str) else part)]
    return end.join(lines) + end


def h264(number: int, fmtp: str | None, *, rtx: int | None = None) -> list[str]:
    lines = [f"a=rtpmap:{number} H264/90000"]
    lines += [
        f"a=rtcp-fb:{number} {name}"
        for name in ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
    ]
    if fmtp is not None:
        lines.append(f"a=fmtp:{number} {fmtp}")
    if rtx is not None:
        lines += [f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={number}"]
    return lines


def mode(profile: str, packetization: int = 1) -> str:
    return (
        f"level-asymmetry-allowed=1;packetization-mode={packetization};profile-level-id={profile}"
    )


def video(
    codecs: list[str] | None = None,
    *,
    types: str = "102 103",
    mid: str | None = "1",
    direction: str = "sendonly",
    setup: str | None = "actpass",
    port: str = "9",
    extra: list[str] | None = None,
) -> list[str]:
    lines = [f"m=video {port} UDP/TLS/RTP/SAVPF {types}", "c=IN IP4 0.0.0.0", *ICE, FINGERPRINT]
    lines += [f"a=setup:{setup}"] if setup else []
    lines += [f"a=mid:{mid}"] if mid else []
    lines += [f"a={direction}"] if direction else []
    lines += [f"a=extmap:4 {MID}", f"a=extmap:3 {TRANSPORT_CC}", "a=rtcp-mux", "a=rtcp-rsize"]
    lines += codecs if codecs is not None else h264(102, mode("42e01f"), rtx=103)
    return lines + (extra or [])


def audio(
    codecs: list[str] | None = None,
    *,
    types: str = "111 63",
    mid: str | None = "0",
    direction: str = "sendonly",
    setup: str | None = "actpass",
    extra: list[str] | None = None,
) -> list[str]:
    lines = [f"m=audio 9 UDP/TLS/RTP/SAVPF {types}", "c=IN IP4 0.0.0.0", *ICE, FINGERPRINT]
    lines += [f"a=setup:{setup}"] if setup else []
    lines += [f"a=mid:{mid}"] if mid else []
    lines += [f"a={direction}"] if direction else []
    lines += [f"a=extmap:4 {MID}", f"a=extmap:3 {TRANSPORT_CC}", "a=rtcp-mux"]
    opus = [
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-fb:111 transport-cc",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
    ]
    return lines + (codecs if codecs is not None else opus) + (extra or [])


DATA_CHANNEL = [
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    *ICE,
    FINGERPRINT,
    "a=setup:actpass",
    "a=mid:2",
    "a=sctp-port:5000",
]


def publisher() -> str:
    """A good sendonly offer, audio and video in one BUNDLE."""
    return join(SESSION, BUNDLE, audio(), video())


def viewer(direction: str = "recvonly") -> str:
    return join(SESSION, BUNDLE, audio(direction=direction), video(direction=direction))


CHROMIUM = join(
    SESSION,
    BUNDLE,
    "a=extmap-allow-mixed",
    "a=msid-semantic: WMS stream",
    audio(
        extra=[
            "a=candidate:1 1 udp 2113937151 0cb0e0c4-9a86-4c2e.local 51000 typ host generation 0",
            "a=ice-options:trickle",
            "a=msid:stream audio",
            "a=ssrc:1111 cname:c",
            "a=ssrc:1111 msid:stream audio",
        ]
    ),
    video(
        [
            "a=rtpmap:96 VP8/90000",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
            *h264(102, mode("42001f"), rtx=103),
            *h264(104, mode("42001f", 0), rtx=107),
            *h264(108, mode("42e01f"), rtx=109),
            *h264(127, mode("4d001f"), rtx=125),
            "a=rtpmap:45 AV1/90000",
            "a=fmtp:45 level-idx=5;profile=0;tier=0",
            "a=rtpmap:46 rtx/90000",
            "a=fmtp:46 apt=45",
        ],
        types="96 97 102 103 104 107 108 109 127 125 45 46",
        extra=[
            "a=msid:stream video",
            "a=ssrc-group:FID 2222 3333",
            "a=ssrc:2222 cname:c",
            "a=ssrc:2222 msid:stream video",
            "a=ssrc:3333 cname:c",
            "a=ssrc:3333 msid:stream video",
        ],
    ),
)

# ICE in each section, the fingerprint above all of them; no transport-cc, no retransmission.
OBS = join(
    [*SESSION, "a=group:LS 0 1", BUNDLE, "a=msid-semantic:WMS *", "a=ice-options:ice2,trickle"],
    FINGERPRINT,
    [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendonly",
        "a=ssrc:1 cname:x",
        "a=ssrc:1 msid:m m-audio",
        "a=msid:m m-audio",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1",
        "a=setup:actpass",
        *ICE,
    ],
    [
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        f"a=extmap:1 {MID}",
        "a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=sendonly",
        "a=ssrc:2 cname:x",
        "a=ssrc:2 msid:m m-video",
        "a=msid:m m-video",
        "a=rtcp-mux",
        "a=rtpmap:96 H264/90000",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:96 goog-remb",
        "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
        "a=setup:actpass",
        *ICE,
    ],
)

# DTLS passive, no candidates, no header extensions; retransmission SSRC only in the group.
FFMPEG = join(
    [*SESSION, BUNDLE, "a=extmap-allow-mixed", "a=msid-semantic: WMS"],
    [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        *ICE,
        FINGERPRINT,
        "a=setup:passive",
        "a=mid:0",
        "a=sendonly",
        "a=msid:FFmpeg audio",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "a=ssrc:7 cname:FFmpeg",
        "a=ssrc:7 msid:FFmpeg audio",
    ],
    [
        "m=video 9 UDP/TLS/RTP/SAVPF 106 105",
        "c=IN IP4 0.0.0.0",
        *ICE,
        FINGERPRINT,
        "a=setup:passive",
        "a=mid:1",
        "a=sendonly",
        "a=msid:FFmpeg video",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:106 H264/90000",
        "a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
        "a=rtcp-fb:106 nack",
        "a=rtpmap:105 rtx/90000",
        "a=fmtp:105 apt=106",
        "a=ssrc:8 cname:FFmpeg",
        "a=ssrc:8 msid:FFmpeg video",
        "a=ssrc-group:FID 8 9",
    ],
)
