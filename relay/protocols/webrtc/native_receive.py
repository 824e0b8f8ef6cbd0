"""The native part of receiving: one call a wake-up of the socket (``native/receive.c``).

It does the common case, a publisher's media in order, from datagrams to access units; all
else comes up as it was read. Where the library is missing, Python does all of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from relay.media.unit import AccessUnit, Codec
from relay.protocols.webrtc import native_library
from relay.protocols.webrtc.budget import BURST, RATE
from relay.protocols.webrtc.datagrams import packed, unpacked
from relay.protocols.webrtc.native_lane import ARRIVALS, KEYFRAME, Lane, LaneOwner
from relay.protocols.webrtc.native_viewer import NativeViewer
from relay.protocols.webrtc.path import is_stream
from relay.protocols.webrtc.reception import UNITS
from relay.protocols.webrtc.registered import Registered
from relay.protocols.webrtc.srtp import NativeKeys, protect_pointer
from relay.protocols.webrtc.stun import Address

if TYPE_CHECKING:
    from relay.protocols.webrtc.udp_statistics import UdpStatistics

_MAX_NAMES: Final = 4096

_PLAIN: Final = 6
_FEEDBACK: Final = 768  # bytes, as receive.h has it
_MORE: Final = 32
_SOUND: Final = 64
_H264: Final = Codec.H264  # asking an enumeration for it costs as much as making the unit
_OPUS: Final = Codec.OPUS


@cache
def _library() -> tuple[Any, Any] | None:
    return native_library.load("receive.h", "rx_stream")


@cache
def _reader(event_size: int) -> Any:
    return native_library.load_reader(event_size)


class NativeReceiver:
    """Reads one UDP socket.

    Args:
        fd: of the socket; it stays the caller's, and open until ``close``.
        unprotect, unprotect_rtcp, protect_rtcp: addresses of functions like libsrtp's
            ``srtp_unprotect``, ``srtp_unprotect_rtcp`` and ``srtp_protect_rtcp``; those by default.

    Raises:
        MemoryError.
    """

    def __init__(
        self,
        library: tuple[Any, Any],
        fd: int,
        unprotect: int | None = None,
        unprotect_rtcp: int | None = None,
        protect_rtcp: int | None = None,
    ) -> None:
        self.ffi, self.lib = library
        self._fd = fd
        limits = self.ffi.new("struct rx_limits *", (RATE, BURST, UNITS))
        doors = self.ffi.new("struct rx_doors *")
        for door, (name, pointer) in {
            "rtp": ("srtp_unprotect", unprotect),
            "rtcp": ("srtp_unprotect_rtcp", unprotect_rtcp),
            "protect_rtcp": ("srtp_protect_rtcp", protect_rtcp),
        }.items():
            pointer = protect_pointer(name) if pointer is None else pointer
            setattr(doors, door, self.ffi.cast("rx_unprotect", pointer))
        made = self.lib.rx_new(fd, doors[0], secrets.randbits(64), limits[0])
        if made == self.ffi.NULL:
            raise MemoryError("no memory for the native receiver")
        self.rx = self.ffi.gc(made, self.lib.rx_free)
        self._event = self.ffi.new("struct rx_event *")
        self.feedback = self.ffi.new("uint8_t[]", _FEEDBACK)
        self._counts = self.lib.rx_count(self.rx)
        self._lanes: dict[int, Lane] = {}
        self._shows: dict[int, Callable[[AccessUnit], None]] = {}
        self._viewers: dict[int, NativeViewer] = {}
        self._number = 0
        self._names: dict[bytes, Address] = {}

    @classmethod
    def over(cls, fd: int) -> NativeReceiver | None:
        """A receiver where the native part is built, else None."""
        library = _library()
        return cls(library, fd) if library is not None else None

    def watch(self) -> int:
        """The descriptor that tells when to call what ``reader`` has made, until ``close``: not the
        socket's own where the rest of a picture that has begun can be waited for."""
        watched: int = self.lib.rx_watch(self.rx)
        return watched if watched >= 0 else self._fd

    def reader(
        self,
        datagram: Callable[[bytes, Address, float], None],
        clock: Callable[[], float] | None = None,
    ) -> Callable[[], int]:
        """What to call when the descriptor tells: it deals with what waits, a bounded number.

        Most of what it does is once a picture, in a process that has done much else since:
        there is as little of it as can be, in one place.

        Args:
            datagram: takes what is not the common case.
            clock: tells the seconds; else ``time.monotonic`` does.

        Returns:
            A function that returns how many datagrams there were in its first batch.
        """
        module = _reader(self.ffi.sizeof("struct rx_event"))
        if module is None:
            return self._reader(datagram, clock or time.monotonic)
        ffi, lib = self.ffi, self.lib
        doors = (self.rx, self._event, ffi.addressof(lib, "rx_wake"), ffi.addressof(lib, "rx_next"))
        addresses = (int(ffi.cast("uintptr_t", door)) for door in doors)
        deal = partial(self._deal, datagram)
        read: Callable[[], int] = module.reader(
            *addresses, self._shows, AccessUnit, _H264, _OPUS, deal, self._note, clock
        )
        return read

    def _reader(
        self, datagram: Callable[[bytes, Address, float], None], clock: Callable[[], float]
    ) -> Callable[[], int]:
        """The same in Python."""
        rx, event, wake = self.rx, self._event, self.lib.rx_wake

        def read() -> int:
            kind = wake(rx, clock(), event)
            count: int = event.read
            if kind:
                self._deal(datagram, kind)
            return count

        return read

    def put(
        self,
        data: bytes,
        address: Address,
        datagram: Callable[[bytes, Address, float], None],
        now: float,
    ) -> None:
        """Deal with one that somebody else has read."""
        raw = packed(address)
        self.lib.rx_put(self.rx, data, len(data), raw, len(raw), now)
        self._deal(datagram, self.lib.rx_next(self.rx, self._event))

    def _deal(self, datagram: Callable[[bytes, Address, float], None], kind: int) -> None:
        ffi, lib, rx, event = self.ffi, self.lib, self.rx, self._event
        while kind:
            if kind == _PLAIN:
                number, now = event.number, event.arrival
                payload, flags = ffi.buffer(event.data, event.length)[:], event.flags
                codec = _OPUS if flags & _SOUND else _H264
                keyframe = flags & KEYFRAME != 0
                self._shows[number](AccessUnit(codec, payload, event.pts, now, keyframe))
                if flags & ARRIVALS:
                    self._note(number, now)
                if not flags & _MORE:
                    return
            elif kind == 3:
                self._lanes[event.number].unit(event)
            elif kind == 1:
                data = bytes(ffi.buffer(event.data, event.length))
                datagram(data, self._name(event), event.arrival)
            elif kind == 5:
                packet = ffi.buffer(event.data, event.length)[:]
                self._viewers[event.viewer.number].said(packet, event.arrival)
            else:
                lane = self._lanes[event.number]
                if kind == 2:
                    lane.flush()
                else:
                    lane.noted(event.arrival)
            kind = lib.rx_next(rx, event)

    def _note(self, number: int, now: float) -> None:
        if (lane := self._lanes.get(number)) is not None:  # its picture may have ended it
            lane.noted(now)

    def unwrap(self, out: int) -> None:
        """What is read was handed on by another process; answers leave by ``out``."""
        self.lib.rx_unwrap(self.rx, out)

    def place(self, address: Address, fd: int) -> Any:
        """Hand what comes from there on to another process, by ``fd``, until ``displace``.

        Returns:
            A ``struct rx_far``; None where there is no room.
        """
        raw = packed(address)
        made = self.lib.rx_place(self.rx, fd, raw, len(raw))
        return None if made == self.ffi.NULL else made

    def displace(self, far: Any) -> None:
        self.lib.rx_displace(self.rx, far)

    def count(self, statistics: UdpStatistics) -> None:
        """Add what was read, answered and dropped since the last call."""
        counts = self._counts
        statistics.received += counts.received
        statistics.sent += counts.sent
        statistics.unsent += counts.unsent
        statistics.strangers += counts.strangers
        counts.received = counts.sent = counts.unsent = counts.strangers = 0

    def _name(self, event: Any) -> Address:
        """The source of a datagram, as ``DatagramReader`` names it."""
        raw = bytes(self.ffi.buffer(event.address, event.address_length))
        name = self._names.get(raw)
        if name is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            name = self._names[raw] = unpacked(raw)
        return name

    def lane(
        self,
        keys: NativeKeys,
        payload_type: int,
        extension: int | None,
        owner: LaneOwner,
        show: Callable[[AccessUnit], None],
    ) -> Lane:
        """
        Args:
            extension: identifier of the transport-wide sequence number.
            show: takes each picture that needs no judging, and each unit of sound.

        Raises:
            MemoryError.
        """
        self._number += 1
        lane = Lane(self, self._number, keys, payload_type, extension or 0, owner)
        self._lanes[self._number] = lane
        self._shows[self._number] = show
        return lane

    def admit(self, viewer: NativeViewer) -> int:
        """Have a number for it; ``dropped`` ends that."""
        self._number += 1
        self._viewers[self._number] = viewer
        return self._number

    def dropped(self, number: int) -> None:
        self._lanes.pop(number, None)
        self._shows.pop(number, None)
        self._viewers.pop(number, None)

    def guard(
        self,
        names: Registered[bytes, Any],
        transactions: Registered[bytes, Any],
        addresses: Iterable[Registered[Address, Any]],
    ) -> None:
        """Drop from now on what is in no name, of no transaction and from no address of these,
        but for some media: that may be of a peer that has moved."""
        know_of, rx = self.lib.rx_know_of, self.rx

        def told(what: int, key: bytes, known: bool) -> None:
            know_of(rx, what, key, len(key), known)

        def heard(address: Address, known: bool) -> None:
            if not is_stream(address):
                told(self.lib.RX_ADDRESS, packed(address), known)

        names.tell(partial(told, self.lib.RX_NAME))
        transactions.tell(partial(told, self.lib.RX_TRANSACTION))
        for each in addresses:
            each.tell(heard)
        self.lib.rx_guard(rx)

    def forget(self, address: Address) -> None:
        """Nothing from that address is the common case any more."""
        raw = packed(address)
        self.lib.rx_forget(self.rx, raw, len(raw))

    def close(self) -> None:
        self.lib.rx_unwatch(self.rx)
