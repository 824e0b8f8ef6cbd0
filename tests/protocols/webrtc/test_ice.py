"""ICE sessions in virtual time, over a network that the test holds in its hands."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from relay.protocols.webrtc import stun
from relay.protocols.webrtc.ice import MAX_PATHS, IceSession
from relay.protocols.webrtc.path import Path
from relay.protocols.webrtc.stun import Address, Message

SERVER: Address = ("198.51.100.1", 7280)
CLIENT: Address = ("192.0.2.7", 40000)
MOVED: Address = ("203.0.113.9", 50000)


class Network:
    """Datagrams between ports, 10 ms each way at first, with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ports: dict[Address, FakePort] = {}
        self.deaf: set[Address] = set()  # what goes to or comes from these is lost
        self.delay = 0.01
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def send(self, data: bytes, source: Address, target: Address) -> None:
        def arrive() -> None:
            if source not in self.deaf and target not in self.deaf and target in self.ports:
                self.ports[target].receive(data, source)

        self.at(self.now + self.delay, arrive)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            when, _, action = heapq.heappop(self._events)
            self.now = max(self.now, when)
            action()
        self.now = end


class FakePort:
    """The shared socket of one side; several sessions may live on it."""

    def __init__(self, network: Network, address: Address) -> None:
        self.network = network
        self.address = address
        self.ufrags: dict[bytes, IceSession] = {}
        self.transactions: dict[bytes, IceSession] = {}
        self.paths: dict[Address, Path] = {}
        self.refuse_claims = False
        self.full = False  # sends nothing
        self.sent: list[tuple[Message, Address]] = []
        network.ports[address] = self

    def move(self, address: Address) -> None:
        """The network address translation of this side has changed."""
        del self.network.ports[self.address]
        self.address = address
        self.network.ports[address] = self

    def receive(self, data: bytes, source: Address) -> None:
        message = stun.parse(data)
        if message.kind == stun.BINDING_REQUEST:
            ufrag = message.attributes[stun.USERNAME].partition(b":")[0]
            if ufrag in self.ufrags:
                self.ufrags[ufrag].request(message, source, self.network.now)
        elif message.transaction in self.transactions:
            self.transactions[message.transaction].response(message, source, self.network.now)

    def sendto(self, data: bytes, address: Address) -> bool:
        if self.full:
            return False
        self.sent.append((stun.parse(data), address))
        self.network.send(data, self.address, address)
        return True

    def add_ufrag(self, ufrag: bytes, session: IceSession) -> None:
        self.ufrags[ufrag] = session

    def drop_ufrag(self, ufrag: bytes) -> None:
        self.ufrags.pop(ufrag, None)

    def add_transaction(self, transaction: bytes, session: IceSession) -> None:
        self.transactions[transaction] = session

    def drop_transaction(self, transaction: bytes) -> None:
        self.transactions.pop(transaction, None)

    def claim(self, address: Address, path: Path, now: float) -> bool:
        if self.refuse_claims:
            return False
        self.paths[address] = path
        return True

    def release(self, address: Address, path: Path) -> None:
        if self.paths.get(address) is path:
            del self.paths[address]

    def kinds(self, kind: int) -> list[Message]:
        return [message for message, _ in self.sent if message.kind == kind]


class Side:
    """A session with its timer."""

    def __init__(self, network: Network, port: FakePort, *, controlling: bool) -> None:
        self.network = network
        self.port = port
        self.ice = IceSession(port, controlling=controlling, consent_timeout=10.0, now=network.now)
        self.ice.on_schedule = self.wake_at
        self.reason: str | None = None

    def wake_at(self, when: float) -> None:
        self.network.at(max(when, self.network.now), self.wake)

    def wake(self) -> None:
        if self.reason is None:
            following = self.ice.tick(self.network.now)
            self.reason = self.ice.expired(self.network.now)
            self.network.at(following, self.wake)


