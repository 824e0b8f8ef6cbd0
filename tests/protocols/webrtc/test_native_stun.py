"""Checks of peers, read natively, against Python's own reading of the same bytes."""

from __future__ import annotations

import binascii
import random
import socket
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import ParseError
from relay.protocols.webrtc import native_receive, stun
from relay.protocols.webrtc.credentials import Credentials
from relay.protocols.webrtc.datagrams import packed, tell_ours
from relay.protocols.webrtc.ice import IceSession
from relay.protocols.webrtc.native_consent import NativeConsent
from relay.protocols.webrtc.native_lane import _Nobody
from relay.protocols.webrtc.native_receive import NativeReceiver
from relay.protocols.webrtc.native_viewer import NativeViewer
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.srtp import NativeKeys
from relay.protocols.webrtc.stun import Address, Message
from relay.protocols.webrtc.udp_statistics import UdpStatistics

OURS, THEIRS = "a1b2c3d4e5f6", "pE8x"
OUR_PASSWORD, THEIR_PASSWORD = "0123456789abcdef0123456789abcdef", "VOkJxbRl1RmTxUk/WvJxBt"
NAME = f"{OURS}:{THEIRS}".encode()
PRIORITY = 0x7E7F00FF
TRANSACTION = bytes(range(12))
LONGEST = 1500
NATIVE = {stun.MAPPED_ADDRESS, stun.USERNAME, stun.XOR_MAPPED_ADDRESS, stun.PRIORITY}
FAMILIES = ["ipv4", "ipv6", "mapped"]


def _viewer(receiver: NativeReceiver, address: Address) -> tuple[NativeConsent, Callable[[], None]]:
    keys = cast("NativeKeys", SimpleNamespace(pointer=0))
    viewer = NativeViewer(receiver, keys, 14, (1, 2), lambda *_: None)
    return viewer.consent, viewer.close


def _publisher(
    receiver: NativeReceiver, address: Address
) -> tuple[NativeConsent, Callable[[], None]]:
    keys = cast("NativeKeys", SimpleNamespace(pointer=0))
    lane = receiver.lane(keys, 96, None, _Nobody(), lambda unit: None)
    raw = packed(address)
    assert receiver.lib.rx_resume(receiver.rx, lane._stream, raw, len(raw), 7, 1) == 0
    return lane.consent, lane.close


WHO = {"viewer": _viewer, "publisher": _publisher}


class Watching:
    """A viewer, or a publisher, at the end of a real socket, which native code hears.

    Attributes:
        raised: what Python was handed since ``say``.
    """

    def __init__(
        self,
        family: str = "ipv4",
        ours: Credentials | None = None,
        theirs: Credentials | None = None,
        controlling: bool = False,
        who: str = "viewer",
    ) -> None:
        self._far = _bound("::1" if family == "ipv6" else "127.0.0.1")
        self._near = _bound({"ipv4": "127.0.0.1", "ipv6": "::1", "mapped": "::"}[family])
        name = self._far.getsockname()
        self.address: Address = (f"::ffff:{name[0]}", name[1], 0, 0) if family == "mapped" else name
        found = native_receive._library()
        assert found is not None, "the native part was not built"
        self.receiver = NativeReceiver(found, self._near.fileno())
        self.consent, self._close = WHO[who](self.receiver, self.address)
        self.ended: list[bytes] = []
        session = cast(
            "IceSession",
            SimpleNamespace(
                controlling=controlling, consent_timeout=30, end_transaction=self.ended.append
            ),
        )
        self.now = 100.0
        self.path = Path(
            self.address,
            session,
            ours or Credentials(0, OURS, OUR_PASSWORD),
            theirs or Credentials(0, THEIRS, THEIR_PASSWORD),
            self.now,
            priority=PRIORITY,
            answered=self.now,
        )
        self.raised: list[tuple[bytes, Address]] = []
        self.settle()

    def settle(self) -> None:
        self.consent.hear(self.path)
        self.consent.settle(moving=False)

    def say(self, data: bytes, after: float = 1.0, address: Address | None = None) -> bytes | None:
        """The answer; a viewer has waited ``after`` seconds."""
        self.raised.clear()
        self.now += after
        self.receiver.put(data, address or self.address, self._datagram, self.now)
        return self.answer()

    def read(self, data: bytes) -> bytes | None:
        """The same by the socket."""
        self.raised.clear()
        self.now += 1
        host = self._far.getsockname()[0]
        self._far.sendto(data, (host, self._near.getsockname()[1]))
        assert self.receiver.reader(self._datagram, lambda: self.now)() == 1
        return self.answer()

    def _datagram(self, data: bytes, address: Address, now: float) -> None:
        assert now == self.now
        self.raised.append((data, address))

    def answer(self) -> bytes | None:
        try:
            data: bytes = self._far.recv(2048)
        except BlockingIOError:
            return None
        with pytest.raises(BlockingIOError):
            self._far.recv(2048)
        return data

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self.receiver.close()
        self._far.close()
        self._near.close()


