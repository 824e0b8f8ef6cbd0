"""The shared socket: who gets what, and what strangers get."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import ConfigError
from relay.protocols.webrtc import stun, udp
from relay.protocols.webrtc.datagrams import BATCH
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.udp import BUFFER, MORE, TURN, UdpPort


@pytest.fixture
async def port() -> AsyncIterator[UdpPort]:
    opened = await UdpPort.open("127.0.0.1", 0)
    yield opened
    opened.close()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


def session_on(port: UdpPort) -> IceSession:
    return IceSession(port, controlling=False, consent_timeout=10, now=0.0)


def request(session: IceSession, *, pwd: str | None = None, ufrag: str | None = None) -> bytes:
    username = f"{ufrag or session.ufrag}:x".encode()
    return stun.build(
        stun.BINDING_REQUEST,
        b"transaction!",
        [(stun.USERNAME, username)],
        (pwd or session.pwd).encode(),
    )


@pytest.mark.parametrize(
    ("elsewhere", "waiting", "read"),
    [(0.0, 99, 1), (2.5 * TURN, 99, 3), (2.5 * TURN, 1, 2), (3600.0, 99, 1 + MORE), (3600.0, 0, 1)],
)
async def test_more_is_read_at_once_the_longer_all_else_has_taken(
    port: UdpPort,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: float,
    waiting: int,
    read: int,
) -> None:
    """Pictures that go out for long have nobody wait for good, and a flood alone delays none."""
    clock, batches = 0.0, 0

    def batch(now: float) -> int:
        nonlocal clock, batches
        batches += 1
        clock += 50 * TURN  # what reading itself takes is no reason to read more
        return BATCH if batches <= waiting else BATCH - 1

    monkeypatch.setattr(udp, "time", SimpleNamespace(monotonic=lambda: clock))
    monkeypatch.setattr(port, "_batch", batch)
    for _ in range(3):
        port._read_at, batches = clock, 0
        clock += elsewhere
        port._read()
        assert batches == read
        assert port._read_at == clock


@pytest.mark.parametrize(
    ("elsewhere", "read"), [(0.0, 1), (2.5 * TURN, 3), (3600.0, 1 + MORE), (-1.0, 1)]
)
async def test_native_code_reads_more_at_once_too(
    port: UdpPort, stranger: socket.socket, elsewhere: float, read: int
) -> None:
    port.read_natively()
    assert port.native is not None
    asyncio.get_running_loop().remove_reader(port._watched)
    now = time.monotonic()
    look = port.native.reader(port._datagram, lambda: now)
    look()
    now = time.monotonic() + elsewhere
    for _ in range((MORE + 2) * BATCH):
        stranger.sendto(b"\x01", (port.host, port.port))
    assert look() == BATCH
    assert port.statistics.received == read * BATCH


@pytest.mark.parametrize("native", [False, True], ids=["pure", "native"])
async def test_what_waits_is_read_in_full_batches(
    port: UdpPort, stranger: socket.socket, native: bool
) -> None:
    if native:
        port.read_natively()
    asyncio.get_running_loop().remove_reader(port._watched)
    for _ in range(BATCH + 10):
        stranger.sendto(b"\x01", (port.host, port.port))
    look = port.native.reader(port._datagram) if port.native is not None else None
    first, second, third = (look() if look is not None else port._batch(0.0) for _ in range(3))
    # Native code begins with a turn of its own: all at once.
    assert (first, second, third) == ((BATCH, 0, 0) if native else (BATCH, 10, 0))
    assert port.statistics.received == BATCH + 10


async def settle(port: UdpPort, received: int) -> None:
    """Wait until the port has read so many datagrams."""
    for _ in range(5000):
        if port.statistics.received >= received:
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


def heard(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(2048)
    except BlockingIOError:
        return None


async def test_a_check_is_answered_from_the_port_that_was_asked(
    port: UdpPort, stranger: socket.socket
) -> None:
    session = session_on(port)
    stranger.sendto(request(session), (port.host, port.port))
    await settle(port, 1)
    data, source = stranger.recvfrom(2048)
    assert source == (port.host, port.port)
    answer = stun.parse(data)
    assert answer.kind == stun.BINDING_SUCCESS
    mapped = answer.attributes[stun.XOR_MAPPED_ADDRESS]
    assert stun.parse_xor_address(mapped, answer.transaction) == stranger.getsockname()


async def test_strangers_hear_nothing(port: UdpPort, stranger: socket.socket) -> None:
    session = session_on(port)
    datagrams = [
        request(session, ufrag="nobody"),
        request(session, pwd="wrong" * 5),
        request(session)[:-1],
        stun.build(stun.BINDING_SUCCESS, b"transaction!", [], b"k"),
        stun.build(stun.BINDING_INDICATION, b"transaction!", [], None),
        b"\x16\xfe\xfd" + bytes(50),  # a ClientHello before any check
        b"\x80\x60" + bytes(50),
        b"\x00",
        bytes(1500),
    ]
    for datagram in [*datagrams, b""]:
        stranger.sendto(datagram, (port.host, port.port))
    await settle(port, len(datagrams) + 1)
    assert heard(stranger) is None
    assert port.statistics.malformed == 1
    assert port.statistics.strangers == len(datagrams) - 2
    assert session.statistics.refused == 1
    assert session.selected is None


async def test_datagrams_of_a_path_reach_its_session(
    port: UdpPort, stranger: socket.socket
) -> None:
    session = session_on(port)
    got: list[bytes] = []
    session.on_datagram = lambda data, path, now: got.append(data)
    stranger.sendto(b"\x80 too early", (port.host, port.port))
    stranger.sendto(request(session), (port.host, port.port))
    stranger.sendto(b"\x80 media", (port.host, port.port))
    stranger.sendto(b"\x16 handshake", (port.host, port.port))
    await settle(port, 4)
    assert got == [b"\x80 media", b"\x16 handshake"]
    session.close()
    assert port.idle
    stranger.sendto(b"\x80 too late", (port.host, port.port))
    await settle(port, 5)
    assert len(got) == 2


async def test_one_session_cannot_take_the_address_of_another(
    port: UdpPort, stranger: socket.socket
) -> None:
    first, second = session_on(port), session_on(port)
    stranger.sendto(request(first), (port.host, port.port))
    stranger.sendto(request(second), (port.host, port.port))
    await settle(port, 2)
    assert first.selected is not None
    assert second.selected is None
    first.selected.seen -= 10  # fallen silent: the address may have been given to another
    stranger.sendto(request(second), (port.host, port.port))
    await settle(port, 3)
    assert second.selected is not None
    first.close()
    assert port.claim(second.selected.address, second.selected, 0.0)


async def test_it_tells_what_buffers_it_was_granted(port: UdpPort) -> None:
    assert all(0 < size <= BUFFER for size in port.buffers)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        port._socket.setsockopt(socket.SOL_SOCKET, option, 1 << 16)
    assert port.buffers == (1 << 16, 1 << 16)


async def test_a_taken_port_is_told(port: UdpPort) -> None:
    with pytest.raises(ConfigError) as caught:
        await UdpPort.open("127.0.0.1", port.port)
    assert caught.value.code == "udp_bind"
    with pytest.raises(ConfigError):
        await UdpPort.open("203.0.113.254", 0)


async def test_what_cannot_be_sent_is_counted(port: UdpPort) -> None:
    port.sendto(b"x" * 70_000, ("127.0.0.1", 9))
    port.sender(("127.0.0.1", 9))(b"x" * 70_000)
    assert port.statistics.unsent == 2


async def test_one_socket_for_both_families() -> None:
    try:
        port = await UdpPort.open("::", 0)
    except ConfigError:
        port = await UdpPort.open("0.0.0.0", 0)  # a machine without IPv6
        assert port.address_of("2001:db8::1", 5) is None
    else:
        assert port.address_of("192.0.2.1", 5) == ("::ffff:192.0.2.1", 5, 0, 0)
        assert port.address_of("2001:db8::1", 5) == ("2001:db8::1", 5, 0, 0)
    session = session_on(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        sock.sendto(request(session), ("127.0.0.1", port.port))
        await settle(port, 1)
        answer = stun.parse(sock.recv(2048))
        mapped = answer.attributes[stun.XOR_MAPPED_ADDRESS]
        assert stun.parse_xor_address(mapped, answer.transaction) == sock.getsockname()
    port.close()
    port.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(min_size=1, max_size=100))
async def test_any_datagram(port: UdpPort, data: bytes) -> None:
    session = session_on(port)
    path = Path(("192.0.2.1", 1), session, session.remote, session.remote, 0.0)
    port.claim(path.address, path, 0.0)
    port._stun(data, path.address, 0.0)
    assert session.selected is None
    session.close()
