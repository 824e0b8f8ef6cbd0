"""What is printed once a role is ready."""

from __future__ import annotations

from relay.cli.options import load
from relay.cli.ready import ready_block, role_block
from relay.cli.wiring import Address

GATEWAY = {"url": "http://a:1", "port": 1, "udp_port": 2, "pid": 3, "role": "gateway"}
LINKS = ("http://a:1/whip/NAME", "http://a:1/whep/NAME", "http://a:1/watch/NAME", "http://a:1/\n")


def test_a_gateway_alone_prints_the_table_of_the_whole() -> None:
    settings = load(None, ["gateway.orchestrators=['https://b:4']", "gateway.open=true"])
    worker = {**GATEWAY, "role": "worker", "slots": 1, "models": ["echo"]}
    addresses = {
        role: Address.told(told)
        for role, told in {"gateway": GATEWAY, "orchestrator": GATEWAY, "worker": worker}.items()
    }
    for text in (role_block("gateway", settings, GATEWAY), ready_block(settings, addresses)):
        assert all(link in text for link in LINKS)
        assert "UDP 2" in text
        assert "anyone" in text
    assert "https://b:4" in role_block("gateway", settings, GATEWAY)


def test_the_tcp_port_of_media_is_told_where_there_is_one() -> None:
    told = {**GATEWAY, "tcp_port": 5}
    assert "on UDP 2 and TCP 5\n" in role_block("gateway", load(None, []), told)


def test_a_gateway_that_nobody_answered_says_so() -> None:
    told = GATEWAY | {"not_ready": "https://b:4 does not answer"}
    assert "not yet   https://b:4 does not answer" in role_block("gateway", load(None, []), told)
    assert "not yet" not in role_block("gateway", load(None, []), GATEWAY)


def test_another_role_alone_prints_one_line() -> None:
    assert "\n" not in role_block("worker", load(None, []), GATEWAY)
