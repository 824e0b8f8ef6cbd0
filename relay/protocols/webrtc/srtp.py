"""libsrtp's keys of a connection, as functions from packet to packet and for native code.

Private names of pylibsrtp are used here, and only here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import pylibsrtp
import pylibsrtp._binding

from relay.errors import ConfigError

SrtpError = pylibsrtp.Error

_BUFFER: Final = 2048
_TRAILER: Final = 148  # of RTCP: index, tag and the room libsrtp wants for a key name
_HOOKS: Final = ("srtp_protect", "srtp_protect_rtcp", "srtp_unprotect", "srtp_unprotect_rtcp")


class Profile(NamedTuple):
    """One of SRTP's (RFC 5764 section 4.1.2, RFC 7714 section 14.2)."""

    number: int
    """libsrtp's."""
    key: int
    """Bytes."""
    salt: int
    rtcp_trailer: int
    """Bytes of a protected RTCP packet from its index on: the tag of GCM stands before that
    (RFC 7714 section 9.1), others' behind it."""


def _profiles() -> dict[bytes, Profile]:
    """AES-128-GCM first: a third cheaper to protect with than AES-CM and SHA-1. What this libsrtp
    was built without is left out."""
    policy = pylibsrtp.Policy
    found = {
        b"SRTP_AEAD_AES_128_GCM": Profile(policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12, 4),
        b"SRTP_AEAD_AES_256_GCM": Profile(policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12, 4),
        b"SRTP_AES128_CM_SHA1_80": Profile(policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14, 14),
    }
    return {name: profile for name, profile in found.items() if _is_built(profile)}


def _is_built(profile: Profile) -> bool:
    try:
        pylibsrtp.Policy(srtp_profile=profile.number)
    except SrtpError:
        return False
    return True


PROFILES: Final = _profiles()
"""By OpenSSL's names, the most wanted first."""


def check_hooks() -> None:
    """See that every private name of pylibsrtp that we use is there.

    Raises:
        ConfigError: ``pylibsrtp_version``, naming what is missing.
    """
    missing = [name for name in _HOOKS if not hasattr(pylibsrtp._binding.lib, name)]
    if not hasattr(pylibsrtp.Session(), "_srtp"):
        missing.append("Session._srtp")
    if missing:
        raise ConfigError(
            f"this pylibsrtp does not fit (1.0.0 is needed): it lacks {', '.join(missing)}",
            code="pylibsrtp_version",
        )


@cache
def _policy(profile: int, ssrcs: int) -> pylibsrtp.Policy:
    """Made once for all connections: only the keys differ."""
    policy = pylibsrtp.Policy(ssrc_type=ssrcs, srtp_profile=profile)
    policy.allow_repeat_tx = True
    policy.window_size = 1024  # packets
    return policy


def _session(profile: int, ssrcs: int, keys: bytes) -> pylibsrtp.Session:
    """libsrtp's context of one direction."""
    policy = _policy(profile, ssrcs)
    policy.key = keys
    try:
        return pylibsrtp.Session(policy)
    finally:
        policy.key = None


@dataclass(frozen=True, slots=True)
class Srtp:
    """The keys of a connection, as functions from packet to packet.

    Each raises ``SrtpError``: not authentic, replayed, too short or too long.

    Attributes:
        rtcp_trailer: bytes of a protected RTCP packet from its index on.
    """

    protect: Callable[[bytes], bytes]
    protect_rtcp: Callable[[bytes], bytes]
    unprotect: Callable[[bytes], bytes]
    unprotect_rtcp: Callable[[bytes], bytes]
    sending: NativeKeys
    receiving: NativeKeys
    rtcp_trailer: int

    @classmethod
    def of(cls, profile: Profile, material: bytes, *, client: bool) -> Srtp:
        """
        Args:
            material: ``2 * (profile.key + profile.salt)`` bytes that DTLS exported: both keys,
                then both salts, the client's first (RFC 5764 section 4.2).
        """
        salts = 2 * profile.key
        each = [
            material[at * profile.key :][: profile.key]
            + material[salts + at * profile.salt :][: profile.salt]
            for at in (0, 1)
        ]
        ours, theirs = each if client else reversed(each)
        sending = _session(profile.number, pylibsrtp.Policy.SSRC_ANY_OUTBOUND, ours)
        receiving = _session(profile.number, pylibsrtp.Policy.SSRC_ANY_INBOUND, theirs)
        place = _memory()
        return cls(
            _transform(place, sending, "srtp_protect", _TRAILER),
            _transform(place, sending, "srtp_protect_rtcp", _TRAILER),
            _transform(place, receiving, "srtp_unprotect", 0),
            _transform(place, receiving, "srtp_unprotect_rtcp", 0),
            NativeKeys(sending),
            NativeKeys(receiving),
            profile.rtcp_trailer,
        )


class NativeKeys:
    """The keys of one direction, for native code.

    Attributes:
        pointer: address of libsrtp's context; good as long as this object is there.
    """

    def __init__(self, session: Any) -> None:
        self._session = session  # frees the context when it is collected
        ffi = pylibsrtp._binding.ffi
        self.pointer = int(ffi.cast("uintptr_t", session._srtp[0]))


def protect_pointer(name: str = "srtp_protect") -> int:
    """The address of a function of libsrtp, for native code."""
    binding = pylibsrtp._binding
    function = binding.ffi.addressof(binding.lib, name)
    return int(binding.ffi.cast("uintptr_t", function))


def _memory() -> tuple[Any, Any, Any]:
    """For one packet, and its length: of all transforms of a connection, which copy out of it what
    they return."""
    ffi = pylibsrtp._binding.ffi
    memory = ffi.new("char[]", _BUFFER)
    return memory, ffi.buffer(memory), ffi.new("int *")


def _transform(
    place: tuple[Any, Any, Any], session: Any, name: str, room: int
) -> Callable[[bytes], bytes]:
    """What ``pylibsrtp.Session`` does, with its buffers made once: 2 us less a packet."""
    function = getattr(pylibsrtp._binding.lib, name)
    memory, buffer, length = place
    keys = session._srtp[0]
    largest = _BUFFER - room

    def transform(packet: bytes) -> bytes:
        size = len(packet)
        if size > largest:
            raise SrtpError("packet is too long")
        buffer[0:size] = packet
        length[0] = size
        status = function(keys, memory, length)
        if status:
            raise SrtpError(f"{name}: {pylibsrtp.ERRORS[status]}")
        written: bytes = buffer[0 : length[0]]
        return written

    # The session frees its keys when it is collected.
    transform.session = session  # type: ignore[attr-defined]
    return transform
