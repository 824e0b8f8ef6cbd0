"""Offers of ours with what browsers offer beside it: transport-wide numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from relay.protocols.webrtc.description import write_offer
from relay.protocols.webrtc.negotiation import TRANSPORT_CC
from relay.protocols.webrtc.offering import Offering

NUMBERS_ID: Final = 4
"""Of the header extension, as Chromium numbers it."""


def offer_numbers(offering: Offering) -> None:
    """Write an offer anew, with the header extension and its feedback in each track."""
    offering._lines = [
        line
        if line.track is None
        else replace(
            line,
            track=replace(
                line.track,
                extensions={**line.track.extensions, TRANSPORT_CC: NUMBERS_ID},
                feedback=line.track.feedback | {"transport-cc"},
            ),
        )
        for line in offering._lines
    ]
    local = offering._peers.local_side(offering.peer)
    offering.text = write_offer(offering._lines, local, send=offering._send)
