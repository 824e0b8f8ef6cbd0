"""PATCH on a session: every row of the If-Match table, restarts, bounds, and the end."""

from __future__ import annotations

import asyncio
import re

import pytest

from relay.errors import (
    BadInput,
    NotFound,
    ParseError,
    PreconditionFailed,
    PreconditionRequired,
    RateLimited,
)
from relay.protocols.webrtc import sdpfrag
from relay.protocols.webrtc.peers import Peers
from relay.protocols.webrtc.session import PatchAnswer, Session, matches
from tests.protocols.webrtc import offers

NEW_PWD = "n" * 24


def fragment(ufrag: str | None = offers.UFRAG, pwd: str | None = offers.PWD) -> bytes:
    lines = ["a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0"]
    lines += [f"a=ice-ufrag:{ufrag}"] if ufrag else []
    lines += [f"a=ice-pwd:{pwd}"] if pwd else []
    lines += ["a=candidate:1 1 udp 2122260223 192.0.2.7 61764 typ host"]
    return offers.join(lines).encode()


TRICKLE = fragment()
RESTART = fragment("ysXw", NEW_PWD)


@pytest.fixture
async def session(peers: Peers) -> Session:
    return Session(await peers.answer(offers.publisher(), receive=True))


async def test_the_session_names_itself(session: Session, peers: Peers) -> None:
    other = Session(await peers.answer(offers.publisher(), receive=True))
    assert re.fullmatch(r'"[^"]+"', session.etag)
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", session.id)
    assert other.id != session.id
    assert other.etag != session.etag
    assert session.answer.startswith("v=0\r\n")


# -- section 1.3 of the wire notes: If-Match ---------------------------------------------

GOOD = ["{etag}", '"x", {etag}', '{etag},"x"', "*", '"*"', "{bare}", " {etag} "]
STALE = ['"g0"', "W/{etag}", '"x", "y"', "", "g0", 'W/"*"', '"']


@pytest.mark.parametrize("if_match", GOOD)
async def test_trickle_with_a_tag_that_fits(session: Session, if_match: str) -> None:
    value = if_match.format(etag=session.etag, bare=session.etag.strip('"'))
    assert await session.patch(TRICKLE, value) == PatchAnswer(204, None, None)


@pytest.mark.parametrize("if_match", GOOD)
async def test_restart_with_a_tag_that_fits(session: Session, if_match: str) -> None:
    old = session.etag
    value = if_match.format(etag=old, bare=old.strip('"'))
    answer = await session.patch(RESTART, value)
    assert answer.status == 200
    assert answer.etag == session.etag != old


@pytest.mark.parametrize("if_match", STALE)
@pytest.mark.parametrize("body", [TRICKLE, RESTART])
async def test_a_stale_tag(session: Session, body: bytes, if_match: str) -> None:
    old = session.etag
    with pytest.raises(PreconditionFailed):
        await session.patch(body, if_match.format(etag=old))
    assert session.etag == old


@pytest.mark.parametrize("body", [TRICKLE, RESTART])
async def test_no_tag(session: Session, body: bytes) -> None:
    with pytest.raises(PreconditionRequired):
        await session.patch(body, None)


@pytest.mark.parametrize("body", [b"", b"garbage", b"\xff", fragment("abc")])
async def test_a_broken_body_is_told_before_the_tag(session: Session, body: bytes) -> None:
    for if_match in (None, '"stale"', "*"):
        with pytest.raises(BadInput):
            await session.patch(body, if_match)


# -- what is a restart -------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        fragment(None, None),
        fragment(pwd=None),
        fragment(pwd="other" * 6),
        fragment(None),
        b"a=end-of-candidates\r\n",
        TRICKLE.replace(b"\r\n", b"\n"),
        b"v=0\r\n" + TRICKLE,
        TRICKLE.replace(b"a=mid:0", b"a=mid:nobody"),
        TRICKLE.replace(b"192.0.2.7", b"f00.local"),
    ],
)
async def test_the_user_name_in_use_makes_it_trickle(session: Session, body: bytes) -> None:
    old = session.etag
    assert (await session.patch(body, "*")).status == 204
    assert (await session.patch(body, "*")).status == 204
    assert session.etag == old


