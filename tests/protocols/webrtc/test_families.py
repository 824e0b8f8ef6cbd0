"""IPv4 and IPv6, on one port and on ports of their own, and many public addresses."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from relay.config import WebRtc
from relay.errors import ConfigError
from relay.protocols.webrtc.offering import Offering
from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.aiortc_client import reach
from tests.protocols.webrtc.test_peer_moves import flows


async def opened(**settings: object) -> Peers:
    """On ``::`` where the machine has IPv6, else on all of IPv4."""
    with suppress(ConfigError):
        return await Peers.open(WebRtc.model_validate({"host": "::", "port": 0, **settings}))
    return await Peers.open(WebRtc.model_validate({"host": "0.0.0.0", "port": 0, **settings}))


@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tcp_port", [None, 0])
async def test_one_port_serves_clients_of_both_families(family: str, tcp_port: int | None) -> None:
    peers = await opened(public_addresses=["127.0.0.1", "::1"], tcp_port=tcp_port)
    if ":" not in peers.udp.host:
        family = "127.0.0.1"
    mine = await Peers.open(WebRtc(host=family, port=0))
    offering = Offering(mine, send=True)
    theirs = await peers.answer(offering.text, receive=True)
    offering.accept(theirs.answer)
    await reach(theirs, PeerState.CONNECTED)
    await reach(offering.peer, PeerState.CONNECTED)
    await flows(offering.peer, theirs, 0)
    await flows(theirs, offering.peer, 1000)
    assert theirs.address is not None
    assert theirs.address[0] in (family, f"::ffff:{family}")
    await mine.close()
    await peers.close()
    assert peers.udp.idle


async def test_each_public_address_is_told_for_each_transport() -> None:
    addresses = ["203.0.113.5", "198.51.100.7", "2001:db8::5"]
    peers = await Peers.open(
        WebRtc(host="127.0.0.1", port=0, tcp_port=0, public_addresses=addresses)
    )
    answer = (await peers.answer(offers.publisher(), receive=True)).answer
    assert peers.tcp is not None
    ports = {"udp": peers.udp.port, "tcp": peers.tcp.port}
    found = re.findall(r"a=candidate:(\S+) 1 (\w+) (\d+) (\S+) (\d+) typ host", answer)
    told = [(transport, host, int(port)) for _, transport, _, host, port in found]
    assert set(told) == {(name, host, ports[name]) for name in ports for host in addresses}
    priorities = [int(priority) for _, _, priority, _, _ in found[: len(set(told))]]
    assert priorities == sorted(set(priorities), reverse=True)
    foundations = {foundation for foundation, *_ in found}
    assert len(foundations) == len(set(told))
    await peers.close()


async def test_both_ends_in_the_same_role_settle_it_and_media_flows() -> None:
    peers = await Peers.open(WebRtc(host="127.0.0.1", port=0))
    for stays in (True, False):  # who has the larger tie-breaker, and so keeps its role
        mine = await Peers.open(WebRtc(host="127.0.0.1", port=0))
        offering = Offering(mine, send=True)
        theirs = await peers.answer(offering.text, receive=True)
        theirs.ice.controlling = True
        theirs.ice.tie_breaker = 2 if stays else 0
        offering.peer.ice.tie_breaker = 1
        offering.accept(theirs.answer)
        await reach(theirs, PeerState.CONNECTED)
        await reach(offering.peer, PeerState.CONNECTED)
        assert theirs.ice.controlling is stays
        assert offering.peer.ice.controlling is not stays
        await flows(offering.peer, theirs, 0)
        await flows(theirs, offering.peer, 1000)
        await mine.close()
    await peers.close()
