"""All peers of a process: one UDP port, one certificate, and whoever is connected by them."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

from relay.config import WebRtc
from relay.errors import Unavailable
from relay.protocols.webrtc import description, negotiation, sdp
from relay.protocols.webrtc.certificate import LIFE, Certificate
from relay.protocols.webrtc.description import LocalSide
from relay.protocols.webrtc.half_open import HalfOpen
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.peer import Peer
from relay.protocols.webrtc.roaming import Roaming
from relay.protocols.webrtc.rtp import fresh_ssrcs
from relay.protocols.webrtc.sdp import Candidate
from relay.protocols.webrtc.srtp import check_hooks
from relay.protocols.webrtc.tcp import TcpPort, open_ports
from relay.protocols.webrtc.turns import Turns
from relay.protocols.webrtc.udp import UdpPort

_CERTIFICATE_LIFE: Final = LIFE.total_seconds() / 2  # who comes last has it for as long

DROPPED: Final = ("unknown", "malformed", "checks", "dtls")
"""Why datagrams are not looked at: of no peer; of one, and no STUN; more checks, and more DTLS,
than any peer sends."""


class Peers:
    """All peers of a process: one UDP port, one certificate."""

    def __init__(
        self,
        settings: WebRtc,
        udp: UdpPort,
        tcp: TcpPort | None,
        candidates: list[Candidate],
    ) -> None:
        self.settings = settings
        self.udp, self.tcp = udp, tcp
        self.candidates = candidates
        self.turns = Turns(asyncio.get_running_loop().call_soon)
        peers: set[Peer] = set()
        self._peers = peers
        udp.on_stray = Roaming(lambda: peers).stray  # without us: the port is ours
        self.half_open = HalfOpen[Peer](lambda peer: peer.end("too many did not connect"))
        self._closed = False
        self._renew_certificate()

    @classmethod
    async def open(cls, settings: WebRtc, *, calling: bool = False) -> Peers:
        """Bind the port and make the certificate.

        Args:
            calling: it makes offers, and is not offered to; as ``UdpPort.open``.

        Raises:
            ConfigError: ``udp_bind``, ``tcp_bind``, ``public_address``, ``pylibsrtp_version``.
        """
        check_hooks()
        return cls(settings, *await open_ports(settings, calling=calling))

    def _renew_certificate(self) -> None:
        self.certificate = Certificate()
        self._certificate_made = time.monotonic()

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def dropped(self) -> dict[str, int]:
        """Datagrams that nobody looked at so far, by why; in the order of ``DROPPED``."""
        counted = self.udp.statistics
        found = (counted.strangers, counted.malformed, counted.flooded, self.turns.dropped)
        return dict(zip(DROPPED, found, strict=True))

    def forget(self, peer: Peer) -> None:
        self._peers.discard(peer)

    async def answer(self, offer: str, *, receive: bool) -> Peer:
        """Accept an offer: a publisher's (``receive``) or a viewer's.

        The peer is NEW; ``peer.answer`` is complete. Set its callbacks before the next
        wait: packets may come as soon as the answer is out.

        Raises:
            BadInput, TooLarge, Unprocessable: the offer (codes: sdp.py, negotiation.py).
            Unavailable: going away; too many offers at once.
        """
        await self.turns.turn()
        if self._closed:
            raise Unavailable("going away", code="draining")
        now = time.monotonic()
        ssrcs = fresh_ssrcs()
        agreed = negotiation.negotiate(sdp.parse(offer), receive=receive, ssrcs=ssrcs)
        ice = IceSession(
            self.udp,
            controlling=False,
            consent_timeout=self.settings.consent_timeout,
            now=now,
            remote_ufrag=agreed.remote_ufrag,
            remote_pwd=agreed.remote_pwd,
        )
        peer = self.new_peer(ice)
        peer.accept(agreed)
        peer.answer = description.write_answer(agreed, self.local_side(peer))
        return peer

    def new_peer(self, ice: IceSession) -> Peer:
        if time.monotonic() - self._certificate_made > _CERTIFICATE_LIFE:
            self._renew_certificate()
        peer = Peer(self, ice, secrets.token_hex(8))
        self._peers.add(peer)
        self.half_open.add(peer)
        return peer

    def local_side(self, peer: Peer) -> LocalSide:
        ice = peer.ice
        return LocalSide(ice.ufrag, ice.pwd, peer.certificate.sha256, self.candidates, peer.id)

    async def close(self) -> None:
        """Close every peer, then the port."""
        self._closed = True
        for peer in list(self._peers):
            await peer.close("going away")
        if self.tcp is not None:
            self.tcp.close()
        self.udp.close()
