"""An offer of our own, for our WHIP and WHEP clients, and what its answer makes of it."""

from __future__ import annotations

import time

from relay.errors import PeerError, RelayError
from relay.protocols.webrtc import description, negotiation, sdp
from relay.protocols.webrtc.addresses import named
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtp import fresh_ssrcs


class Offering:
    """A connection begun by us.

    Clients of one server need a ``Peers`` each: on a shared one they would have both
    ends of the 5-tuple in common.

    Attributes:
        text: the offer.
        peer: NEW until ``accept`` and the handshake.
    """

    def __init__(self, peers: Peers, *, send: bool, audio: bool = True) -> None:
        self._peers = peers
        self._send = send
        self._told: list[sdp.Candidate] = []
        self._lines = negotiation.offered_tracks(fresh_ssrcs(), audio=audio)
        self.peer = peers.new_peer(
            IceSession(
                peers.udp,
                controlling=True,
                consent_timeout=peers.settings.consent_timeout,
                now=time.monotonic(),
            )
        )
        self.text = description.write_offer(self._lines, peers.local_side(self.peer), send=send)

    def accept(self, answer: str) -> None:
        """Take the answer and connect.

        Raises:
            PeerError: ``bad_answer``; the peer stays NEW.
        """
        try:
            parsed = sdp.parse(answer)
        except RelayError as error:
            raise PeerError(f"the answer cannot be read: {error}", code="bad_answer") from error
        agreed = negotiation.accept_answer(parsed, self._lines, receive=not self._send)
        peer = self.peer
        peer.accept(agreed)
        peer.answer = answer
        peer.ice.set_remote(agreed.remote_ufrag, agreed.remote_pwd)
        found = {candidate: None for section in parsed.sections for candidate in section.candidates}
        self._told = best = sorted(found, key=lambda candidate: -candidate.priority)
        addresses = (self._peers.udp.address_of(c.host, c.port) for c in best)
        peer.ice.check_addresses([a for a in addresses if a is not None], time.monotonic())

    @property
    def how_far(self) -> str:
        """What came of the addresses that the answer told."""
        if self.peer.ice.selected is None:
            return f"nothing answered at {named(self._told)}"
        return f"{named(self._told)} answered, and the handshake did not end"
