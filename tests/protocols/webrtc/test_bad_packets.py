"""What may come from a publisher's own address, on the real socket: nothing good is lost by it."""

from __future__ import annotations

import random
from fractions import Fraction

import av
import pytest

from relay.protocols.webrtc.peer import PeerState
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.rtcp import SenderReport, SourceDescription, compound
from relay.protocols.webrtc.rtp import RtpPacket, wrap_rtx
from tests.protocols.webrtc.live_publisher import Publisher, publishing
from tests.protocols.webrtc.source import PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, START
from tests.protocols.webrtc.test_peer_moves import until


async def test_packets_recorded_and_sent_again_change_nothing(either: Peers, mine: Peers) -> None:
    async with publishing(either, mine) as publisher:
        recorded: list[bytes] = []
        copies = 0
        for index in range(30):
            packets = publisher.sealed(keyframe=index % 10 == 0)
            half = len(packets) // 2
            # Those of long ago in the midst of a picture, each of its own once more behind it.
            await publisher.send([*packets[:half], *recorded, *packets[half:], *packets])
            copies += len(recorded) + len(packets)
            recorded = [*recorded, *packets][-60:]
        await publisher.seen(31)
        assert publisher.numbers == list(range(32))
        await until(lambda: publisher.refused == copies)
        seen = publisher.session.statistics()
        assert (seen.lost, seen.malformed, publisher.asked) == (0, 0, [])
        await publisher.goes_on()


@pytest.mark.parametrize("at", [0, 1])
async def test_a_packet_cut_at_each_length_takes_nobodys_place(
    either: Peers, mine: Peers, at: int
) -> None:
    async with publishing(either, mine) as publisher:
        for size in (1500, 3000):
            packets = publisher.sealed(size=size)
            whole = packets[at]
            await publisher.send(packets[:at])
            await publisher.send([whole[:length] for length in range(1, len(whole))])
            await publisher.send(packets[at:])
            await publisher.seen(publisher.sender.number - 1)
        assert publisher.numbers == list(range(4))
        seen = publisher.session.statistics()
        assert (seen.lost, seen.malformed, publisher.asked) == (0, 0, [])
        assert publisher.refused > 100
        await publisher.goes_on()


async def test_a_report_cut_at_each_length_is_read_once_it_is_whole(
    either: Peers, mine: Peers
) -> None:
    async with publishing(either, mine) as publisher:
        video, ssrc = publisher.session._video, publisher.sender.ssrc
        assert video is not None
        report = SenderReport(ssrc, 5 << 32, 0, 1, 100, ())
        whole = publisher.peer._protect_rtcp(
            compound([report, SourceDescription(((ssrc, "publisher"),))])
        )
        await publisher.send([whole[:length] for length in range(1, len(whole))])
        await publisher.show()
        told = video.report(1.0)
        assert told is not None
        assert told.last_report == 0
        await publisher.send([whole])
        await publisher.show()
        told = video.report(1.0)
        assert told is not None
        assert told.last_report == 5 << 16
        await publisher.goes_on()


async def test_two_hundred_packets_out_of_order_and_twice_make_the_same_picture(
    either: Peers, mine: Peers
) -> None:
    dice = random.Random(5)
    async with publishing(either, mine) as publisher:
        for _ in range(3):
            packets = publisher.sealed(keyframe=True, size=250_000)
            assert len(packets) > 200
            mixed = [*packets, *packets]
            dice.shuffle(mixed)
            await publisher.send(mixed)
            await publisher.seen(publisher.sender.number - 1)
            assert (
                publisher.sink.units[-1].payload
                == publisher.sender.sent_units[publisher.sender.number - 1]
            )
        assert publisher.numbers == list(range(5))
        await publisher.goes_on()


async def test_sequence_numbers_run_over_where_all_is_well(either: Peers, mine: Peers) -> None:
    async with publishing(either, mine, sequence=65_500) as publisher:
        while publisher.sender.sequence > 60_000 or publisher.sender.sequence < 40:
            await publisher.show(keyframe=publisher.sender.number % 4 == 0)
            publisher.is_in_native_hands()
        assert publisher.numbers == list(range(publisher.sender.number))
        assert (publisher.session.statistics().lost, publisher.asked) == (0, [])