@pytest.mark.parametrize("body", [fragment("newname", None), fragment(None, NEW_PWD)])
async def test_half_a_set_of_credentials(session: Session, body: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        await session.patch(body, "*")
    assert not isinstance(caught.value, ParseError)
    assert caught.value.code == "sdp_ice"


async def test_the_answer_to_a_restart(session: Session, peers: Peers) -> None:
    before = session.peer.ice.ufrag, session.peer.ice.pwd
    answer = await session.patch(RESTART, "*")
    assert answer.body is not None
    assert answer.body.count("\r\n") == answer.body.count("\n")
    parsed = sdpfrag.parse(answer.body.encode())
    assert (parsed.ufrag, parsed.pwd) == (session.peer.ice.ufrag, session.peer.ice.pwd)
    assert parsed.ufrag not in before
    assert parsed.candidates == tuple(peers.candidates)
    assert parsed.end_of_candidates
    assert "a=ice-options:trickle" in answer.body
    assert "a=ice-options:trickle" in session.answer
    assert "ice-lite" not in answer.body + session.answer


async def test_after_a_restart_only_the_new_tag_counts(session: Session) -> None:
    old = session.etag
    await session.patch(RESTART, "*")
    trickle = fragment("ysXw", NEW_PWD)
    with pytest.raises(PreconditionFailed):
        await session.patch(trickle, old)
    assert (await session.patch(trickle, session.etag)).status == 204


async def test_credentials_of_a_former_generation(session: Session) -> None:
    await session.patch(RESTART, "*")
    with pytest.raises(PreconditionFailed) as caught:
        await session.patch(TRICKLE, "*")
    assert caught.value.code == "stale_ice"


async def test_a_tag_is_never_used_twice(session: Session) -> None:
    tags = {session.etag}
    for index in range(4):
        await session.patch(fragment(f"name{index}", NEW_PWD), session.etag)
        tags.add(session.etag)
    assert len(tags) == 5


# -- bounds and end ------------------------------------------------------------------------


async def test_two_hundred_patches_in_a_burst(session: Session) -> None:
    limited = 0
    for _ in range(200):
        try:
            await session.patch(TRICKLE, "*")
        except RateLimited as error:
            assert error.retry_after == 1  # noqa: PT017
            limited += 1
    assert 100 < limited < 200


async def test_restarts_are_limited_more(session: Session) -> None:
    done = 0
    while done < 20:
        try:
            await session.patch(fragment(f"name{done}", NEW_PWD), "*")
        except RateLimited:
            break
        done += 1
    assert 3 <= done <= 8


async def test_two_at_once(session: Session) -> None:
    answers = await asyncio.gather(session.patch(TRICKLE, "*"), session.patch(TRICKLE, "*"))
    assert [answer.status for answer in answers] == [204, 204]


async def test_the_end_is_told_to_all_who_wait(session: Session) -> None:
    waiting = [asyncio.create_task(session.wait_closed()) for _ in range(2)]
    await asyncio.sleep(0)
    await session.close("deleted")
    await session.close("again")
    assert await asyncio.gather(*waiting) == ["deleted", "deleted"]
    assert await session.wait_closed() == "deleted"
    with pytest.raises(NotFound):
        await session.patch(TRICKLE, "*")


async def test_a_session_over_a_peer_that_is_gone(peers: Peers) -> None:
    peer = await peers.answer(offers.publisher(), receive=True)
    await peer.close("early")
    assert await Session(peer).wait_closed() == "early"


def test_a_long_if_match_is_cheap() -> None:
    assert not matches('"' * 100_000, '"g1"')
    assert not matches(" " * 100_000 + "x", '"g1"')