class Pair:
    def __init__(
        self, *, client_controlling: bool = True, server_controlling: bool = False
    ) -> None:
        self.network = Network()
        self.server = Side(
            self.network, FakePort(self.network, SERVER), controlling=server_controlling
        )
        self.client = Side(
            self.network, FakePort(self.network, CLIENT), controlling=client_controlling
        )
        self.server.ice.set_remote(self.client.ice.ufrag, self.client.ice.pwd)
        self.client.ice.set_remote(self.server.ice.ufrag, self.server.ice.pwd)
        self.server.wake()
        self.client.wake()

    def connect(self) -> None:
        self.client.ice.check_addresses([SERVER], self.network.now)
        self.network.run(0.5)
        assert selected(self.server) == CLIENT
        assert selected(self.client) == SERVER
        self.server.ice.establish(self.network.now)
        self.client.ice.establish(self.network.now)

    def request(
        self,
        source: Address,
        *,
        use: bool = False,
        priority: int | None = None,
        pwd: str | None = None,
        extra: list[tuple[int, bytes]] | None = None,
    ) -> bytes:
        """A check made by hand; returns its transaction."""
        ice, transaction = self.server.ice, next(TRANSACTIONS)
        attributes = [(stun.USERNAME, f"{ice.ufrag}:x".encode()), *(extra or [])]
        if priority is not None:
            attributes.append((stun.PRIORITY, priority.to_bytes(4, "big")))
        if use:
            attributes.append((stun.USE_CANDIDATE, b""))
        data = stun.build(stun.BINDING_REQUEST, transaction, attributes, (pwd or ice.pwd).encode())
        self.network.send(data, source, SERVER)
        self.network.run(0.015)
        return transaction

    def answers(self, transaction: bytes) -> list[Message]:
        return [m for m, _ in self.server.port.sent if m.transaction == transaction]


TRANSACTIONS = (i.to_bytes(12, "big") for i in itertools.count(1))


def selected(side: Side) -> Address | None:
    return side.ice.selected.address if side.ice.selected is not None else None


def test_two_sides_find_each_other_in_one_round_trip() -> None:
    pair = Pair()
    pair.client.ice.check_addresses([SERVER], pair.network.now)
    pair.network.run(0.011)
    assert selected(pair.server) == CLIENT
    pair.network.run(0.01)
    assert selected(pair.client) == SERVER
    assert len(pair.server.port.kinds(stun.BINDING_REQUEST)) == 1  # its own, right behind
    pair.network.run(0.02)
    server_path = pair.server.ice.selected
    assert server_path is not None
    assert server_path.answered is not None
    assert server_path.nominated is not None


def test_a_success_response_is_complete() -> None:
    pair = Pair()
    transaction = pair.request(CLIENT)  # without PRIORITY and role: accepted
    (answer,) = pair.answers(transaction)
    assert answer.kind == stun.BINDING_SUCCESS
    assert answer.integrity_holds(pair.server.ice.pwd.encode())
    mapped = answer.attributes[stun.XOR_MAPPED_ADDRESS]
    assert stun.parse_xor_address(mapped, transaction) == CLIENT
    assert stun.USERNAME not in answer.attributes


def test_a_wrong_password_gets_silence() -> None:
    pair = Pair()
    assert pair.answers(pair.request(CLIENT, pwd="wrong" * 5)) == []
    assert selected(pair.server) is None
    assert pair.server.ice.statistics.refused == 1


def test_an_unknown_required_attribute_gets_420() -> None:
    pair = Pair()
    (answer,) = pair.answers(pair.request(CLIENT, extra=[(0x7FFF, b"")]))
    assert answer.error_code() == 420
    assert selected(pair.server) is None


def test_a_source_gets_a_bounded_number_of_answers() -> None:
    pair = Pair()
    for _ in range(200):
        data = stun.build(
            stun.BINDING_REQUEST,
            next(TRANSACTIONS),
            [(stun.USERNAME, pair.server.ice.ufrag.encode())],
            pair.server.ice.pwd.encode(),
        )
        pair.network.send(data, CLIENT, SERVER)
    pair.network.run(0.02)
    assert len(pair.server.port.kinds(stun.BINDING_SUCCESS)) == 50
    assert pair.server.ice.statistics.limited == 150
    pair.network.run(1)
    assert len(pair.answers(pair.request(CLIENT))) == 1


def test_many_sources_are_bounded() -> None:
    pair = Pair()
    pair.connect()
    for index in range(100):
        pair.request(("203.0.113.1", 1000 + index))
    assert len(pair.server.port.paths) <= MAX_PATHS
    assert selected(pair.server) == CLIENT


def test_a_check_may_overtake_the_answer() -> None:
    network = Network()
    server = Side(network, FakePort(network, SERVER), controlling=False)
    client = Side(network, FakePort(network, CLIENT), controlling=True)
    server.ice.set_remote(client.ice.ufrag, client.ice.pwd)
    server.ice.check_addresses([CLIENT], network.now)  # as an agent that has our candidates
    network.run(0.05)
    assert selected(client) == SERVER
    assert client.port.kinds(stun.BINDING_REQUEST) == []  # its password is not known yet
    client.ice.set_remote(server.ice.ufrag, server.ice.pwd)
    client.ice.check_addresses([], network.now)
    network.run(0.05)
    path = client.ice.selected
    assert path is not None
    assert path.answered is not None
    assert server.ice.selected is not None
    assert server.ice.selected.nominated is not None