def _bound(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    if ":" in host:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((host, 0))
    return made


@pytest.fixture(scope="module", params=[(who, family) for who in WHO for family in FAMILIES])
def everywhere(request: pytest.FixtureRequest) -> Iterator[Watching]:
    who, family = request.param
    with Watching(family, who=who) as made:
        yield made


@pytest.fixture(params=WHO)
def watching(request: pytest.FixtureRequest) -> Iterator[Watching]:
    with Watching(who=request.param) as made:
        yield made


def browser(*more: tuple[int, bytes]) -> list[tuple[int, bytes]]:
    """The attributes of a browser's check."""
    return [
        (stun.USERNAME, NAME),
        (0xC057, b"\x00\x01\x00\x0a"),
        (stun.ICE_CONTROLLING, b"8bytes--"),
        (stun.USE_CANDIDATE, b""),
        (stun.PRIORITY, PRIORITY.to_bytes(4, "big")),
        *more,
    ]


def asked(
    attributes: list[tuple[int, bytes]],
    password: str = OUR_PASSWORD,
    kind: int = 1,
    transaction: bytes = TRANSACTION,
) -> bytes:
    return stun.build(kind, transaction, attributes, password.encode())


def elements(message: Message) -> Iterator[tuple[int, bytes]]:
    """Each attribute in front of MESSAGE-INTEGRITY, repeated ones too."""
    data, at = message.raw, stun.HEADER_SIZE
    while at < (len(data) if message.integrity_at is None else message.integrity_at):
        kind, size = struct.unpack_from("!HH", data, at)
        if kind == stun.FINGERPRINT:
            return
        yield kind, data[at + 4 : at + 4 + size]
        at += 4 + size + (-size & 3)


def is_common(message: Message) -> bool:
    """Whether Python would say success, and nothing of its own would change but the times."""
    if message.kind != stun.BINDING_REQUEST or message.attributes.get(stun.USERNAME) != NAME:
        return False
    told = list(elements(message))
    required = {kind for kind, _ in told if kind < 0x8000}
    priorities = [value for kind, value in told if kind == stun.PRIORITY]
    first = next((value for value in priorities if any(value)), None)
    return (
        required <= {*NATIVE, stun.USE_CANDIDATE}
        and stun.ICE_CONTROLLED not in message.attributes
        and all(len(value) == 4 for value in priorities)
        and first in (None, PRIORITY.to_bytes(4, "big"))
        and message.integrity_holds(OUR_PASSWORD.encode())
    )


def expected(data: bytes, source: Address) -> bytes | None:
    """The answer that is to leave; None: Python is to have the message."""
    try:
        message = stun.parse(data)
    except ParseError:
        return None
    if not is_common(message):
        return None
    return stun.success(message, source, OUR_PASSWORD.encode())


def compare(watching: Watching, data: bytes) -> bool:
    """Whether it was answered."""
    watching.consent.count()
    answer, wanted = watching.say(data), expected(data, watching.address)
    assert answer == wanted
    assert watching.raised == ([] if wanted is not None else [(data, watching.address)])
    assert watching.consent.count() == (wanted is not None)
    return wanted is not None


# -- checks of theirs -----------------------------------------------------------------------


def test_a_browsers_check_is_answered_with_where_it_came_from(everywhere: Watching) -> None:
    request = asked(browser())
    for answer in (everywhere.say(request), everywhere.read(request)):
        assert answer is not None
        assert not everywhere.raised
        message = stun.parse(answer)
        assert message.kind == stun.BINDING_SUCCESS
        assert message.transaction == TRANSACTION
        assert message.integrity_holds(OUR_PASSWORD.encode())
        assert struct.unpack_from("!HH", answer, len(answer) - 8) == (stun.FINGERPRINT, 4)
        mapped = message.attributes[stun.XOR_MAPPED_ADDRESS]
        host = str(everywhere.address[0]).removeprefix("::ffff:")
        assert stun.parse_xor_address(mapped, TRANSACTION) == (host, everywhere.address[1])
        assert len(answer) <= len(request)


KINDS = st.sampled_from(
    [
        stun.MAPPED_ADDRESS,
        stun.USERNAME,
        stun.MESSAGE_INTEGRITY,
        stun.ERROR_CODE,
        0x0014,
        stun.MESSAGE_INTEGRITY_SHA256,
        stun.XOR_MAPPED_ADDRESS,
        stun.PRIORITY,
        stun.USE_CANDIDATE,
        0x0003,
        0x7FFF,
        0x8000,
        0x8022,
        stun.FINGERPRINT,
        stun.ICE_CONTROLLED,
        stun.ICE_CONTROLLING,
        0xC057,
        0xFFFF,
    ]
)
VALUES = st.one_of(
    st.just(b""),
    st.just(NAME),
    st.just(PRIORITY.to_bytes(4, "big")),
    st.just(bytes(4)),
    st.binary(max_size=24),
)
ATTRIBUTES = st.lists(st.tuples(KINDS, VALUES), max_size=4)
SHAPES = st.sampled_from(
    ["whole"] * 4 + ["wrong key", "no integrity", "no fingerprint", "wrong fingerprint", "behind"]
)


def shaped(attributes: list[tuple[int, bytes]], shape: str, kind: int, transaction: bytes) -> bytes:
    password = "wrong" if shape == "wrong key" else OUR_PASSWORD
    data = asked(attributes, password, kind, transaction)
    if shape == "no integrity":
        return stun.build(kind, transaction, attributes, None)
    if shape == "wrong fingerprint":
        return data[:-1] + bytes([data[-1] ^ 1])
    if shape in ("no fingerprint", "behind"):
        rest = data[4:-8] + (b"" if shape == "no fingerprint" else b"\x00\x03\x00\x05abcdefgh")
        return data[:2] + struct.pack("!H", len(rest) - 16) + rest
    return data


@settings(max_examples=150)
@given(
    more=ATTRIBUTES,
    seed=st.randoms(use_true_random=False),
    keep=st.integers(3, 5),
    shape=SHAPES,
    kind=st.sampled_from([1, 1, 1, 1, 1, 0x11, 0x101, 0x111, 3]),
    transaction=st.binary(min_size=12, max_size=12),
)
def test_checks_are_answered_exactly_as_python_would(
    everywhere: Watching,
    more: list[tuple[int, bytes]],
    seed: random.Random,
    keep: int,
    shape: str,
    kind: int,
    transaction: bytes,
) -> None:
    attributes = [*seed.sample(browser(), keep), *more]
    if seed.random() < 0.5:
        seed.shuffle(attributes)
    compare(everywhere, shaped(attributes, shape, kind, transaction))


@settings(max_examples=150)
@given(
    data=st.builds(asked, st.just(browser())) | st.builds(asked, ATTRIBUTES),
    flips=st.lists(st.tuples(st.integers(0, LONGEST), st.integers(1, 255)), max_size=3),
    cut=st.integers(0, 40),
    tail=st.binary(max_size=8),
)
def test_damaged_checks_come_up_unchanged(
    everywhere: Watching, data: bytes, flips: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    changed = bytearray(data)
    for at, mask in flips:
        changed[at % len(changed)] ^= mask
    compare(everywhere, bytes(changed[: len(changed) - cut]) + tail)
    whole = bytearray(changed[: len(changed) - cut // 4 * 4])
    whole[2:4] = struct.pack("!H", max(0, len(whole) - 20))
    compare(everywhere, bytes(whole))


@given(data=st.binary(max_size=100))
def test_what_is_no_message_comes_up_unchanged(watching_always: Watching, data: bytes) -> None:
    for found in (data, b"\x00\x01" + data, b"\x00\x01\x00\x10" + stun.MAGIC_COOKIE + data[:28]):
        if found[:1] <= b"\x03":
            assert not compare(watching_always, found)


@pytest.fixture(scope="module")
def watching_always() -> Iterator[Watching]:
    with Watching() as made:
        yield made


def test_no_single_bit_may_be_another_one(everywhere: Watching) -> None:
    request = asked(browser())
    for bit in range(8 * len(request)):
        changed = bytearray(request)
        changed[bit // 8] ^= 1 << bit % 8
        answered = compare(everywhere, bytes(changed))
        # FINGERPRINT's kind and size say where the protected part ends; another optional kind
        # in its place leaves that whole.
        assert not answered or 0 <= bit - 8 * (len(request) - 8) < 32


def test_each_length_up_to_the_longest_is_hashed_as_python_does_it(everywhere: Watching) -> None:
    answered = 0
    least = len(asked([(stun.USERNAME, NAME), (0x8022, b"")]))
    for size in range(LONGEST + 4 - least):
        answered += compare(everywhere, asked([(0x8022, bytes(size)), (stun.USERNAME, NAME)]))
    assert answered == LONGEST + 4 - least - 3
    for size in range(0, 1600, 4):
        message = struct.pack("!HH", 1, size) + stun.MAGIC_COOKIE + TRANSACTION + bytes(size)
        assert not compare(everywhere, message)


def test_a_right_fingerprint_that_is_not_the_last_attribute_is_none(watching: Watching) -> None:
    data = asked(browser())[4:-8]
    for behind in (b"", b"\x80\x22\x00\x00"):
        message = b"\x00\x01" + struct.pack("!H", len(data) - 16 + 8 + len(behind)) + data
        seal = binascii.crc32(message) ^ 0x5354554E
        message += struct.pack("!HHI", stun.FINGERPRINT, 4, seal) + behind
        assert compare(watching, message) is not behind.startswith(b"\x80")


def test_more_attributes_than_python_reads_come_up(watching: Watching) -> None:
    for count, answered in ((stun.MAX_ATTRIBUTES - 3, True), (stun.MAX_ATTRIBUTES - 2, False)):
        request = asked([(stun.USERNAME, NAME), *[(0x8022, b"")] * count])
        assert compare(watching, request) is answered


@pytest.mark.parametrize("size", [1, 22, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 256])
def test_passwords_of_any_length(size: int) -> None:
    password = ("0123456789abcdef" * 16)[:size]
    secret = (Credentials(0, OURS, password), Credentials(0, THEIRS, password[::-1]))
    with Watching("ipv4", *secret) as watching:
        answer = watching.say(asked(browser(), password))
        assert answer is not None
        assert stun.parse(answer).integrity_holds(password.encode())
        assert watching.say(asked(browser(), password[:-1] + "x")) is None
        assert len(watching.raised) == 1
        watching.path.asks(TRANSACTION)
        watching.say(answered(key=password[::-1]))
        assert not watching.raised


@pytest.mark.parametrize(("size", "natively"), [(4, True), (256, True), (267, True), (268, False)])
def test_a_name_that_is_too_long_is_left_to_python(size: int, natively: bool) -> None:
    with Watching(theirs=Credentials(0, "u" * size, THEIR_PASSWORD)) as watching:
        name = f"{OURS}:{'u' * size}".encode()
        answer = watching.say(asked([(stun.USERNAME, name)]))
        assert watching.consent.settled is natively
        assert (answer is not None, len(watching.raised)) == ((True, 0) if natively else (False, 1))
        for other in (name[:-1], name + b"u", name[:-1] + b"v", b""):
            assert watching.say(asked([(stun.USERNAME, other)])) is None
            assert len(watching.raised) == 1


def test_fifty_a_second_are_answered_and_the_rest_are_passed_over(watching: Watching) -> None:
    request = asked(browser())
    for wait in (10, 1.2):
        watching.now += wait
        answers = [watching.say(request, after=0) for _ in range(70)]
        assert [answer is not None for answer in answers] == [True] * 50 + [False] * 20
        assert not watching.raised
    spread = [watching.say(request, after=0.01) for _ in range(100)]
    assert 49 <= sum(answer is not None for answer in spread) <= 51
    counted = UdpStatistics()
    watching.receiver.count(counted)
    assert counted.sent == 100 + sum(answer is not None for answer in spread)
    assert counted.unsent == 0


def test_forged_checks_take_nothing_from_those_that_are_answered(watching: Watching) -> None:
    forged = asked(browser(), "wrong")
    for _ in range(200):
        assert watching.say(forged, after=0) is None
        assert watching.raised == [(forged, watching.address)]
    assert watching.say(asked(browser()), after=0) is not None


def test_nothing_is_answered_before_it_has_answered_us() -> None:
    with Watching() as watching:
        watching.path.native.answered = 0
        request = asked(browser())
        assert watching.say(request) is None
        assert watching.raised == [(request, watching.address)]


def test_nothing_is_answered_while_roles_or_credentials_move(watching: Watching) -> None:
    request = asked(browser())
    watching.path.unsettle()
    assert watching.say(request) is None
    assert watching.raised == [(request, watching.address)]
    watching.settle()
    assert watching.say(request) is not None
    watching.path.session.controlling = True
    watching.path.refresh()
    assert watching.say(request) is None
    assert len(watching.raised) == 1


def test_another_source_is_not_the_viewers(watching: Watching) -> None:
    host, port = watching.address
    for address in ((host, port ^ 1), ("127.0.0.2", port), (f"::ffff:{host}", port, 0, 0)):
        request = asked(browser())
        assert watching.say(request, address=address) is None
        assert watching.raised == [(request, address)]


def test_an_answer_leaves_from_the_address_that_was_asked() -> None:
    near, far = _bound("0.0.0.0"), _bound("127.0.0.1")
    tell_ours(near)
    with Watching() as watching:
        receiver = NativeReceiver(native_receive._library(), near.fileno())  # type: ignore[arg-type]
        keys = cast("NativeKeys", SimpleNamespace(pointer=0))
        viewer = NativeViewer(receiver, keys, 14, (1, 2), lambda *_: None)
        asked_at = ("127.0.0.2", near.getsockname()[1])
        watching.path.address = (*far.getsockname(), 0, 0, asked_at[0])
        viewer.hear(watching.path)
        viewer.consent.settle(moving=False)
        far.sendto(asked(browser()), asked_at)
        receiver.reader(lambda *_: None, lambda: 200.0)()
        assert far.recvfrom(2048)[1] == asked_at
        far.sendto(asked(browser()), ("127.0.0.3", asked_at[1]))
        raised: list[Address] = []
        receiver.reader(lambda data, address, now: raised.append(address), lambda: 201.0)()
        assert raised == [(*far.getsockname(), 0, 0, "127.0.0.3")]
        viewer.close()
        receiver.close()
    near.close()
    far.close()


# -- beside a session -----------------------------------------------------------------------


class Port:
    """What a session needs, holding what it sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, address: Address) -> bool:
        self.sent.append(data)
        return True

    def claim(self, address: Address, path: Path, now: float) -> bool:
        return True

    def ignore(self, *given: object) -> None:
        return

    add_ufrag = drop_ufrag = add_transaction = drop_transaction = release = ignore


@settings(max_examples=60)
@given(more=ATTRIBUTES, seed=st.randoms(use_true_random=False))
def test_a_session_would_have_sent_the_same_answer(
    more: list[tuple[int, bytes]], seed: random.Random
) -> None:
    port = Port()
    session = IceSession(port, False, 30.0, 90.0, THEIRS, THEIR_PASSWORD)
    first = session.credentials.ours
    first.ufrag, first.pwd = OURS, OUR_PASSWORD
    with Watching(ours=first) as watching:
        session.request(stun.parse(asked(browser())), watching.address, 90.0)
        attributes = [*seed.sample(browser(), 4), *more]
        answer = watching.say(asked(attributes))
        if answer is not None:
            port.sent.clear()
            session.request(stun.parse(asked(attributes)), watching.address, 91.0)
            assert port.sent[0] == answer
            assert session.selected is not None
            assert session.selected.priority == PRIORITY
            assert not session.controlling


# -- answers to checks of ours ----------------------------------------------------------------

OTHER = b"another one."


def answered(
    key: str = THEIR_PASSWORD,
    transaction: bytes = TRANSACTION,
    kind: int = stun.BINDING_SUCCESS,
    attributes: tuple[tuple[int, bytes], ...] = (),
) -> bytes:
    mapped = stun.xor_address(("192.0.2.1", 5), transaction)
    return stun.build(
        kind, transaction, [(stun.XOR_MAPPED_ADDRESS, mapped), *attributes], key.encode()
    )


def heard(watching: Watching) -> float:
    watching.path.refresh()
    assert watching.path.answered is not None
    return watching.path.answered


def test_an_answer_to_a_check_of_ours_is_taken_once(watching: Watching) -> None:
    before = heard(watching)
    watching.path.asks(TRANSACTION)
    assert watching.say(answered()) is None
    assert not watching.raised
    assert heard(watching) == watching.now == watching.path.seen > before
    assert watching.ended[-1] == TRANSACTION  # Python knows it no more
    taken = watching.now
    assert watching.say(answered()) is None
    assert watching.raised == [(answered(), watching.address)]
    assert heard(watching) == taken


@pytest.mark.parametrize(
    "data",
    [
        answered(key=OUR_PASSWORD),
        answered(key="wrong"),
        answered(transaction=OTHER),
        answered(kind=stun.BINDING_ERROR),
        answered(kind=stun.BINDING_REQUEST),
        answered(kind=stun.BINDING_INDICATION),
        answered()[:-1] + b"x",
        stun.build(stun.BINDING_SUCCESS, TRANSACTION, [], None),
    ],
)
def test_what_is_no_answer_to_it_changes_nothing(watching: Watching, data: bytes) -> None:
    before = heard(watching)
    assert watching.say(data) is None
    assert watching.raised == [(data, watching.address)]  # nothing was asked
    watching.path.asks(TRANSACTION)
    assert watching.say(data) is None
    assert watching.raised == [(data, watching.address)]
    assert heard(watching) == before
    watching.say(answered())
    assert heard(watching) == watching.now


def test_no_bit_of_an_answer_may_be_another_one(watching: Watching) -> None:
    data = answered()
    for bit in range(8 * (len(data) - 8)):
        watching.path.asks(TRANSACTION)
        before = heard(watching)
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        watching.say(bytes(changed))
        assert watching.raised == [(bytes(changed), watching.address)]
        assert heard(watching) == before


def test_an_answer_from_elsewhere_is_none(watching: Watching) -> None:
    before = heard(watching)
    watching.path.asks(TRANSACTION)
    watching.say(answered(), address=("127.0.0.9", watching.address[1]))
    assert len(watching.raised) == 1
    assert heard(watching) == before


def test_of_two_checks_native_code_knows_the_last(watching: Watching) -> None:
    watching.path.asks(TRANSACTION)
    watching.path.asks(OTHER)
    watching.say(answered())
    assert len(watching.raised) == 1  # whose first one Python knows
    watching.say(answered(transaction=OTHER))
    assert not watching.raised
    assert heard(watching) == watching.now
    assert watching.ended[-1] == OTHER
