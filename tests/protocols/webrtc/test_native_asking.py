"""Our own consent checks, as native code sends them; with a client of ours at the other end."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest

from relay.protocols.webrtc import stun
from relay.protocols.webrtc.egress import Egress
from relay.protocols.webrtc.native_track import NativeTrack
from relay.protocols.webrtc.path import BACK
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc.test_native_viewer import (
    Watched,
    egress,
    stun_in_python,
    watching,
)
from tests.protocols.webrtc.test_peer_moves import until

__all__ = ["egress"]


class Asked:
    """A viewer that is asked natively."""

    def __init__(self, watched: Watched, egress: Egress) -> None:
        assert egress._native is not None
        self.sender = egress._native
        self.session = watched.session
        self.native: Any = watched.path.native
        self.gathered = self.sender.gather(watched.session.viewer.tracks)
        self.watched = watched
        watched.session.attend()
        assert self.native.ask_every > 0

    def ask(self, early: float = 0.0) -> list[int]:
        """When the next check is due."""
        return self.sender.ask(self.gathered, self.native.ask_at - early)


def _newer(watched: Watched, before: float | None) -> bool:
    return watched.answered() != before


async def test_what_native_code_asks_is_what_python_would_and_is_answered(
    peers: Peers, mine: Peers, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(peers, mine, egress) as watched:
        asked, ice, path = Asked(watched, egress), watched.session.peer.ice, watched.path
        at_the_client = stun_in_python(mine, monkeypatch)
        came = stun_in_python(peers, monkeypatch)
        for _ in range(3):
            before = path.answered
            at_the_client.clear()
            due = asked.native.ask_at
            assert asked.ask() == []
            assert due + 4 <= asked.native.ask_at <= due + 6
            await until(partial(_newer, watched, before))
            (data,) = at_the_client
            sent = stun.parse(data)
            name = f"{path.theirs.ufrag}:{path.ours.ufrag}".encode()
            attributes = [
                (stun.USERNAME, name),
                (stun.PRIORITY, (0x6EFFFFFF).to_bytes(4, "big")),
                (stun.ICE_CONTROLLED, ice.tie_breaker.to_bytes(8, "big")),
            ]
            kind, key = stun.BINDING_REQUEST, path.theirs.pwd.encode()
            assert data == stun.build(kind, sent.transaction, attributes, key)
        assert came == []
        assert path.answered is not None  # and Python looks at it later only
        assert path.next_check == path.answered + BACK


async def test_no_check_leaves_before_its_time_nor_where_python_asks(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        asked, path = Asked(watched, egress), watched.path
        sent = peers.udp.statistics.sent
        assert asked.ask(early=0.01) == []
        path.unsettle()
        assert asked.native.ask_every == 0
        assert path.answered is not None
        assert path.next_check <= path.answered + 6
        assert asked.ask() == []
        assert peers.udp.statistics.sent == sent


async def test_of_one_that_does_not_answer_python_is_told_and_a_late_answer_still_counts(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        asked, ice, path = Asked(watched, egress), watched.session.peer.ice, watched.path
        watched.router.hold = lambda data: data[:2] == b"\x01\x01"
        assert asked.ask() == []
        assert asked.ask() == [0]
        assert asked.ask() == []  # said once
        asked.session.ask(time.monotonic())
        await until(lambda: bool(ice._transactions))
        await until(lambda: len(watched.router._held) == 2)
        before = path.answered
        watched.router._outside.sendto(watched.router._held[0], (peers.udp.host, peers.udp.port))
        await until(lambda: watched.answered() != before)
        assert asked.native.ask_every > 0  # it goes on natively


async def test_nothing_is_sent_to_one_that_has_left(
    peers: Peers, mine: Peers, egress: Egress
) -> None:
    async with watching(peers, mine, egress) as watched:
        asked = Asked(watched, egress)
        (track, *_) = watched.session.viewer.tracks
        assert isinstance(track, NativeTrack)
        due = asked.native.ask_at
        watched.session.peer.end("gone")
        assert not track.native.consent
        sent = peers.udp.statistics.sent
        assert asked.sender.ask(asked.gathered, due + 100) == []
        assert peers.udp.statistics.sent == sent