# -- consent ---------------------------------------------------------------------------


def test_a_quiet_pair_stays_alive_by_consent_checks() -> None:
    pair = Pair()
    pair.connect()
    before = len(pair.server.port.kinds(stun.BINDING_REQUEST))
    pair.network.run(60)
    assert pair.server.reason is None
    assert pair.client.reason is None
    checks = len(pair.server.port.kinds(stun.BINDING_REQUEST)) - before
    assert 60 / 5 - 1 <= checks <= 60 / 4 + 1


def test_a_silent_peer_is_given_up() -> None:
    pair = Pair()
    pair.connect()
    pair.network.run(5)
    pair.network.deaf.add(CLIENT)
    pair.network.run(4.9)
    assert pair.server.reason is None
    pair.network.run(6)
    assert pair.server.reason == "no sign of life"


def test_a_lost_consent_check_is_made_up_for() -> None:
    pair = Pair()
    pair.connect()
    for _ in range(5):
        pair.network.deaf.add(CLIENT)
        pair.network.run(4)
        pair.network.deaf.clear()
        pair.network.run(5)
    assert pair.server.reason is None


def test_a_peer_that_no_longer_answers_loses_its_consent_although_it_talks() -> None:
    pair = Pair()
    pair.connect()
    path = pair.server.ice.selected
    assert path is not None
    del pair.network.ports[CLIENT]  # hears nothing
    for _ in range(35):
        path.seen = pair.network.now  # its media still passes SRTP
        pair.network.run(1)
    assert pair.server.reason == "consent expired"


def test_answers_that_wait_for_seconds_in_full_sockets_count() -> None:
    pair = Pair()
    pair.connect()
    pair.network.delay = 6.0  # each way
    path = pair.server.ice.selected
    assert path is not None
    for _ in range(120):
        path.seen = pair.network.now  # its reports go on
        pair.network.run(1)
    assert pair.server.reason is None
    assert len(pair.server.ice._transactions) <= 64


def test_most_checks_may_be_lost() -> None:
    random.seed(5)  # of when checks are made
    pair = Pair()
    pair.connect()
    path = pair.server.ice.selected
    assert path is not None
    for tenth in range(900):
        path.seen = pair.network.now
        # One tenth of a second in ten there is room in the sockets.
        pair.network.deaf = set() if tenth % 10 == 7 else {CLIENT}
        pair.network.run(0.1)
    assert pair.server.reason is None


def test_a_check_that_did_not_leave_is_made_up_for_as_soon_as_there_is_room() -> None:
    pair = Pair()
    pair.connect()
    path = pair.server.ice.selected
    assert path is not None
    pair.server.port.full = True
    for _ in range(29):
        path.seen = pair.network.now
        pair.network.run(1)
    assert not pair.server.ice._transactions  # what did not leave is not waited for
    pair.server.port.full = False
    pair.network.run(0.2)
    assert path.answered is not None
    assert pair.network.now - path.answered < 0.2


def test_an_address_that_was_left_is_not_gone_back_to_before_it_is_heard_again() -> None:
    pair = Pair()
    pair.connect()
    ice = pair.server.ice
    first = ice.selected
    assert first is not None
    for move, port in enumerate((7001, 7002), 1):
        pair.client.port.move(("192.0.2.77", port))
        assert ice.selected is not None
        ice.selected.lost = True  # its media comes from elsewhere
        ice.tick(pair.network.now)
        ice.probe(pair.client.port.address, 200, pair.network.now)
        pair.network.run(0.2)
        assert ice.selected.address == pair.client.port.address
        assert ice.statistics.moves == move
    here = ice.selected
    pair.request(CLIENT, use=True)  # it was under way while the client moved
    assert ice.selected is here
    first.lost = False  # media comes from there again, and then a check
    pair.request(CLIENT, use=True)
    assert ice.selected is first


def test_a_peer_that_never_answered_lives_by_its_media() -> None:
    pair = Pair()
    del pair.network.ports[CLIENT]
    pair.request(CLIENT, use=True)  # by hand: nobody answers the server's checks
    path = pair.server.ice.selected
    assert path is not None
    for _ in range(40):
        path.seen = pair.network.now
        pair.network.run(1)
    assert pair.server.reason is None
    assert len(pair.server.port.kinds(stun.BINDING_REQUEST)) <= 8


# -- moving ------------------------------------------------------------------------------