async def test_sequence_numbers_run_over_with_packets_missing_at_the_wrap(
    either: Peers, mine: Peers
) -> None:
    async with publishing(either, mine, sequence=65_520) as publisher:
        sender = publisher.sender
        while sender.sequence > 60_000 or sender.sequence < 40:
            made = sender.next(keyframe=sender.number % 4 == 0)
            lost = {65_533, 65_535, 0, 2}
            kept = [publisher.seal(p) for p in made if p.sequence not in lost]
            await publisher.send(kept)
        await publisher.seen(sender.number - 1)
        assert publisher.numbers == list(range(sender.number))
        assert set(publisher.asked) & {65_533, 65_535, 0, 2} == {65_533, 65_535, 0, 2}
        await publisher.goes_on()


@pytest.mark.parametrize("step", [10_000, -10_000, 40_000])
async def test_sequence_numbers_that_jump_cost_no_more_than_up_to_a_key_frame(
    either: Peers, mine: Peers, step: int
) -> None:
    async with publishing(either, mine) as publisher:
        publisher.sender.sequence = (publisher.sender.sequence + 30_000 + step) & 0xFFFF
        await publisher.goes_on()
        assert len(publisher.asked) < 200


SECOND = 90_000


@pytest.mark.parametrize("first", [2**32 - 4 * 3000, 5000], ids=["wrap", "no wrap"])
@pytest.mark.parametrize("jump", [0, 3600, -3600, 12, -12, 5, -5, 1, -1, 0.4, -0.4])
async def test_timestamps_that_run_over_or_jump_lose_no_picture_and_never_stop_the_clock(
    either: Peers, mine: Peers, first: int, jump: float
) -> None:
    async with publishing(either, mine) as publisher:
        sender = publisher.sender
        sender.timestamp = first
        for _ in range(10):
            await publisher.show()
            publisher.is_in_native_hands()
        sender.timestamp = (sender.timestamp + int(jump * SECOND)) % (1 << 32)
        for _ in range(10):
            await publisher.show()
        publisher.is_in_native_hands()
        assert publisher.numbers == list(range(22))
        assert publisher.session.statistics().lost == 0
        times = [unit.pts for unit in publisher.sink.units[2:]]
        # Who shows them drops what is not newer than the last: that may not be for long.
        behind = [time for time in times if time < max(times[: times.index(time) + 1])]
        assert max(times) - min([*behind, max(times)]) <= SECOND // 2
        assert times[-1] - times[0] <= 7 * SECOND


async def test_another_ssrc_in_the_midst_of_a_picture_is_a_new_encoder(
    either: Peers, mine: Peers
) -> None:
    async with publishing(either, mine) as publisher:
        sender = publisher.sender
        for ssrc in (0x5555, 0x6666):
            begun = publisher.sealed()
            await publisher.send(begun[:1])
            sender.ssrc = ssrc
            sender.sequence = (sender.sequence + 7) & 0xFFFF
            key = publisher.sealed(keyframe=True)
            await publisher.send([*key[:1], *begun[1:], *key[1:]])  # the old one's are late
            await publisher.seen(sender.number - 1)
            await publisher.show()
            assert publisher.numbers[-2:] == [sender.number - 2, sender.number - 1]
        await publisher.goes_on()


def raw(sequence: int, ssrc: int, first: int, behind: bytes) -> bytes:
    head = bytes([first, PAYLOAD_TYPE]) + sequence.to_bytes(2, "big") + bytes(4)
    return head + ssrc.to_bytes(4, "big") + behind


