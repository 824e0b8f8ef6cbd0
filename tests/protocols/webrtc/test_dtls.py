"""DTLS by hand: its flights, loss, alerts, wrong certificates."""

from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from relay.protocols.webrtc.certificate import Certificate
from relay.protocols.webrtc.dtls import MAX_HANDSHAKE, MAX_MESSAGES, Dtls
from relay.protocols.webrtc.dtls_records import MTU, announcements, split_records

CERTIFICATE = Certificate()
OTHER_CERTIFICATE = Certificate()
SEALED = b"\x16\xfe\xfd\0\1"
"""Where a record of the handshake in epoch 1 begins."""


class Ends:
    """A client and a server, and what one says to the other."""

    def __init__(self) -> None:
        mine, theirs = CERTIFICATE, OTHER_CERTIFICATE
        self.client = Dtls(mine, [("sha-256", theirs.sha256)], client=True)
        self.server = Dtls(theirs, [("sha-256", mine.sha256)], client=False)
        self.now = 0.0
        self.lost = -1
        self.flights = 0
        self.sizes: list[int] = []

    def other(self, end: Dtls) -> Dtls:
        return self.server if end is self.client else self.client

    def begin(self) -> None:
        self.deliver(self.client, self.client.begin(self.now))

    def deliver(self, sender: Dtls, datagrams: list[bytes]) -> None:
        """Carry datagrams over, and the answers back, until nobody says any more."""
        if datagrams:
            self.flights += 1
        if self.flights - 1 == self.lost:
            return
        for datagram in datagrams:
            self.sizes.append(len(datagram))
            self.deliver(self.other(sender), self.other(sender).receive(datagram, self.now))


def test_a_handshake_announces_little() -> None:
    ends = Ends()
    ends.begin()
    assert ends.client.ready
    assert ends.server.ready
    for end in (ends.client, ends.server):
        assert 2 <= len(end._announced) <= MAX_MESSAGES // 2
        assert 300 < sum(end._announced.values()) < MAX_HANDSHAKE // 4


@pytest.mark.parametrize("length", [MAX_HANDSHAKE + 1, 100_000, 0xFFFFFF])
def test_what_announces_more_than_a_handshake_has_is_not_looked_at(length: int) -> None:
    ends = Ends()
    head = b"\x0b" + length.to_bytes(3, "big") + b"\x00\x01" + bytes(3) + b"\x00\x00\x01x"
    record = b"\x16\xfe\xfd" + bytes(8) + len(head).to_bytes(2, "big") + head
    assert list(announcements(record)) == [(1, length)]
    for _ in range(3):
        assert ends.server.receive(record, 0.0) == []
    assert ends.server._announced == {}
    ends.begin()  # and it keeps nobody from going on
    assert ends.server.ready


@given(st.binary(max_size=200) | st.lists(st.sampled_from(
    [b"\x16\xfe\xfd\0\0", b"\0\0\0\0\0\1", b"\0\x0c", b"\x0b\xff\xff\xff\0\2", bytes(6)]
), max_size=30).map(b"".join))  # fmt: skip
def test_announcements_are_read_of_any_bytes(data: bytes) -> None:
    found = list(announcements(data))
    assert len(found) <= len(data) // 12
    assert all(0 <= number < 1 << 16 and 0 <= size < 1 << 24 for number, size in found)


def test_a_handshake_gives_both_sides_the_same_keys() -> None:
    ends = Ends()
    ends.begin()
    assert ends.client.failure is ends.server.failure is None
    assert max(ends.sizes) <= MTU
    packet = b"\x80\x60" + bytes(30)
    for sender, receiver in ((ends.client, ends.server), (ends.server, ends.client)):
        assert receiver.srtp().unprotect(sender.srtp().protect(packet)) == packet
    assert ends.client.next_poll(0.0) is None


def test_aes_gcm_is_chosen_and_aes_cm_works() -> None:
    ends = Ends()
    ends.begin()
    assert ends.server._connection.get_selected_srtp_profile() == b"SRTP_AEAD_AES_128_GCM"