def test_a_new_address_is_followed_when_it_is_nominated_and_answers() -> None:
    pair = Pair()
    pair.connect()
    pair.client.port.move(MOVED)
    pair.client.ice.tick(pair.network.now)
    path = pair.client.ice.selected
    assert path is not None
    path.next_check = pair.network.now
    pair.client.ice.tick(pair.network.now)
    pair.network.run(0.1)
    assert selected(pair.server) == MOVED


def test_a_check_without_nomination_moves_nothing_while_the_old_path_lives() -> None:
    pair = Pair()
    pair.connect()
    assert len(pair.answers(pair.request(MOVED))) == 1
    assert selected(pair.server) == CLIENT


def test_an_address_that_does_not_answer_never_gets_the_media() -> None:
    pair = Pair()
    pair.connect()
    for _ in range(20):
        pair.request(MOVED, use=True, priority=0xFFFFFFFF)  # forged: nobody is there
        pair.network.run(0.1)
    assert selected(pair.server) == CLIENT


def test_an_authenticated_address_takes_over_from_a_silent_one() -> None:
    pair = Pair()
    pair.connect()
    pair.network.deaf.add(CLIENT)
    pair.network.run(2)
    pair.client.port.move(MOVED)
    answering = pair.client
    answering.ice.controlling = False  # so that nothing is nominated
    for _ in range(8):
        pair.request(MOVED)
        pair.network.run(0.2)
    assert selected(pair.server) == MOVED


@pytest.mark.parametrize(("priority", "wait", "moves"), [(1, 0, False), (1, 2, True), (9, 0, True)])
def test_of_two_nominated_paths_the_better_one_wins_until_it_lapses(
    priority: int, wait: float, moves: bool
) -> None:
    pair = Pair()
    del pair.network.ports[CLIENT]
    pair.request(CLIENT, use=True, priority=5)
    pair.network.run(wait)
    pair.request(MOVED, use=True, priority=priority)
    assert selected(pair.server) == (MOVED if moves else CLIENT)


# -- roles -------------------------------------------------------------------------------


@pytest.mark.parametrize("controlling", [True, False])
def test_a_role_conflict_is_settled(controlling: bool) -> None:
    for _ in range(8):  # the tie-breakers are random: both outcomes come up
        pair = Pair(client_controlling=controlling, server_controlling=controlling)
        pair.client.ice.check_addresses([SERVER], pair.network.now)
        pair.network.run(2)
        assert pair.client.ice.controlling is not pair.server.ice.controlling
        assert selected(pair.server) == CLIENT
        assert selected(pair.client) == SERVER


def test_the_loser_of_a_conflict_is_told_487() -> None:
    pair = Pair()
    zero = (stun.ICE_CONTROLLED, bytes(8))
    pair.server.ice.controlling = False
    pair.request(CLIENT, extra=[zero])  # our tie-breaker is larger: we turn
    assert pair.server.ice.controlling
    full = (stun.ICE_CONTROLLING, b"\x00" * 8)
    (answer,) = pair.answers(pair.request(CLIENT, extra=[full]))
    assert answer.error_code() == 487
    assert answer.integrity_holds(pair.server.ice.pwd.encode())


@pytest.mark.parametrize(("code", "refused"), [(400, True), (401, False), (500, False)])
def test_a_check_that_is_refused_for_good_ends_the_session(code: int, refused: bool) -> None:
    pair = Pair()
    ice, now = pair.client.ice, pair.network.now
    del pair.network.ports[SERVER]
    ice.check_addresses([SERVER], now)
    pair.network.run(0.05)
    [request] = [message for message, _ in pair.client.port.sent]
    for key, takes in ((b"of a stranger", False), (ice.remote.pwd.encode(), refused)):
        answer = stun.parse(stun.error(request, code, "Lost", key))
        ice.response(answer, SERVER, pair.network.now)
        assert ice.refused is takes
        assert (ice.expired(pair.network.now) is not None) is takes


# -- restart -----------------------------------------------------------------------------


def restart(pair: Pair) -> None:
    """Both ends; the client's checks with the new credentials do not go out yet."""
    now = pair.network.now
    ufrag, pwd = pair.client.ice.renew(now)
    theirs = pair.server.ice.restart(ufrag, pwd, now)
    pair.client.ice.set_remote(*theirs)


def use_newest(side: Side) -> None:
    """Let checks go out with the newest credentials of both ends."""
    path = side.ice.selected
    assert path is not None
    path.ours, path.theirs = side.ice.credentials.ours, side.ice.remote


