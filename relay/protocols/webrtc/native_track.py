"""A viewer's track whose numbers the native part keeps, the log of what it was sent, and what may
be sent again (``native/fanout.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from relay.protocols.webrtc.datagrams import ours, sockaddr
from relay.protocols.webrtc.fanout import MID_PACKETS, OutgoingTrack
from relay.protocols.webrtc.negotiation import TrackParameters
from relay.protocols.webrtc.path import is_stream
from relay.protocols.webrtc.sendlog import OVERHEAD, REMEMBERED, SendLog
from relay.protocols.webrtc.sent import SentFrames
from relay.protocols.webrtc.srtp import SrtpError

if TYPE_CHECKING:
    from relay.protocols.webrtc.native_fanout import NativeSender

MAX_NAME: Final = 32
"""Bytes of the CNAME of a track."""


class NativeSendLog(SendLog):
    """A log that the native part writes; what Python sends is written here likewise."""

    __slots__ = ("_cast", "native")

    def __init__(self, identifier: int, sender: NativeSender) -> None:
        super().__init__(identifier)
        self.native = sender.new_log()
        self._cast = sender.ffi.cast
        assert len(self.native.sent) == REMEMBERED

    @property
    def pointer(self) -> int:
        """Its address, for other native code; good as long as this object is there."""
        return int(self._cast("uintptr_t", self.native))

    @property
    def next(self) -> int:
        return int(self.native.next) & 0xFFFF

    def take(self, payload: int) -> int:
        native = self.native
        number = int(native.next)
        native.next = number + 1
        native.octets += payload + OVERHEAD
        native.sent[number % REMEMBERED] = (self._clock(), native.octets)
        return number & 0xFFFF

    def find(self, number: int) -> tuple[float, int] | None:
        native = self.native
        count = int(native.next)
        back = (count - 1 - number) & 0xFFFF
        if back >= min(count, REMEMBERED):
            return None
        sent = native.sent[(count - 1 - back) % REMEMBERED]
        return sent.at, sent.octets


class NativeSentFrames(SentFrames):
    """What is kept natively too, so that it can be sent again there.

    Attributes:
        native: a ``struct fan_history``.
    """

    __slots__ = ("_sender", "native")

    def __init__(self, sender: NativeSender) -> None:
        super().__init__()
        self._sender = sender  # by which it is sent again
        self.native = sender.new_history()


class NativeTrack(OutgoingTrack):
    """A track whose numbers the native part keeps."""

    __slots__ = ("_array", "_keys", "_owner", "_sender", "native")

    def __init__(
        self,
        parameters: TrackParameters,
        outlet: Any,
        sender: NativeSender,
        name: bytes = b"",
        log: NativeSendLog | None = None,
    ) -> None:
        self._sender = sender
        self._keys: Any = None
        self.native, self._owner = sender.new_track()
        self._array = sender.ffi.new("struct fan_track *[]", [self.native])
        super().__init__(parameters, outlet, log)
        native = self.native
        native.ssrc, native.payload_type = self.ssrc, self.payload_type
        native.offset = self.offset
        native.clock_rate = self.clock_rate
        if len(name) > MAX_NAME:
            raise ValueError(f"a name of more than {MAX_NAME} bytes")
        native.rtx_ssrc = self.rtx_ssrc or 0
        native.rtx_payload_type = self.rtx_payload_type or 0
        native.name_length = len(name)
        native.name[0 : len(name)] = name
        native.log = sender.ffi.NULL if log is None else log.native
        native.extension_packets = MID_PACKETS
        if self.extension:
            native.extension_length = len(self.extension)
            native.extension[0 : len(self.extension)] = self.extension

    # The class above keeps these as its own attributes.

    @property
    def sequence(self) -> int:
        return int(self.native.sequence)

    @sequence.setter
    def sequence(self, value: int) -> None:
        self.native.sequence = value

    @property
    def offset(self) -> int:
        return int(self.native.offset)

    @offset.setter
    def offset(self, value: int) -> None:
        self.native.offset = value

    @property
    def timestamp(self) -> int:
        return int(self.native.timestamp)

    @timestamp.setter
    def timestamp(self, value: int) -> None:
        self.native.timestamp = value & 0xFFFFFFFF

    @property
    def packets(self) -> int:
        return int(self.native.packets)

    @packets.setter
    def packets(self, value: int) -> None:
        self.native.packets = value

    @property
    def octets(self) -> int:
        return int(self.native.octets)

    @octets.setter
    def octets(self, value: int) -> None:
        self.native.octets = value

    @property
    def resent(self) -> int:
        return int(self.native.resent)

    @resent.setter
    def resent(self, value: int) -> None:
        self.native.resent = value

    @property
    def _rtx_sequence(self) -> int:
        return int(self.native.rtx_sequence)

    @_rtx_sequence.setter
    def _rtx_sequence(self, value: int) -> None:
        self.native.rtx_sequence = value

    def follow(self, sent: SentFrames) -> None:
        if self._shared is not sent:
            history = sent.native if isinstance(sent, NativeSentFrames) else None
            self._sender.follow(self.native, history)
        super().follow(sent)

    def part(self) -> None:
        self._sender.follow(self.native, None)
        super().part()

    @property
    def pointer(self) -> int:
        """Its address, for other native code; good as long as this object is there."""
        return int(self._sender.ffi.cast("uintptr_t", self.native))

    def hear(self, consent: int) -> None:
        """Checks of ours, of the ``struct rx_consent`` at that address, go along; 0: no more."""
        self.native.consent = self._sender.ffi.cast("void *", consent)

    def route(self, keys: Any, address: tuple[Any, ...] | None) -> None:
        """
        Args:
            keys: what ``Srtp.sending`` is, held as long as the native part may use it.
            address: as the port names it; None: nowhere.
        """
        ffi, native = self._sender.ffi, self.native
        streamed = keys is not None and address is not None and is_stream(address)
        (self._sender.streamed.add if streamed else self._sender.streamed.discard)(self)
        if keys is None or address is None or streamed:
            native.srtp = ffi.NULL
            self._keys = None
            return
        raw, own = sockaddr(address), ours(address)
        native.address[0 : len(raw)] = raw
        native.address_length = len(raw)
        native.ours[0 : len(own)] = own
        native.ours_length = len(own)
        self._keys = keys
        native.srtp = ffi.cast("void *", keys.pointer)

    def send(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> None:
        if self in self._sender.streamed:
            super().send(payloads, timestamp, marker=marker)
        elif self._sender.send(
            self._array, 1, payloads, timestamp, marker=marker, history=self._sender.ffi.NULL
        ):
            raise SrtpError(f"srtp_protect: status {self.native.status}")
