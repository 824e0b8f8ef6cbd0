"""An egress over peers without a network, with one rendition."""

from __future__ import annotations

from relay.media.unit import Codec
from relay.protocols.webrtc.egress import Egress
from tests.protocols.webrtc.fake_peer import FakePeer, FakePeers


class Show:
    def __init__(self, *, video: bool = True, audio: bool = True) -> None:
        self.peers = FakePeers(video=video, audio=audio)
        self.egress = Egress(self.peers.as_peers())
        self.wanted = 0
        self.egress.open("show", on_keyframe_wanted=self._want)
        self.number = 0

    def _want(self) -> None:
        self.wanted += 1

    async def join(self) -> FakePeer:
        await self.egress.answer("show", "offer")
        peer = self.peers.made[-1]
        peer.connect()
        return peer

    def picture(self, *, keyframe: bool = False, packets: int = 1, size: int = 1) -> None:
        self.number += 1
        payloads = [bytes([self.number % 256]) * size for _ in range(packets)]
        self.egress.frame("show", Codec.H264, payloads, self.number * 3000, keyframe=keyframe)

    def sound(self) -> None:
        self.egress.frame("show", Codec.OPUS, [b"opus"], self.number * 1600)

    def step(self, *, keyframe: bool = False) -> None:
        """A picture, and the sound with it."""
        self.picture(keyframe=keyframe)
        self.sound()
