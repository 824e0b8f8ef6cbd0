"""A place where a viewer's packets go, without keys and without a socket."""

from __future__ import annotations

from collections.abc import Callable

from relay.media.unit import Codec
from relay.protocols.webrtc.fanout import OutgoingTrack
from relay.protocols.webrtc.negotiation import MID, TrackParameters
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp


class FakeOutlet:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.srtp_protect: Callable[[bytes], bytes] = lambda packet: packet
        self.transmit: Callable[[bytes], None] = self.sent.append

    @property
    def packets(self) -> list[RtpPacket]:
        return [parse_rtp(data) for data in self.sent]


def parameters(codec: Codec = Codec.H264, *, rtx: bool = True, mid: str = "") -> TrackParameters:
    video = codec is Codec.H264
    return TrackParameters(
        codec=codec,
        mid=mid or ("0" if video else "1"),
        payload_type=102 if video else 111,
        rtx_payload_type=103 if video and rtx else None,
        clock_rate=90_000 if video else 48_000,
        ssrc=1000 if video else 2000,
        rtx_ssrc=1001 if video and rtx else None,
        remote_ssrc=None,
        remote_rtx_ssrc=None,
        extensions={MID: 4} if mid else {},
        feedback=frozenset(("nack", "nack pli", "ccm fir")),
    )


def track(
    codec: Codec = Codec.H264, *, rtx: bool = True, mid: str = ""
) -> tuple[OutgoingTrack, FakeOutlet]:
    outlet = FakeOutlet()
    return OutgoingTrack(parameters(codec, rtx=rtx, mid=mid), outlet), outlet