def test_aes_cm_works_for_those_that_know_nothing_else() -> None:
    ends = Ends()
    simple = Certificate((b"SRTP_AES128_CM_SHA1_80",))
    ends.client = Dtls(simple, [("sha-256", OTHER_CERTIFICATE.sha256)], client=True)
    ends.server = Dtls(OTHER_CERTIFICATE, [("sha-256", simple.sha256)], client=False)
    ends.begin()
    assert ends.server.ready
    assert ends.server._connection.get_selected_srtp_profile() == b"SRTP_AES128_CM_SHA1_80"
    packet = b"\x80\x60" + bytes(30)
    assert ends.client.srtp().unprotect(ends.server.srtp().protect(packet)) == packet


@pytest.mark.parametrize("lost", range(4))
def test_a_lost_flight_is_sent_again_within_half_a_second(lost: int) -> None:
    ends = Ends()
    ends.lost = lost
    ends.begin()
    assert not (ends.client.ready and ends.server.ready)
    ends.now = min(
        at for end in (ends.client, ends.server) if (at := end.next_poll(0.0)) is not None
    )
    for end in (ends.client, ends.server):
        ends.deliver(end, end.poll(ends.now))
    assert ends.client.ready
    assert ends.server.ready
    assert ends.now == 0.25
    assert ends.flights < 12


def test_a_certificate_that_does_not_fit_is_refused() -> None:
    ends = Ends()
    ends.server = Dtls(OTHER_CERTIFICATE, [("sha-256", ":".join(["00"] * 32))], client=False)
    ends.begin()
    assert ends.server.failure == "the certificate does not fit the fingerprint"
    assert ends.server._srtp is None


@pytest.mark.parametrize(
    "signalled",
    [
        [],
        [("sha-1", "00")],
        [("sha-256", CERTIFICATE.sha256), ("sha-256", OTHER_CERTIFICATE.sha256)],
        [("sha-256", CERTIFICATE.sha256[:-3])],
    ],
)
def test_every_fingerprint_must_fit_and_one_at_least_be_there(
    signalled: list[tuple[str, str]],
) -> None:
    ends = Ends()
    ends.server = Dtls(OTHER_CERTIFICATE, signalled, client=False)
    ends.begin()
    assert ends.server.failure == "the certificate does not fit the fingerprint"
    assert not ends.server.ready


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sha-256", hashes.SHA256), ("sha-384", hashes.SHA384), ("sha-512", hashes.SHA512)],
)
def test_a_fingerprint_may_be_of_each_hash_that_is_accepted(
    name: str, kind: type[hashes.HashAlgorithm]
) -> None:
    ends = Ends()
    signalled = [("sha-1", "00"), (name, CERTIFICATE.fingerprint(kind))]
    ends.server = Dtls(OTHER_CERTIFICATE, signalled, client=False)
    ends.begin()
    assert ends.server.ready


@pytest.mark.parametrize("first", [0, 1])
def test_either_side_says_goodbye(first: int) -> None:
    ends = Ends()
    ends.begin()
    leaving = (ends.client, ends.server)[first]
    ends.deliver(leaving, leaving.goodbye())
    assert ends.other(leaving).ended


@pytest.mark.parametrize("first", [0, 1])
def test_a_goodbye_that_is_kept_for_later_ends_nothing_before(first: int) -> None:
    ends = Ends()
    ends.begin()
    leaving = (ends.client, ends.server)[first]
    staying = ends.other(leaving)
    kept = leaving.goodbye()
    ends.deliver(staying, staying._flight)  # as if its last flight were repeated
    packet = b"\x80\x60" + bytes(30)
    assert leaving.srtp().unprotect(staying.srtp().protect(packet)) == packet
    assert leaving.failure is staying.failure is None
    assert not leaving.ended
    assert not staying.ended
    assert leaving.goodbye() == kept
    ends.deliver(leaving, kept)
    assert staying.ended