LIES = {
    "extension beyond the end": (0x90, b"\xbe\xde\xff\xff" + bytes(24)),
    "extension of nothing": (0x90, b""),
    "extension cut in its header": (0x90, b"\xbe\xde\x00"),
    "extension that is all of it": (0x90, b"\xbe\xde\x00\x04" + bytes(16)),
    "fifteen sources": (0x8F, bytes(8)),
    "version 3": (0xC0, bytes(40)),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_header_that_nobody_can_protect_takes_nobodys_place(
    either: Peers, mine: Peers, lie: str
) -> None:
    first, behind = LIES[lie]
    async with publishing(either, mine) as publisher:
        sender = publisher.sender
        for _ in range(5):
            packets = publisher.sealed()
            at = (sender.sequence - len(packets)) & 0xFFFF
            lies = [raw((at + off) & 0xFFFF, sender.ssrc, first, behind) for off in range(3)]
            await publisher.send([lies[0], packets[0], *lies, *packets[1:]])
            await publisher.seen(sender.number - 1)
        assert publisher.numbers == list(range(7))
        assert (publisher.session.statistics().lost, publisher.asked) == (0, [])
        await publisher.goes_on()


SHAPES = {
    "elements that reach beyond it": b"\xbe\xde\x00\x01\x1f\x00\x00\x00",
    "two-byte elements that lie": b"\x10\x00\x00\x01\x03\xff\x00\x00",
    "no elements": b"\xbe\xde\x00\x00",
    "an unknown form": b"\x77\x77\x00\x01\x01\x02\x03\x04",
    "the reserved element": b"\xbe\xde\x00\x02\xf0\x01\x31\x00\x01\x02\x03\x04",
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_within_an_extension_is_no_matter_of_the_picture(
    either: Peers, mine: Peers, shape: str
) -> None:
    profile, extension = int.from_bytes(SHAPES[shape][:2], "big"), SHAPES[shape][4:]
    async with publishing(either, mine) as publisher:
        for _ in range(5):
            packets = publisher.sender.next()
            for packet in packets:
                packet.profile, packet.extension = profile, extension
            await publisher.send([publisher.seal(packet) for packet in packets])
            await publisher.seen(publisher.sender.number - 1)
        assert publisher.numbers == list(range(7))
        assert publisher.asked == []
        await publisher.goes_on()


@pytest.mark.parametrize(
    "behind", [b"\xff", b"\x00", b"\x02\x02", b""], ids=["too long", "none", "all of it", "empty"]
)
async def test_padding_that_is_longer_than_the_payload_is_asked_for_once_more(
    either: Peers, mine: Peers, behind: bytes
) -> None:
    async with publishing(either, mine) as publisher:
        sender = publisher.sender
        await publisher.show()
        packets = sender.next()
        liar = packets[1]
        lie = RtpPacket(PAYLOAD_TYPE, False, liar.sequence, liar.timestamp, liar.ssrc, behind)
        wrong = bytearray(lie.serialise())
        wrong[0] |= 0x20
        sealed = [publisher.peer.srtp_protect(bytes(wrong))]
        sealed = [publisher.seal(packets[0]), *sealed, *map(publisher.seal, packets[2:])]
        await publisher.send(sealed)
        await publisher.goes_on()


async def test_retransmissions_of_unknown_streams_are_of_no_stream(
    either: Peers, mine: Peers
) -> None:
    async with publishing(either, mine) as publisher:
        sender, video = publisher.sender, publisher.session._video
        assert video is not None
        dice = random.Random(3)
        for index in range(20):
            strangers = [
                RtpPacket(
                    *(RTX_PAYLOAD_TYPE, False, index, 0, 0x9999),
                    wrap_rtx(dice.randrange(65_536), b"\x41\x9ax"),
                ),
                RtpPacket(
                    *(RTX_PAYLOAD_TYPE, True, index, 0, publisher.rtx_ssrc or 0),
                    wrap_rtx((sender.sequence + 50) & 0xFFFF, b"\x41\x9ax"),
                ),
                RtpPacket(RTX_PAYLOAD_TYPE, True, index, 0, 0x9998, b"\x01"),
                RtpPacket(126, True, index, 0, 0x9997, b"\x41\x9ax"),
            ]
            await publisher.send([publisher.seal(packet) for packet in strangers])
            await publisher.show()
        assert publisher.numbers == list(range(22))
        assert video.unknown >= 20 * 3
        assert publisher.asked == []
        await publisher.goes_on()


# -- what is in the packets


def shaped(publisher: Publisher, payloads: list[bytes]) -> list[bytes]:
    """One access unit, cut by hand."""
    sender, made = publisher.sender, []
    for index, payload in enumerate(payloads):
        made.append(
            RtpPacket(
                PAYLOAD_TYPE,
                index == len(payloads) - 1,
                sender.sequence,
                sender.timestamp,
                sender.ssrc,
                payload,
            )
        )
        sender.history[sender.sequence] = made[-1]
        sender.sequence = (sender.sequence + 1) & 0xFFFF
    sender.timestamp = (sender.timestamp + 3000) & 0xFFFFFFFF
    return [publisher.seal(packet) for packet in made]


async def test_a_megabyte_of_side_information_goes_through(either: Peers, mine: Peers) -> None:
    async with publishing(either, mine) as publisher:
        for _ in range(2):
            unit = publisher.sender.unit(keyframe=True)
            side = START + b"\x06\x05" + b"s" * (1 << 20)
            packets = publisher.sender.packets(side + unit)
            await publisher.send([publisher.seal(packet) for packet in packets])
            await publisher.seen(publisher.sender.number - 1)
            assert publisher.sink.units[-1].payload == side + unit
        assert publisher.asked == []
        await publisher.goes_on()


def full_colour(count: int) -> list[bytes]:
    """Pictures of 4:4:4, 321x181, as an encoder makes them."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 321, 181, "yuv444p"
    context.time_base = Fraction(1, 30)
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "high444"}
    frame = av.VideoFrame(321, 181, "yuv444p")
    made: list[bytes] = []
    for number in range(count):
        frame.pts = number
        made += [bytes(packet) for packet in context.encode(frame)]
    return made


async def test_pictures_of_another_colour_format_go_through_as_they_are(
    either: Peers, mine: Peers
) -> None:
    async with publishing(either, mine, profile="f4001f") as publisher:
        count = len(publisher.sink.units)
        for annexb in full_colour(5):
            packets = publisher.sender.packets(annexb)
            await publisher.send([publisher.seal(packet) for packet in packets])
        await until(lambda: len(publisher.sink.units) == count + 5)
        seen = publisher.session.statistics()
        assert (seen.width, seen.height) == (321, 181)
        assert (seen.malformed, publisher.asked) == (0, [])
        await publisher.goes_on()


SLICE = b"\x41\x9a" + b"00000000" + b"p"
ODD = {
    "an aggregate with units of zero length": [b"\x78\x00\x00\x00\x0b" + SLICE + b"\x00\x00"],
    "an aggregate of nothing": [b"\x78"],
    "a unit of one byte": [b"\x41"],
    "a fragment of nothing": [b"\x7c\x85", b"\x7c\x05rest", b"\x7c\x45"],
    "a fragment of one byte": [b"\x7c"],
    "a fragment that never ends": [b"\x7c\x81\x9a" + b"x" * 900, b"\x7c\x01" + b"x" * 900],
    "a fragment that never began": [b"\x7c\x01" + b"x" * 900, b"\x7c\x41" + b"x" * 900],
    "fragments that end and begin at once": [b"\x7c\xc1\x9ax", b"\x7c\xc1\x9ax"],
    "an aggregate that lies about a length": [b"\x78\xff\xff" + SLICE],
    "a reserved kind": [b"\x7f" + SLICE, b"\x40" + SLICE],
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_picture_of_odd_parts_costs_no_more_than_up_to_a_key_frame(
    either: Peers, mine: Peers, odd: str
) -> None:
    async with publishing(either, mine) as publisher:
        for again in range(3):
            await publisher.send(shaped(publisher, ODD[odd]))
            before = publisher.wanted
            await publisher.send(publisher.sealed())  # a picture on what may not be whole
            count = len(publisher.sink.units)
            await publisher.goes_on()
            assert len(publisher.sink.units) > count
            assert publisher.wanted <= before + 2 + again
        assert publisher.session.peer.state is PeerState.CONNECTED


async def test_fragments_that_never_end_are_held_up_to_a_bound(either: Peers, mine: Peers) -> None:
    async with publishing(either, mine) as publisher:
        endless = [b"\x7c\x81\x9a" + b"x" * 1100] + [b"\x7c\x01" + b"x" * 1100] * 3500
        sealed = shaped(publisher, endless)
        await publisher.send(sealed[:-1])  # four megabytes of one picture, and no end
        lane = publisher.session._lane
        assert lane is None or lane._stream.room <= 2 << 20
        await publisher.goes_on()
