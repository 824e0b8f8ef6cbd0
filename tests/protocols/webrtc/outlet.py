"""A place where a viewer's packets go, without keys and without a socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from relay.media.unit import Codec
from relay.protocols.webrtc import native_fanout
from relay.protocols.webrtc.fanout import FanOut, OutgoingTrack
from relay.protocols.webrtc.negotiation import MID, TrackParameters
from relay.protocols.webrtc.rtp import RtpPacket, parse_rtp
from relay.protocols.webrtc.srtp import SrtpError


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


class Backend:
    """Pure Python sends."""

    def track(
        self, codec: Codec = Codec.H264, *, rtx: bool = True, mid: str = ""
    ) -> tuple[OutgoingTrack, FakeOutlet]:
        return track(codec, rtx=rtx, mid=mid)

    def fan_out(self) -> FanOut:
        return FanOut()

    def refuse(self, outlet: FakeOutlet) -> None:
        """From now on its keys are of no use."""

        def refused(packet: bytes) -> bytes:
            raise SrtpError("no key")

        outlet.srtp_protect = refused

    def close(self) -> None:
        """Nothing is held."""


class SocketOutlet(FakeOutlet):
    """What comes out at the other end of a UDP socket."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)

    @property
    def packets(self) -> list[RtpPacket]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sent.append(self.socket.recv(2048))
        return super().packets


class Keys:
    """Stands for a libsrtp context; the native part hands its address to ``protect``."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer


class NativeBackend(Backend):
    """The native part sends, over a real socket; "SRTP" changes nothing."""

    def __init__(self) -> None:
        library = native_fanout._library()
        assert library is not None, "the native part was not built"
        self.refused: set[int] = set()
        self._counted = [0, 0]
        ffi = library[0]

        def protect(context: Any, packet: Any, length: Any) -> int:
            return 7 if int(ffi.cast("uintptr_t", context)) in self.refused else 0

        self._protect = ffi.callback("int(void *, void *, int *)", protect)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._outlets: list[SocketOutlet] = []
        address = int(ffi.cast("uintptr_t", self._protect))
        self.sender = native_fanout.NativeSender(
            library, self._socket.fileno(), self._count, address, address
        )

    def _count(self, sent: int, unsent: int) -> None:
        self._counted = [self._counted[0] + sent, self._counted[1] + unsent]

    @property
    def counted(self) -> list[int]:
        self.sender.tell()
        return self._counted

    def track(
        self, codec: Codec = Codec.H264, *, rtx: bool = True, mid: str = ""
    ) -> tuple[OutgoingTrack, FakeOutlet]:
        outlet = SocketOutlet()
        self._outlets.append(outlet)
        made = self.sender.track(parameters(codec, rtx=rtx, mid=mid), outlet)
        made.route(Keys(len(self._outlets)), outlet.socket.getsockname())
        return made, outlet

    def fan_out(self) -> FanOut:
        return self.sender.fan_out()

    def refuse(self, outlet: FakeOutlet) -> None:
        assert isinstance(outlet, SocketOutlet)
        self.refused.add(self._outlets.index(outlet) + 1)

    def close(self) -> None:
        for outlet in self._outlets:
            outlet.socket.close()
        self._socket.close()


def track(
    codec: Codec = Codec.H264, *, rtx: bool = True, mid: str = ""
) -> tuple[OutgoingTrack, FakeOutlet]:
    outlet = FakeOutlet()
    return OutgoingTrack(parameters(codec, rtx=rtx, mid=mid), outlet), outlet