def test_a_client_may_go_on_naming_our_old_credentials_beside_its_new_ones() -> None:
    # Chromium does: it checks from its new sockets before it has seen our answer, and then
    # keeps what works.
    pair = Pair()
    pair.connect()
    before = pair.server.ice.ufrag
    restart(pair)
    pair.client.port.move(MOVED)  # its new sockets know the new name only
    use_newest(pair.client)
    path = pair.client.ice.selected
    assert path is not None
    path.theirs = pair.client.ice.credentials._theirs[-2]
    assert path.theirs.ufrag == before
    path.next_check = pair.network.now
    pair.client.ice.tick(pair.network.now)
    pair.network.run(0.1)
    assert selected(pair.server) == MOVED
    assert pair.server.ice.selected is not None
    assert pair.server.ice.selected.answered is not None
    assert pair.server.ice.statistics.refused == 0
    pair.network.run(60)
    assert before.encode() in pair.server.port.ufrags
    assert pair.server.reason is None


def test_a_restart_keeps_the_path_and_drops_the_old_credentials_when_nominated() -> None:
    pair = Pair()
    pair.connect()
    old = pair.server.ice.ufrag.encode()
    restart(pair)
    new = pair.server.ice.ufrag.encode()
    assert set(pair.server.port.ufrags) == {old, new}
    pair.network.run(10)  # the client goes on with the old credentials: still answered
    assert pair.server.reason is None
    assert old in pair.server.port.ufrags
    path = pair.client.ice.selected
    assert path is not None
    use_newest(pair.client)
    path.next_check = pair.network.now
    pair.client.ice.tick(pair.network.now)
    pair.network.run(0.1)
    assert set(pair.server.port.ufrags) == {new}
    assert selected(pair.server) == CLIENT
    pair.network.run(30)
    assert pair.server.reason is None


def test_of_two_restarts_the_last_wins_and_the_first_credentials_live_on() -> None:
    pair = Pair()
    pair.connect()
    first = pair.server.ice.ufrag.encode()
    restart(pair)
    second = pair.server.ice.ufrag.encode()
    restart(pair)
    third = pair.server.ice.ufrag.encode()
    assert set(pair.server.port.ufrags) == {first, third}
    assert second not in pair.server.port.ufrags


def test_old_credentials_that_nobody_uses_end_after_a_while() -> None:
    pair = Pair()
    pair.connect()
    restart(pair)
    new = pair.server.ice.ufrag.encode()
    path = pair.server.ice.selected
    assert path is not None
    del pair.network.ports[CLIENT]
    for _ in range(70):
        path.seen = path.answered = pair.network.now
        pair.network.run(1)
    assert set(pair.server.port.ufrags) == {new}


# -- the rest ----------------------------------------------------------------------------


def test_checks_are_held_back_for_clients_that_break_on_them() -> None:
    pair = Pair()
    pair.server.ice.quiet = True
    pair.request(CLIENT, use=True)
    pair.network.run(1)
    assert pair.server.port.kinds(stun.BINDING_REQUEST) == []
    assert selected(pair.server) == CLIENT
    pair.server.ice.establish(pair.network.now)
    pair.network.run(0.1)
    assert pair.server.ice.selected is not None
    assert pair.server.ice.selected.answered is not None


def test_an_address_in_use_by_another_session_is_answered_and_no_more() -> None:
    pair = Pair()
    pair.server.port.refuse_claims = True
    assert len(pair.answers(pair.request(CLIENT, use=True))) == 1
    assert selected(pair.server) is None


def test_a_response_from_another_address_is_not_taken() -> None:
    pair = Pair()
    pair.client.ice.check_addresses([SERVER], pair.network.now)
    pair.client.ice.tick(pair.network.now)
    request = pair.client.port.kinds(stun.BINDING_REQUEST)[0]
    answer = stun.success(request, CLIENT, pair.server.ice.pwd.encode())
    pair.client.ice.response(stun.parse(answer), MOVED, pair.network.now)
    assert selected(pair.client) is None
    forged = stun.success(request, CLIENT, b"another")
    pair.client.ice.response(stun.parse(forged), SERVER, pair.network.now)
    assert selected(pair.client) is None
    pair.client.ice.response(stun.parse(answer), SERVER, pair.network.now)
    assert selected(pair.client) == SERVER


def test_closing_leaves_nothing_on_the_port() -> None:
    pair = Pair()
    pair.connect()
    restart(pair)
    pair.server.ice.close()
    pair.server.ice.close()
    port = pair.server.port
    assert (port.ufrags, port.transactions, port.paths) == ({}, {}, {})
