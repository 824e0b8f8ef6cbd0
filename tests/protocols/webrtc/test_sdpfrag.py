"""Trickle fragments: the RFC's shape, the shapes of real clients, and garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, ParseError, TooLarge
from relay.protocols.webrtc import sdpfrag
from relay.protocols.webrtc.sdp import Candidate

PWD = "x" * 22
TRICKLE = (
    "a=group:BUNDLE 0 1\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
    "a=mid:0\r\n"
    "a=ice-ufrag:EsAw\r\n"
    f"a=ice-pwd:{PWD}\r\n"
    "a=candidate:1 1 udp 2122260223 192.0.2.7 61764 typ host generation 0 ufrag other\r\n"
    "a=end-of-candidates\r\n"
)


@pytest.mark.parametrize("text", [TRICKLE, TRICKLE.replace("\r\n", "\n"), "v=0\r\n" + TRICKLE])
def test_a_trickle_fragment(text: str) -> None:
    fragment = sdpfrag.parse(text.encode())
    assert fragment.ufrag == "EsAw"
    assert fragment.pwd == PWD
    assert fragment.mids == ("0",)
    assert fragment.end_of_candidates
    assert fragment.candidates == (Candidate("1", 2122260223, "192.0.2.7", 61764),)


def test_credentials_of_the_media_come_before_those_of_the_session() -> None:
    body = f"a=ice-ufrag:sess\na=ice-pwd:{PWD}s\nm=audio 9 RTP/AVP 0\na=ice-ufrag:media\n"
    fragment = sdpfrag.parse(body.encode())
    assert (fragment.ufrag, fragment.pwd) == ("media", PWD + "s")


def test_end_of_candidates_alone_is_a_fragment() -> None:
    fragment = sdpfrag.parse(b"a=end-of-candidates\r\n")
    assert fragment.end_of_candidates
    assert fragment.ufrag is None


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 udp 1 f00d-1234.local 9 typ host",
        "1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
        "1 1 sctp 1 192.0.2.1 9 typ host",
        "1 1 udp 1 fe80::1%eth0 9 typ host",
        "1 1 udp 1 999.0.2.1 9 typ host",
        "1 1 udp 1 224.0.0.1 9 typ host",
        "1 1 udp 1 0.0.0.0 9 typ host",
        "1 1 udp 1 192.0.2.1 0 typ host",
        "1 1 udp x 192.0.2.1 9 typ host",
        "1 2 udp 1 192.0.2.1 9 typ host",
        "1 1 udp",
        "",
    ],
)
def test_candidates_we_cannot_use_are_dropped_in_silence(candidate: str) -> None:
    assert sdpfrag.parse(f"a=candidate:{candidate}\r\n".encode()).candidates == ()


def test_component_zero_is_taken_as_one() -> None:
    body = (
        b"m=audio 9 RTP/AVP 0\na=candidate:1 0 udp 5 192.0.2.1 9 typ srflx raddr 0.0.0.0 rport 9\n"
    )
    assert sdpfrag.parse(body).candidates == (Candidate("1", 5, "192.0.2.1", 9, "srflx"),)


def test_a_thousand_candidates_are_bounded() -> None:
    line = "a=candidate:1 1 udp 5 192.0.2.1 9 typ host\r\n"
    assert len(sdpfrag.parse((line * 1000).encode()).candidates) == 64


@pytest.mark.parametrize(
    "body", [b"", b"\r\n", b"hello", b'{"a":1}', b"\xff\xfe", b"v=0\r\n", b"a=foo:bar\r\n"]
)
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(ParseError):
        sdpfrag.parse(body)


@pytest.mark.parametrize("line", ["a=ice-ufrag:abc", "a=ice-pwd:short", "a=ice-ufrag:" + "x" * 300])
def test_credentials_of_a_wrong_length_are_refused(line: str) -> None:
    with pytest.raises(BadInput):
        sdpfrag.parse(line.encode())


def test_a_huge_body_is_refused() -> None:
    with pytest.raises(TooLarge):
        sdpfrag.parse(b"a=end-of-candidates\n" * 5000)


@given(st.binary(max_size=300))
def test_bytes_from_strangers(body: bytes) -> None:
    try:
        fragment = sdpfrag.parse(body)
    except BadInput:
        return
    assert len(fragment.candidates) <= 64


@given(
    st.lists(
        st.sampled_from(
            [*TRICKLE.splitlines(), "a=mid:", "m=", "a=candidate:", "a=ice-ufrag:wxyz", "a=x"]
        ),
        max_size=20,
    )
)
def test_lines_in_any_order(lines: list[str]) -> None:
    try:
        fragment = sdpfrag.parse("\n".join(lines).encode())
    except BadInput:
        return
    assert fragment.ufrag in (None, "EsAw", "wxyz")


def test_a_restart_answer_reads_back() -> None:
    candidates = [Candidate("1", 2130706431, "198.51.100.1", 39132)]
    text = sdpfrag.serialise(
        "newufrag",
        "p" * 24,
        candidates,
        [
            sdpfrag.MediaLine("audio", "UDP/TLS/RTP/SAVPF", 111, "0"),
            sdpfrag.MediaLine("video", "UDP/TLS/RTP/SAVPF", 96, "1"),
        ],
        ice_options="trickle",
    )
    assert "\n" not in text.replace("\r\n", "")
    assert "a=group:BUNDLE 0 1\r\n" in text
    fragment = sdpfrag.parse(text.encode())
    assert (fragment.ufrag, fragment.pwd, fragment.mids) == ("newufrag", "p" * 24, ("0",))
    assert fragment.candidates == tuple(candidates)
    assert fragment.end_of_candidates
