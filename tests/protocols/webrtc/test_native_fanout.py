"""The native part by itself: what only it can get wrong."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.unit import Codec
from relay.protocols.webrtc import native_fanout, native_library
from relay.protocols.webrtc.fanout import MAX_PAYLOAD
from relay.protocols.webrtc.h264_payload import Packetizer, packetize
from relay.protocols.webrtc.native_track import MAX_NAME
from relay.protocols.webrtc.payloads import Payloads
from relay.protocols.webrtc.rtcp import SenderReport, SourceDescription, parse_compound
from relay.protocols.webrtc.srtp import SrtpError
from tests.protocols.webrtc.outlet import (
    FakeOutlet,
    Keys,
    NativeBackend,
    SocketOutlet,
    parameters,
)


@pytest.fixture
def backend() -> Iterator[NativeBackend]:
    made = NativeBackend()
    yield made
    made.close()


@given(
    st.lists(st.lists(st.integers(1, MAX_PAYLOAD), min_size=1, max_size=12), min_size=1, max_size=4)
)
def test_whatever_the_sizes_each_packet_comes_out_by_itself(frames: list[list[int]]) -> None:
    backend = NativeBackend()
    try:
        tracks = [backend.track() for _ in range(3)]
        fan_out = backend.fan_out()
        fan_out.set([one for one, _ in tracks])
        payloads = [
            [bytes([number, index % 256]) * size for index, size in enumerate(sizes)]
            for number, sizes in enumerate(frames)
        ]
        cut = [[payload[:MAX_PAYLOAD] for payload in frame] for frame in payloads]
        for number, frame in enumerate(cut):
            fan_out.frame(frame, number * 3000, marker=True)
        for _, outlet in tracks:
            packets = outlet.packets
            assert [packet.payload for packet in packets] == [p for frame in cut for p in frame]
            assert all((b.sequence - a.sequence) & 0xFFFF == 1 for a, b in pairwise(packets))
        assert backend.counted == [3 * sum(map(len, cut)), 0]
    finally:
        backend.close()


def test_more_than_one_batch_of_viewers_and_more_bytes_than_the_arena(
    backend: NativeBackend,
) -> None:
    tracks = [backend.track() for _ in range(150)]
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in tracks])
    frame = [bytes([index]) * 1200 for index in range(20)]
    fan_out.frame(frame, 0, marker=True)
    small = [b"a", b"bb" * 600, b"c"]  # three messages each: packets that grow make no train
    fan_out.frame(small, 3000, marker=True)
    for _, outlet in tracks:
        assert [packet.payload for packet in outlet.packets] == frame + small


def test_a_frame_of_more_packets_than_one_message_may_have(backend: NativeBackend) -> None:
    one, outlet = backend.track()
    frame = [index.to_bytes(2, "big") for index in range(200)]
    one.send_alone(frame, 0, marker=True)
    assert [packet.payload for packet in outlet.packets] == frame


def test_an_address_that_cannot_be_reached_takes_only_its_own_packets(
    backend: NativeBackend,
) -> None:
    tracks = [backend.track() for _ in range(3)]
    tracks[1][0].route(Keys(2), ("255.255.255.255", 9))  # EACCES: broadcast is not asked for
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in tracks])
    assert fan_out.frame([b"a", b"b"], 0, marker=True) == []
    assert [len(outlet.packets) for _, outlet in tracks] == [2, 0, 2]
    assert backend.counted == [4, 2]


def test_a_viewer_that_moved_gets_what_comes_after_at_its_new_address(
    backend: NativeBackend,
) -> None:
    one, old = backend.track()
    one.send_alone([b"a"], 0, marker=True)
    new = SocketOutlet()
    one.route(Keys(1), new.socket.getsockname())
    one.send_alone([b"b"], 0, marker=True)
    one.route(None, None)
    one.send_alone([b"c"], 0, marker=True)
    assert [packet.payload for packet in old.packets] == [b"a"]
    assert [packet.payload for packet in new.packets] == [b"b"]
    new.socket.close()


def test_a_full_socket_drops_and_counts(backend: NativeBackend) -> None:
    backend._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    tracks = [backend.track() for _ in range(100)]
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in tracks])
    for number in range(20):
        fan_out.frame([bytes(1200)] * 8, number * 3000, marker=True)
    sent, unsent = backend.counted
    assert sent + unsent == 100 * 20 * 8
    before = tracks[0][0].sequence
    fan_out.frame([b"on"], 0, marker=True)
    assert tracks[0][0].sequence == (before + 1) & 0xFFFF


def test_where_the_kernel_cuts_no_messages_each_packet_goes_by_itself(
    backend: NativeBackend,
) -> None:
    so_no_check = 11  # Linux refuses UDP_SEGMENT on a socket that sends no checksums
    backend._socket.setsockopt(socket.SOL_SOCKET, so_no_check, 1)
    tracks = [backend.track() for _ in range(3)]
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in tracks])
    frame = [bytes([index]) * 100 for index in range(5)]
    for number in range(2):
        fan_out.frame(frame, number * 3000, marker=True)
    for _, outlet in tracks:
        assert [packet.payload for packet in outlet.packets] == frame * 2
    assert backend.counted == [30, 0]


def _from(outlet: FakeOutlet, own: str) -> tuple[object, ...]:
    """Its address, to be reached from one of ours."""
    assert isinstance(outlet, SocketOutlet)
    return (*outlet.socket.getsockname(), 0, 0, own)


@pytest.mark.parametrize("cuts", [True, False], ids=["cut by the kernel", "one by one"])
def test_each_viewer_is_sent_to_from_the_address_of_ours_that_it_knows(
    backend: NativeBackend, cuts: bool
) -> None:
    so_no_check = 11
    backend._socket.setsockopt(socket.SOL_SOCKET, so_no_check, not cuts)
    owns = ["127.0.0.2", "127.0.0.1", "127.0.0.3"]
    tracks = [backend.track() for _ in owns]
    for number, ((one, outlet), own) in enumerate(zip(tracks, owns, strict=True), 1):
        one.route(Keys(number), _from(outlet, own))
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in tracks])
    fan_out.frame([bytes([index]) * 100 for index in range(5)], 0, marker=True)
    backend.sender.report(backend.sender.gather([one for one, _ in tracks]), 0, 0.0)
    for (_, outlet), own in zip(tracks, owns, strict=True):
        assert isinstance(outlet, SocketOutlet)
        assert [outlet.socket.recvfrom(2048)[1][0] for _ in range(6)] == [own] * 6
    tracks[0][0].route(Keys(1), _from(tracks[0][1], "127.0.0.1")[:2])  # the kernel chooses again
    tracks[0][0].send_alone([b"a"], 3000, marker=True)
    assert isinstance(tracks[0][1], SocketOutlet)
    assert tracks[0][1].socket.recvfrom(2048)[1][0] == "127.0.0.1"
    assert backend.counted == [19, 0]


def test_an_address_that_is_ours_no_more_takes_only_its_own_packets(
    backend: NativeBackend,
) -> None:
    """And the kernel goes on cutting the messages of the others."""
    tracks = [backend.track() for _ in range(2)]
    tracks[0][0].route(Keys(1), _from(tracks[0][1], "203.0.113.9"))
    tracks[1][0].route(Keys(2), _from(tracks[1][1], "127.0.0.2"))
    udp_gro = 104  # what came as one message is read as one
    outlet = tracks[1][1]
    assert isinstance(outlet, SocketOutlet)
    outlet.socket.setsockopt(socket.IPPROTO_UDP, udp_gro, 1)
    fan_out = backend.fan_out()
    fan_out.set([one for one, _ in tracks])
    for number in range(2):
        assert fan_out.frame([bytes(100)] * 5, number * 3000, marker=True) == []
        assert len(outlet.socket.recv(1 << 16)) == 5 * 112
    assert tracks[0][1].packets == []
    assert backend.counted == [10, 10]


def test_ipv6_addresses_are_written_as_the_kernel_reads_them() -> None:
    backend = NativeBackend()
    receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    library = native_fanout._library()
    assert library is not None
    try:
        receiver.bind(("::1", 0))
        receiver.settimeout(5)
        protect = int(backend.sender.ffi.cast("uintptr_t", backend._protect))
        six = native_fanout.NativeSender(library, sender.fileno(), backend._count, protect)
        one, _ = backend.track()
        moved = six.track(parameters(), SimpleNamespace())
        moved.route(Keys(1), receiver.getsockname())
        moved.send_alone([b"six"], 0, marker=True)
        assert receiver.recv(2048).endswith(b"six")
        assert one.packets == 0
    finally:
        backend.close()
        receiver.close()
        sender.close()


def test_a_payload_that_is_too_large_is_refused_whole(backend: NativeBackend) -> None:
    one, outlet = backend.track()
    with pytest.raises(ValueError, match=str(MAX_PAYLOAD)):
        one.send_alone([b"a", bytes(MAX_PAYLOAD + 1)], 0, marker=True)
    assert outlet.packets == []
    assert one.packets == 0


def test_keys_that_fail_are_said_with_their_status(backend: NativeBackend) -> None:
    one, outlet = backend.track()
    backend.refuse(outlet)
    with pytest.raises(SrtpError, match="status 7"):
        one.send([b"a"], 0, marker=True)


def test_without_the_native_part_pure_python_sends_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_library, "HERE", tmp_path)
    native_fanout._library.cache_clear()
    native_library.say.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert native_fanout.NativeSender.over(0, lambda sent, unsent: None) is None
        assert len(caplog.records) == 1
        assert "pure Python sends" in caplog.text
    finally:
        native_fanout._library.cache_clear()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("uint32_t ssrc;", "uint32_t ssrc; uint64_t more;"),
        ("size_t fan_track_size(void);", "size_t fan_track_size(void); int fan_more(int);"),
    ],
    ids=["another struct", "another function"],
)
def test_a_library_of_another_version_is_not_used(
    before: str,
    after: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    header = native_library.HERE / "native" / "fanout.h"
    (tmp_path / "native").mkdir()
    changed = header.read_text().replace(before, after)
    (tmp_path / "native" / "fanout.h").write_text(changed)
    suffix = EXTENSION_SUFFIXES[0]
    real = native_library.HERE / f"_native{suffix}"
    (tmp_path / real.name).symlink_to(real)
    monkeypatch.setattr(native_library, "HERE", tmp_path)
    native_fanout._library.cache_clear()
    native_library.say.cache_clear()
    try:
        assert native_fanout._library() is None
        assert "another version" in caplog.text
    finally:
        native_fanout._library.cache_clear()


def test_sender_reports_of_a_viewer_share_a_datagram_with_its_names(
    backend: NativeBackend,
) -> None:
    sender = backend.sender
    outlet, other = SocketOutlet(), SocketOutlet()
    backend._outlets += [outlet, other]
    tracks = [
        sender.track(parameters(Codec.H264), outlet, "someone"),
        sender.track(parameters(Codec.OPUS), outlet, "someone"),
        sender.track(parameters(Codec.H264), other, "another of us"),
        sender.track(parameters(Codec.OPUS), other, "another of us"),
    ]
    for index, track in enumerate(tracks):
        place = outlet if index < 2 else other
        track.route(Keys(1 + index // 2), place.socket.getsockname())
        if index < 3:  # the last one has sent nothing yet
            track.send([b"media"], 0, marker=True)
            assert place.packets.pop().payload == b"media"
            place.sent.clear()
    ntp = 0x0123456789ABCDEF
    sender.report(sender.gather(tracks), ntp, 1.5)
    for place, own, name in (
        (outlet, tracks[:2], "someone"),
        (other, tracks[2:3], "another of us"),
    ):
        data = place.socket.recv(2048)
        expected = [track.sender_report(ntp, 1.5) for track in own]
        names = SourceDescription(tuple((track.ssrc, name) for track in own))
        assert parse_compound(data) == [*expected, names]
        with pytest.raises(BlockingIOError):
            place.socket.recv(2048)


@given(st.text("abc", max_size=MAX_NAME), st.floats(-1e6, 1e6))
def test_a_report_is_what_pure_python_reports(name: str, line: float) -> None:
    backend = NativeBackend()
    outlet = SocketOutlet()
    try:
        track = backend.sender.track(parameters(), outlet, name)
        track.route(Keys(1), outlet.socket.getsockname())
        track.send([b"a", b"b"], 0, marker=True)
        assert len(outlet.packets) == 2
        backend.sender.report(backend.sender.gather([track]), 7, line)
        expected = [track.sender_report(7, line)]
        names = [SourceDescription(((track.ssrc, name),))] if name else []
        report, *rest = parse_compound(outlet.socket.recv(2048))
        assert isinstance(report, SenderReport)
        assert (report.timestamp - expected[0].timestamp) & 0xFFFFFFFF in (0, 1, 0xFFFFFFFF)
        assert (report.ssrc, report.ntp, report.packets, report.octets) == (track.ssrc, 7, 2, 2)
        assert rest == names
    finally:
        outlet.socket.close()
        backend.close()


def test_a_name_that_does_not_fit_is_refused(backend: NativeBackend) -> None:
    with pytest.raises(ValueError, match="name"):
        backend.sender.track(parameters(), FakeOutlet(), "n" * (MAX_NAME + 1))


def test_a_cut_picture_leaves_as_its_payloads_would(backend: NativeBackend) -> None:
    one, outlet = backend.track()
    fan_out = backend.fan_out()
    fan_out.set([one])
    picture = b"\0\0\0\1\x67abc\0\0\0\1\x65" + b"\x9a" * 5000
    found = Packetizer(1000).cut(picture)
    assert type(found) is Payloads
    fan_out.frame(found, 3000, marker=True)
    packets = outlet.packets
    assert [packet.payload for packet in packets] == packetize(picture, 1000)
    assert [packet.marker for packet in packets] == [False] * (len(packets) - 1) + [True]
    again = one.retransmission(packets[1].sequence)
    assert again is not None
    assert packets[1].payload in again


def test_a_payload_that_is_too_long_fails_on_all_and_leaves_on_none(
    backend: NativeBackend,
) -> None:
    one, outlet = backend.track()
    found = Packetizer(MAX_PAYLOAD + 1).cut(b"\0\0\0\1\x65" + b"\x9a" * 5000)
    assert type(found) is Payloads
    with pytest.raises(SrtpError):
        one.send(found, 0, marker=True)
    assert outlet.packets == []
