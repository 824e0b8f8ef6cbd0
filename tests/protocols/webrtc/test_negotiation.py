"""Which offers are accepted, with what, and with which code the others are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, PeerError, RelayError, Unprocessable
from relay.media.unit import Codec
from relay.protocols.webrtc import description, negotiation, sdp
from relay.protocols.webrtc.description import LocalSide
from relay.protocols.webrtc.negotiation import TRANSPORT_CC, Negotiated, TrackParameters
from relay.protocols.webrtc.sdp import Candidate, Section
from tests.protocols.webrtc import offers
from tests.protocols.webrtc.offers import BUNDLE, SESSION, audio, h264, join, mode, video

SSRCS = (1001, 1002, 1003, 1004)
LOCAL = LocalSide(
    "ourufrag",
    "o" * 32,
    ":".join(["CD"] * 32),
    [Candidate("1", 2130706431, "198.51.100.1", 7280)],
    "name",
)


def agree(text: str, *, receive: bool = True) -> Negotiated:
    return negotiation.negotiate(sdp.parse(text), receive=receive, ssrcs=SSRCS)


def answer(text: str, *, receive: bool = True) -> str:
    return description.write_answer(agree(text, receive=receive), LOCAL)


def sections(text: str, *, receive: bool = True) -> list[Section]:
    return sdp.parse(answer(text, receive=receive)).sections


def video_track(text: str, *, receive: bool = True) -> TrackParameters:
    track = agree(text, receive=receive).track(Codec.H264)
    assert track is not None
    return track


@pytest.mark.parametrize(
    "text", [offers.publisher(), offers.CHROMIUM, offers.OBS, offers.FFMPEG], ids=repr
)
def test_the_answer_mirrors_the_offer(text: str) -> None:
    offer = sdp.parse(text)
    raw = answer(text)
    parsed = sdp.parse(raw)
    assert raw.startswith("v=0\r\n")
    assert "\n" not in raw.replace("\r\n", "")
    assert len(raw) < 8192
    assert [s.mid for s in parsed.sections] == [s.mid for s in offer.sections]
    assert [s.kind for s in parsed.sections] == [s.kind for s in offer.sections]
    assert parsed.bundle == ["0", "1"]
    for section, offered in zip(parsed.sections, offer.sections, strict=True):
        assert section.direction == "recvonly"
        assert section.port == 7280
        assert section.candidates == list(LOCAL.candidates)
        assert set(section.formats) <= set(offered.formats)
        assert section.transport.ufrag == "ourufrag"
        assert section.transport.fingerprints == [("sha-256", LOCAL.fingerprint)]
    assert raw.count("a=rtcp-mux-only\r\n") == 2
    assert raw.count("a=rtcp-mux\r\n") == 2


@pytest.mark.parametrize(
    ("offered", "answered"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
def test_dtls_roles(offered: str, answered: str) -> None:
    text = join(SESSION, video(setup=offered))
    assert sections(text)[0].transport.setup == answered
    assert agree(text).active is (answered == "active")


def test_no_setup_attribute_is_taken_as_actpass() -> None:
    assert sections(join(SESSION, video(setup=None)))[0].transport.setup == "passive"


# -- codecs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fmtp",
    [
        mode("42001f"),
        mode("42e01f"),
        mode("42401f"),
        mode("42e034"),
        mode("4d001f"),
        mode("64001f"),
        mode("640c1f"),
        mode("f4001f"),
        mode("42e01f", 0),
        mode("4d001f", 0),
        "packetization-mode=1",
        "profile-level-id=42e01f",
        None,
    ],
)
@pytest.mark.parametrize("receive", [True, False])
def test_every_h264_is_answered_in_its_own_terms(fmtp: str | None, receive: bool) -> None:
    direction = "sendonly" if receive else "recvonly"
    text = join(SESSION, video(h264(102, fmtp, rtx=103), direction=direction))
    offered = sdp.parse(text).sections[0].formats[102].parameters
    (section,) = sections(text, receive=receive)
    assert list(section.formats) == [102, 103]
    parameters = dict(section.formats[102].parameters)
    start = parameters.pop("x-google-start-bitrate", None)
    assert start == ("2000" if receive else None)
    assert parameters == offered
    track = video_track(text, receive=receive)
    assert track.payload_type == 102
    assert track.rtx_payload_type == 103
    assert track.packetization_mode == int(offered.get("packetization-mode") or 0)


def test_mode_one_and_baseline_are_preferred_then_the_order_of_the_offer() -> None:
    assert video_track(offers.CHROMIUM).payload_type == 102
    codecs = [
        *h264(96, mode("640c1f")),
        *h264(98, mode("42e01f", 0)),
        *h264(100, mode("42e01f"), rtx=101),
        *h264(102, mode("42001f")),
    ]
    text = join(SESSION, video(codecs, types="96 98 100 101 102"))
    track = video_track(text)
    assert (track.payload_type, track.rtx_payload_type) == (100, 101)
    high = join(SESSION, video(codecs[:14], types="96 98"))
    assert video_track(high).payload_type == 96


def test_payload_types_that_look_like_rtcp_are_not_used() -> None:
    text = join(
        SESSION, video([*h264(72, mode("42e01f")), *h264(102, mode("42e01f"))], types="72 102")
    )
    assert video_track(text).payload_type == 102


def test_interleaved_mode_is_not_h264_for_us() -> None:
    with pytest.raises(Unprocessable) as caught:
        agree(join(SESSION, video(h264(102, mode("42e01f", 2)))))
    assert caught.value.code == "no_h264"


def test_opus_parameters_come_back() -> None:
    section = sections(offers.OBS)[0]
    assert section.formats[111].parameters == {
        "minptime": "10",
        "maxaveragebitrate": "96000",
        "stereo": "1",
        "sprop-stereo": "1",
        "useinbandfec": "1",
    }
    assert section.formats[111].channels == 2
    assert sections(offers.CHROMIUM)[0].formats[111].parameters == {
        "minptime": "10",
        "useinbandfec": "1",
    }
    assert sections(offers.FFMPEG)[0].formats[111].parameters == {}


def test_feedback_and_extensions() -> None:
    track = video_track(offers.CHROMIUM)
    assert track.feedback == {"nack", "nack pli", "ccm fir", "transport-cc"}
    assert track.extensions == {offers.MID: 4, TRANSPORT_CC: 3}
    section = sections(offers.CHROMIUM)[1]
    assert "transport-cc" in section.formats[102].feedback
    assert section.extensions == {offers.MID: 4, offers.TRANSPORT_CC: 3}
    opus = sections(offers.CHROMIUM)[0].formats[111]
    assert opus.feedback == ["transport-cc"]
    assert video_track(offers.OBS).feedback == {"nack", "nack pli", "goog-remb"}
    assert video_track(offers.FFMPEG).feedback == {"nack"}


def test_sources() -> None:
    track = video_track(offers.CHROMIUM)
    assert (track.remote_ssrc, track.remote_rtx_ssrc) == (2222, 3333)
    assert (track.ssrc, track.rtx_ssrc) == (1001, 1002)
    track = video_track(offers.FFMPEG)  # the second is named in the group only
    assert (track.remote_ssrc, track.remote_rtx_ssrc) == (8, 9)
    track = video_track(offers.OBS)
    assert (track.remote_ssrc, track.remote_rtx_ssrc, track.rtx_ssrc) == (2, None, None)
    assert video_track(join(SESSION, video())).remote_ssrc is None


# -- WHEP ------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["recvonly", "sendrecv"])
def test_a_viewer_gets_one_stream(direction: str) -> None:
    raw = answer(offers.viewer(direction), receive=False)
    first, second = sdp.parse(raw).sections
    assert first.direction == second.direction == "sendonly"
    assert first.stream_ids == second.stream_ids == ["name"]
    assert first.ssrcs == [1003]
    assert second.ssrcs == [1001, 1002]
    assert second.ssrc_groups == [("FID", [1001, 1002])]
    assert "x-google" not in raw


def test_a_viewers_data_channel_is_left_out() -> None:
    text = join(
        SESSION,
        "a=group:BUNDLE 0 1 2",
        audio(direction="recvonly"),
        video(direction="recvonly"),
        offers.DATA_CHANNEL,
    )
    parsed = sdp.parse(answer(text, receive=False))
    assert parsed.bundle == ["0", "1"]
    assert [s.port for s in parsed.sections] == [7280, 7280, 0]
    assert parsed.sections[2].kind == "application"
    assert parsed.sections[2].mid == "2"


# -- what is accepted although it is odd --------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        join(SESSION, video(mid=None)),
        join(SESSION, audio(mid=None)),
        join(SESSION, "a=group:BUNDLE 0 1", video()),
        join(SESSION, BUNDLE, audio(), video(port="0", extra=["a=bundle-only"])),
        join(SESSION, "a=group:BUNDLE 0 " + "m" * 64, audio(), video(mid="m" * 64)),
        join(SESSION, BUNDLE, audio(direction=""), video(direction="sendrecv")),
        join(SESSION, BUNDLE, audio(), video(), end="\n"),
        join(SESSION, BUNDLE, audio(), video(extra=["a=rid:hi send"])),
    ],
)
def test_odd_offers_are_accepted(text: str) -> None:
    parsed = sections(text)
    assert all(section.port for section in parsed)
    assert all(section.direction == "recvonly" for section in parsed)


def test_one_section_without_mid_has_no_bundle() -> None:
    raw = answer(join(SESSION, video(mid=None)))
    assert "BUNDLE" not in raw
    assert "a=mid" not in raw


# -- what is refused -------------------------------------------------------------------


def offer_without(pattern: str) -> str:
    return re.sub(rf"a={pattern}[^\r]*\r\n", "", offers.publisher())


WHIP_REFUSALS = {
    "recvonly": (offers.publisher().replace("sendonly", "recvonly"), 422, "direction"),
    "inactive": (offers.publisher().replace("sendonly", "inactive"), 422, "direction"),
    "one inactive": (
        join(SESSION, BUNDLE, audio(direction="inactive"), video()),
        422,
        "direction",
    ),
    "no ufrag": (offer_without("ice-ufrag"), 400, "sdp_no_ice"),
    "no pwd": (offer_without("ice-pwd"), 400, "sdp_no_ice"),
    "no fingerprint": (offer_without("fingerprint"), 400, "sdp_no_fingerprint"),
    "sha-1": (offers.publisher().replace("sha-256", "sha-1"), 422, "fingerprint_hash"),
    "holdconn": (offers.publisher().replace("actpass", "holdconn"), 422, "dtls_setup"),
    "ice-lite": (offers.publisher().replace("t=0 0", "t=0 0\r\na=ice-lite"), 422, "ice_lite"),
    "no rtcp-mux": (offer_without("rtcp-mux"), 422, "no_rtcp_mux"),
    "no bundle": (join(SESSION, audio(), video()), 422, "not_bundled"),
    "half a bundle": (join(SESSION, "a=group:BUNDLE 0", audio(), video()), 422, "not_bundled"),
    "no mids": (join(SESSION, BUNDLE, audio(mid=None), video(mid=None)), 422, "not_bundled"),
    "two videos": (
        join(SESSION, "a=group:BUNDLE 1 2", video(), video(mid="2")),
        422,
        "too_many_tracks",
    ),
    "two streams": (
        join(SESSION, BUNDLE, audio(extra=["a=msid:a x"]), video(extra=["a=msid:b y"])),
        422,
        "too_many_streams",
    ),
    "all rejected": (join(SESSION, video(port="0")), 422, "no_tracks"),
    "data channel": (
        join(SESSION, "a=group:BUNDLE 0 1 2", audio(), video(), offers.DATA_CHANNEL),
        422,
        "data_channel",
    ),
    "plain RTP": (
        offers.publisher().replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
        422,
        "transport_protocol",
    ),
    "VP8 only": (
        join(SESSION, video(["a=rtpmap:96 VP8/90000"], types="96")),
        422,
        "no_h264",
    ),
    "no codec at all": (join(SESSION, video([], types="96")), 422, "no_h264"),
    "PCMU only": (
        join(SESSION, audio(["a=rtpmap:0 PCMU/8000"], types="0")),
        422,
        "no_common_codec",
    ),
    "simulcast": (
        join(SESSION, video(extra=["a=rid:h send", "a=rid:l send", "a=simulcast:send h;l"])),
        422,
        "simulcast",
    ),
    "old simulcast": (join(SESSION, video(extra=["a=ssrc-group:SIM 1 2 3"])), 422, "simulcast"),
}


@pytest.mark.parametrize("name", WHIP_REFUSALS)
def test_refused_publishers(name: str) -> None:
    text, status, code = WHIP_REFUSALS[name]
    with pytest.raises(RelayError) as caught:
        agree(text)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert isinstance(caught.value, BadInput | Unprocessable)
    assert str(caught.value)


@pytest.mark.parametrize("direction", ["sendonly", "inactive"])
def test_refused_viewers(direction: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        agree(offers.viewer(direction), receive=False)
    assert caught.value.code == "direction"


@given(st.data())
def test_a_changed_offer_is_answered_or_refused(data: st.DataObject) -> None:
    lines = data.draw(
        st.sampled_from([offers.CHROMIUM, offers.OBS, offers.FFMPEG, offers.viewer()])
    ).split("\r\n")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = data.draw(st.sampled_from([*lines, "", "a=", "m=video 9 X 1", "a=mid:0"]))
    assert outcome("\r\n".join(lines), receive=data.draw(st.booleans())) in (0, 400, 422)


def outcome(text: str, *, receive: bool) -> int:
    """0 for an answer that reads back, else the status of the refusal."""
    try:
        raw = answer(text, receive=receive)
    except RelayError as error:
        return error.status
    sdp.parse(raw)
    return 0


# -- our own offers --------------------------------------------------------------------


@pytest.mark.parametrize("audio_too", [True, False])
@pytest.mark.parametrize("send", [True, False])
def test_our_own_offer_and_its_answer(send: bool, audio_too: bool) -> None:
    lines = negotiation.offered_tracks(SSRCS, audio=audio_too)
    offer = description.write_offer(lines, LOCAL, send=send)
    agreed = negotiation.negotiate(sdp.parse(offer), receive=send, ssrcs=(21, 22, 23, 24))
    back = sdp.parse(description.write_answer(agreed, LOCAL))
    ours = negotiation.accept_answer(back, lines, receive=not send)
    assert ours.active
    assert ours.remote_ufrag == "ourufrag"
    for codec in Codec:
        mine, theirs = ours.track(codec), agreed.track(codec)
        if codec is Codec.OPUS and not audio_too:
            assert mine is theirs is None
            continue
        assert mine is not None
        assert theirs is not None
        assert mine.payload_type == theirs.payload_type
        assert mine.rtx_payload_type == theirs.rtx_payload_type
        assert theirs.remote_ssrc == (mine.ssrc if send else None)
        assert mine.remote_ssrc == (None if send else theirs.ssrc)
        assert mine.remote_rtx_ssrc == (None if send else theirs.rtx_ssrc)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"m=audio", "m=video"),
        (r"m=(audio|video) \d+", r"m=\1 0"),
        (r"a=setup:passive", "a=setup:actpass"),
        (r"a=fingerprint:[^\r]*", "a=x"),
        (r"a=ice-pwd:[^\r]*", "a=x"),
        (r"a=rtpmap:\d+ (H264|opus)", "a=rtpmap:5 x"),
    ],
)
def test_answers_that_cannot_be_used(pattern: str, replacement: str) -> None:
    lines = negotiation.offered_tracks(SSRCS, audio=True)
    good = answer(description.write_offer(lines, LOCAL, send=True))
    bad = re.sub(pattern, replacement, good)
    assert bad != good
    with pytest.raises(PeerError) as caught:
        negotiation.accept_answer(sdp.parse(bad), lines, receive=False)
    assert caught.value.code == "bad_answer"


def test_an_answer_with_another_number_of_sections() -> None:
    lines = negotiation.offered_tracks(SSRCS, audio=True)
    back = sdp.parse(answer(join(SESSION, video())))
    with pytest.raises(PeerError):
        negotiation.accept_answer(back, lines, receive=False)
