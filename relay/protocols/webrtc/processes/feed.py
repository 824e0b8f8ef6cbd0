"""One stream's way over a link, bounded: who does not read loses pictures up to the next key
frame, and keeps the sound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.media.unit import Codec
from relay.protocols.webrtc.processes.link import Link

MAX_AGE: Final = 0.5
"""Seconds that a picture may wait on its way, on either side of the link."""

MAX_UNREAD: Final = 2 << 20
"""Bytes that may wait, all streams together ..."""

BURST: Final = 0.05
"""... for so many seconds: the kept pictures of a rendition are written at once."""

MAX_SOUND: Final = 4 << 20
"""Bytes from which on not even sound is sent."""


class Feed:
    """
    Args:
        on_gap: called when the first picture is left out.
        want_keyframe: asks for one; called often.

    Attributes:
        dropped: pictures that were not sent.
    """

    def __init__(
        self, link: Link, on_gap: Callable[[], None], want_keyframe: Callable[[], None]
    ) -> None:
        self.dropped = 0
        self._link = link
        self._on_gap = on_gap
        self._want_keyframe = want_keyframe
        self._skipping = False

    def put(self, codec: Codec, data: bytes, now: float, *, keyframe: bool) -> None:
        """
        Args:
            data: the unit as it is written.
        """
        link = self._link
        if codec is Codec.H264:
            if self._jammed(now):
                self._skip()
                return
            if self._skipping:
                if not keyframe:
                    self._skip()
                    self._want_keyframe()
                    return
                self._skipping = False
        elif link.waiting > MAX_SOUND:
            return
        link.write(data, now)

    def _jammed(self, now: float) -> bool:
        link = self._link
        if not link.waiting:
            return False
        age = link.age(now)
        return age > MAX_AGE or (link.waiting > MAX_UNREAD and age > BURST)

    def _skip(self) -> None:
        self.dropped += 1
        if not self._skipping:
            self._skipping = True
            self._on_gap()
