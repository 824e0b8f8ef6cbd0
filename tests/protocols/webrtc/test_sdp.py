"""Reading session descriptions: bounded, forgiving where it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, RelayError, TooLarge, Unprocessable
from relay.protocols.webrtc import sdp
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.offers import SESSION, join, video

STATUSES = (200, 400, 413, 422)
WHOLE = [offers.publisher(), offers.CHROMIUM, offers.OBS, offers.FFMPEG]


def status_of(text: str) -> int:
    try:
        sdp.parse(text)
    except RelayError as error:
        return error.status
    return 200


@pytest.mark.parametrize("text", WHOLE)
def test_offers_of_real_clients(text: str) -> None:
    description = sdp.parse(text)
    assert [section.kind for section in description.sections] == ["audio", "video"]
    assert description.bundle == ["0", "1"]
    for section in description.sections:
        assert section.transport.ufrag == offers.UFRAG
        assert section.transport.pwd == offers.PWD
        assert section.transport.fingerprints[0][0] == "sha-256"
        assert section.direction == "sendonly"
        assert section.rtcp_mux


def test_lf_only_reads_the_same() -> None:
    text = offers.CHROMIUM
    assert repr(sdp.parse(text)) == repr(sdp.parse(text.replace("\r\n", "\n")))


def test_formats_keep_the_order_of_the_media_line() -> None:
    section = sdp.parse(join(SESSION, video(types="103 102"))).sections[0]
    assert list(section.formats) == [103, 102]
    assert section.formats[102].name == "h264"
    assert section.formats[102].parameter("profile-level-id") == "42e01f"
    assert section.formats[103].parameter("apt") == "102"


def test_feedback_of_all_formats() -> None:
    codecs = ["a=rtcp-fb:* nack", "a=rtpmap:102 H264/90000", "a=rtcp-fb:102 nack pli"]
    section = sdp.parse(join(SESSION, video(codecs, types="102"))).sections[0]
    assert section.formats[102].feedback == ["nack pli", "nack"]


def test_media_level_comes_before_session_level() -> None:
    text = join(
        [*SESSION, "a=ice-ufrag:session", "a=setup:active", "a=sendrecv"],
        video(setup=None, direction=""),
    )
    section = sdp.parse(text).sections[0]
    assert section.transport.ufrag == offers.UFRAG
    assert section.transport.setup == "active"
    assert section.direction == "sendrecv"


def test_no_direction_is_both() -> None:
    assert sdp.parse(join(SESSION, video(direction=""))).sections[0].direction == "sendrecv"


def test_bundle_only_with_port_zero_is_not_rejected() -> None:
    sections = sdp.parse(
        join(SESSION, video(port="0", extra=["a=bundle-only"]), video(port="0", mid="2"))
    ).sections
    assert [section.rejected for section in sections] == [False, True]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "sdp_parse"),
        ("\r\n\r\n", "sdp_parse"),
        ('{"type": "offer"}', "sdp_parse"),
        ("v=1\r\n", "sdp_parse"),
        ("v=0\r\nhello\r\n", "sdp_parse"),
        (join(SESSION), "sdp_no_media"),
        (join(SESSION, "m=video"), "sdp_parse"),
        (join(SESSION, "m=video x UDP/TLS/RTP/SAVPF 96"), "sdp_parse"),
        (join(SESSION, "m=video 99999 UDP/TLS/RTP/SAVPF 96"), "sdp_parse"),
        (join(SESSION, "m=video 9 UDP/TLS/RTP/SAVPF 96 abc"), "sdp_parse"),
        (join(SESSION, "m=video 9 UDP/TLS/RTP/SAVPF 300"), "sdp_parse"),
        (join(SESSION, video(mid="7"), video(mid="7")), "sdp_duplicate_mid"),
        (join(SESSION, video(mid="a b")), "sdp_parse"),
        (join(SESSION, video(mid="x" * 300)), "sdp_parse"),
        (join(SESSION, video(mid="x\ra=y")), "sdp_parse"),
        (join(SESSION, video(mid="x\x00")), "sdp_parse"),
        (offers.publisher().replace(offers.UFRAG, "abc"), "sdp_ice"),
        (offers.publisher().replace(offers.PWD, "short"), "sdp_ice"),
    ],
)
def test_broken_descriptions(text: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        sdp.parse(text)
    assert caught.value.code == code
    assert caught.value.status == 400


def test_two_hundred_sections() -> None:
    with pytest.raises(Unprocessable) as caught:
        sdp.parse(join(SESSION, ["m=video 9 UDP/TLS/RTP/SAVPF 96"] * 200))
    assert caught.value.code == "too_many_tracks"


def test_a_huge_description() -> None:
    with pytest.raises(TooLarge):
        sdp.parse(offers.publisher() + "a=x\r\n" * 100_000)


def test_a_thousand_candidates_are_bounded() -> None:
    lines = [f"a=candidate:{i} 1 udp {i} 192.0.2.1 {i + 1} typ host" for i in range(1000)]
    section = sdp.parse(join(SESSION, video(extra=lines))).sections[0]
    assert len(section.candidates) == sdp.MAX_CANDIDATES


def test_candidates_that_nobody_can_send_to_are_bounded_too() -> None:
    named = [f"a=candidate:{n} 1 udp 1 name-{n}.local 9 typ host" for n in range(1000)]
    section = sdp.parse(join(SESSION, video(extra=named))).sections[0]
    assert section.candidates == []
    assert len(section._candidates) == 256


@pytest.mark.parametrize(
    "line",
    [
        "a=rtpmap:102",
        "a=rtpmap:x H264/90000",
        "a=rtpmap:102 H264",
        "a=fmtp:102",
        "a=fmtp:999 a=b",
        "a=rtcp-fb:",
        "a=rtcp-fb:5",
        "a=extmap:",
        "a=extmap:x urn:y",
        "a=extmap:99 urn:y",
        "a=ssrc:",
        "a=ssrc:99999999999 cname:x",
        "a=ssrc-group:",
        "a=ssrc-group:FID x y",
        "a=msid:",
        "a=candidate:",
        "a=group:",
        "a=fingerprint:sha-256",
        "a=:::",
        "a=",
        "b=AS:30",
    ],
)
def test_odd_attributes_are_left_out(line: str) -> None:
    section = sdp.parse(join(SESSION, line, video(extra=[line]))).sections[0]
    assert section.formats[102].name == "h264"


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    assert status_of("v=0\n" + text) in STATUSES


@given(st.lists(st.sampled_from(offers.CHROMIUM.split("\r\n")), max_size=40))
def test_lines_in_any_order(lines: list[str]) -> None:
    assert status_of("\n".join(["v=0", *lines])) in STATUSES


@given(st.data())
def test_a_changed_offer(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(WHOLE))
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 40))
    changed = text[:at] + data.draw(st.text(max_size=10)) + text[at + cut :]
    assert status_of(changed) in STATUSES