@pytest.mark.parametrize("first", [0, 1])
def test_who_has_kept_a_goodbye_still_hears_the_other_one(first: int) -> None:
    ends = Ends()
    ends.begin()
    leaving = (ends.client, ends.server)[first]
    leaving.goodbye()
    staying = ends.other(leaving)
    ends.deliver(staying, staying.goodbye())
    assert leaving.ended
    assert leaving.failure is None


def test_garbage_before_the_handshake_harms_nothing() -> None:
    ends = Ends()
    for junk in (b"\x16", b"\x16\xfe\xfd" + bytes(40), b"\x17" + bytes(100), b"\x15\xfe\xff"):
        assert ends.server.receive(junk, 0.0) == []
    ends.begin()
    assert ends.server.encrypted


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=5))
def test_bytes_from_strangers_raise_nothing(junk: list[bytes]) -> None:
    server = Dtls(CERTIFICATE, [], client=False)
    for data in junk:
        server.receive(b"\x16\xfe\xfd" + data, 0.0)
    assert not server.ready


def test_nothing_is_kept_to_take_up_a_former_session() -> None:
    mine = Certificate()
    mine.context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)  # it would take one up again
    ends = Ends()
    ends.client = Dtls(mine, [("sha-256", OTHER_CERTIFICATE.sha256)], client=True)
    ends.server = Dtls(OTHER_CERTIFICATE, [("sha-256", mine.sha256)], client=False)
    ends.begin()
    assert ends.server.ready
    first, again = Dtls(mine, [], client=True), Dtls(mine, [], client=True)
    session = ends.client._connection.get_session()
    assert session is not None
    again._connection.set_session(session)
    hellos = [len(end.begin(0.0)[0]) for end in (first, again)]
    assert hellos[0] == hellos[1], "it names a session"


# -- flights -----------------------------------------------------------------------------


def record(size: int) -> bytes:
    return b"\x16\xfe\xfd" + bytes(8) + size.to_bytes(2, "big") + bytes(size)


def test_a_long_flight_is_cut_between_records() -> None:
    records = [record(size) for size in (100, 700, 700, 1187, 10, 10)]
    cut = split_records(b"".join(records))
    assert b"".join(cut) == b"".join(records)
    assert [len(part) for part in cut] == [826, 713, 1200, 46]


@given(st.binary(max_size=4000))
def test_cutting_loses_nothing(flight: bytes) -> None:
    assert b"".join(split_records(flight)) == flight


def test_a_last_flight_that_was_lost_is_repeated_after_a_goodbye_was_kept() -> None:
    ends = Ends()
    ends.lost = 3  # the server's, with which the client is done
    ends.begin()
    assert (ends.client.ready, ends.server.ready) == (False, True)
    kept = ends.server.goodbye()
    timer = ends.client._connection
    while timer.DTLSv1_get_timeout():  # OpenSSL's own clock: after it, records of a new number
        time.sleep(0.05)
    ends.deliver(ends.client, ends.client.poll(0.0))
    assert ends.server.failure is None
    assert ends.client.ready
    ends.deliver(ends.server, kept)
    assert ends.client.ended
    assert ends.server.goodbye() == kept


def test_whoever_missed_the_last_flight_reads_it_with_the_goodbye() -> None:
    ends = Ends()
    ends.lost = 3
    ends.begin()
    ends.deliver(ends.server, [*ends.server.flight, *ends.server.goodbye()])
    assert ends.client.ready
    assert ends.client.ended


def test_a_kept_goodbye_has_a_record_number_that_nothing_else_has() -> None:
    ends = Ends()
    ends.begin()
    [kept] = ends.server.goodbye()
    last = ends.server.flight[-1]
    records = [last[at : at + 11] for at in range(len(last)) if last[at : at + 5] == SEALED]
    assert kept[:5] == b"\x15" + SEALED[1:]
    assert records
    assert all(int.from_bytes(kept[5:11], "big") > int.from_bytes(r[5:11], "big") for r in records)
    ends.server._connection.send(b"more")  # nothing of ours, but its record comes after
    [more] = ends.server._take()
    assert more[3:5] == kept[3:5]
    assert more[5:11] > kept[5:11]
