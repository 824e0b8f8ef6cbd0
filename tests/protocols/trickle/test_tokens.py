"""A server that asks for tokens: every route, for each side, and what a stranger learns."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Forbidden, NotFound, Unauthorized
from relay.protocols.trickle.client import endpoint, open_session
from relay.protocols.trickle.passes import MAX_TOKEN, Access, Pass, Passes, bearer
from relay.protocols.trickle.publisher import TricklePublisher, send_whole
from relay.protocols.trickle.server import TrickleServer
from relay.protocols.trickle.subscriber import TrickleSubscriber
from tests.protocols.trickle.wire import Answer, Site, serve, until

WRITES: Final = (
    ("POST", ""),
    ("POST", "/0"),
    ("POST", "/-1"),
    ("DELETE", "/0"),
    ("DELETE", ""),
)
READS: Final = (("GET", "/0"), ("GET", "/-2"), ("HEAD", "/0"))
BOTH: Final = (("GET", "/next"), ("HEAD", "/next"))
# What has no answer of its own is refused first, too.
OTHERS: Final = (
    ("POST", "/next"),
    ("DELETE", "/next"),
    ("PUT", "/0"),
    ("OPTIONS", ""),
    ("GET", ""),
    ("PATCH", ""),
    ("GET", "/x"),
)


class Desk:
    """A server with the channel ``ch`` that one side writes and the other reads."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.writer, self.reader, self.other = Pass(), Pass(), Pass()
        server = site.server
        for name, one in (("ch", self.writer), ("elsewhere", self.other)):
            server.create(name, "video/MP2T")
            server.let(name, one, Access.WRITE)
        server.let("ch", self.reader, Access.READ)

    async def ask(self, method: str, path: str, one: Pass | None, **fields: Any) -> Answer:
        headers = [f"Authorization: Bearer {one.token}"] if one else []
        return await self.site.ask(method, f"/t/{path}", *headers, **fields)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with serve(tokens=True) as site:
        desk = Desk(site)
        assert (await desk.ask("POST", "ch/0", desk.writer, body=b"x")).status == 200
        yield desk


def told(answer: Answer) -> tuple[object, ...]:
    """All of an answer but its moment."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_line, headers, answer.body


@pytest.mark.parametrize(("method", "rest"), [*WRITES, *READS, *BOTH, *OTHERS])
async def test_without_a_token_every_route_is_401_whether_the_channel_is_there_or_not(
    desk: Desk, method: str, rest: str
) -> None:
    body = {"body": b"x"} if method == "POST" else {}
    answer = await desk.ask(method, f"ch{rest}", None, **body)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert told(answer) == told(await desk.ask(method, f"absent{rest}", None, **body))
    assert desk.site.server.activity("ch").next_write == 1


@pytest.mark.parametrize(("method", "rest"), [*WRITES, *READS, *BOTH, *OTHERS])
async def test_another_channels_token_is_403_whether_the_channel_is_there_or_not(
    desk: Desk, method: str, rest: str
) -> None:
    body = {"body": b"x"} if method == "POST" else {}
    answer = await desk.ask(method, f"ch{rest}", desk.other, **body)
    assert answer.status == 403
    assert told(answer) == told(await desk.ask(method, f"absent{rest}", desk.other, **body))
    assert told(answer) == told(await desk.ask(method, f"ch{rest}", Pass(), **body))
    assert desk.site.server.activity("ch").next_write == 1


@pytest.mark.parametrize(("method", "rest"), WRITES)
async def test_who_writes_may_and_who_reads_may_not(desk: Desk, method: str, rest: str) -> None:
    body = {"body": b"x"} if method == "POST" else {}
    refused = await desk.ask(method, f"ch{rest}", desk.reader, **body)
    assert refused.status == 403
    assert told(refused) == told(await desk.ask(method, f"ch{rest}", desk.other, **body))
    assert desk.site.server.activity("ch").next_write == 1
    assert (await desk.ask(method, f"ch{rest}", desk.writer, **body)).status == 200


@pytest.mark.parametrize(("method", "rest"), READS)
async def test_who_reads_may_and_who_writes_may_not(desk: Desk, method: str, rest: str) -> None:
    refused = await desk.ask(method, f"ch{rest}", desk.writer)
    assert refused.status == 403
    assert told(refused) == told(await desk.ask(method, f"ch{rest}", desk.other))
    assert (await desk.ask(method, f"ch{rest}", desk.reader)).status == 200


@pytest.mark.parametrize(("method", "rest"), BOTH)
async def test_both_may_ask_for_the_next_number(desk: Desk, method: str, rest: str) -> None:
    for one in (desk.writer, desk.reader):
        answer = await desk.ask(method, f"ch{rest}", one)
        assert (answer.status, answer.headers["lp-trickle-latest"]) == (200, "1")


async def test_a_preconnected_request_is_refused_before_its_body(desk: Desk) -> None:
    connection = await desk.site.connect()
    await connection.post("/t/ch/1")
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"]) == (401, "close")


async def test_the_holder_of_an_ended_channels_token_is_told_of_the_end(desk: Desk) -> None:
    assert (await desk.ask("DELETE", "ch", desk.writer)).status == 200
    assert (await desk.ask("GET", "ch/1", desk.reader)).status == 404
    assert (await desk.ask("POST", "ch/1", desk.writer, body=b"x")).status == 404
    assert (await desk.ask("GET", "ch/1", desk.writer)).status == 403
    assert (await desk.ask("GET", "ch/1", desk.other)).status == 403
    assert (await desk.ask("GET", "ch/1", None)).status == 401


async def test_tokens_and_other_names_go_together(desk: Desk) -> None:
    server = desk.site.server
    server.grant("alias", "ch", Access.READ)
    server.let("alias", desk.reader, Access.READ)
    assert (await desk.ask("GET", "alias/0", desk.reader)).body == b"x"
    assert (await desk.ask("GET", "alias/0", desk.writer)).status == 403
    await server.close("ch")
    assert (await desk.ask("GET", "alias/0", desk.reader)).status == 404
    assert (await desk.ask("GET", "alias/0", desk.writer)).status == 403


async def test_nobody_makes_a_channel_where_tokens_are_asked_for() -> None:
    async with serve(tokens=True, autocreate=True) as site:
        assert (await site.ask("POST", "/t/new")).status == 401
        headers = ("Authorization: Bearer abc",)
        assert (await site.ask("POST", "/t/new", *headers)).status == 403
        assert (await site.ask("POST", "/t/new/0", *headers, body=b"x")).status == 403
        assert not site.server.exists("new")


async def test_a_server_that_asks_for_none_takes_any(desk: Desk) -> None:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        site.server.let("ch", Pass(), Access.READ)
        headers = ("Authorization: Bearer abc",)
        assert (await site.ask("POST", "/t/ch/0", *headers, body=b"x")).status == 200
        assert (await site.ask("GET", "/t/ch/0")).body == b"x"
        with pytest.raises(NotFound):
            site.server.let("absent", Pass(), Access.READ)


async def test_publisher_and_subscriber_send_theirs_with_every_request(desk: Desk) -> None:
    seen: list[list[str]] = []
    check = Passes.check

    def noting(self: Passes, name: str, authorization: Sequence[str], needed: Access) -> None:
        seen.append(list(authorization))
        check(self, name, authorization, needed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passes, "check", noting)
        async with open_session() as session:
            mine = {"Authorization": f"Bearer {desk.writer.token}"}
            theirs = {"Authorization": f"Bearer {desk.reader.token}"}
            url = f"{desk.site.base}ch"
            publisher = TricklePublisher(session, url, first_sequence=1, headers=mine)
            subscriber = TrickleSubscriber(session, url, start=1, headers=theirs)
            await send_whole(publisher, b"one")
            segment = await anext(subscriber)
            assert await segment.read(10) == b"one"
            aborted = publisher.begin()
            aborted.write(b"half")
            await until(lambda: desk.site.server.activity("ch").next_write == 3)
            aborted.abort()
            await publisher.close()
            await subscriber.close()
    assert not desk.site.server.exists("ch")
    # Two segments, a read, and the deletes of the aborted one and of the channel.
    assert len(seen) >= 5
    assert all(len(values) == 1 for values in seen)
    assert desk.writer.shown
    assert desk.reader.shown
    assert not desk.writer.missed


def test_tokens_are_in_no_printed_form() -> None:
    one = Pass()
    assert one.token not in repr(one)
    assert len(one.token) == 43
    assert one.token != Pass().token
    told = endpoint(None, "http://h/x", True, {"Authorization": "Bearer abc"})  # type: ignore[arg-type]
    assert "abc" not in repr(told)


# The pure part.


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def noting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return secrets.compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    passes, one, other = Passes(4), Pass(), Pass()
    passes.let("ch", one, Access.READ)
    passes.let("ch", other, Access.WRITE)
    passes.check("ch", [f"Bearer {one.token}"], Access.READ)
    # Also the second one, although the first fits; and somebody's where there is no name.
    assert [known.decode() for known, _ in compared] == [one.token, other.token]
    with pytest.raises(Forbidden):
        passes.check("absent", [f"Bearer {one.token}"], Access.READ)
    assert len(compared) == 3


def test_who_came_without_a_token_is_known_by_what_it_asked_for() -> None:
    passes, writer, reader = Passes(4), Pass(), Pass()
    passes.let("ch", writer, Access.WRITE)
    passes.let("ch", reader, Access.READ)
    for needed, missed in ((Access.READ, (False, True)), (Access.ALL, (True, True))):
        with pytest.raises(Unauthorized):
            passes.check("ch", [], needed)
        assert (writer.missed, reader.missed) == missed
    assert not writer.shown
    passes.check("ch", [f"bearer  {writer.token}"], Access.WRITE)
    assert writer.shown


def test_only_the_newest_ended_names_are_kept() -> None:
    passes, one = Passes(2), Pass()
    for n in range(4):
        passes.let(f"c{n}", one, Access.READ)
        passes.end(f"c{n}")
        passes.end(f"c{n}")
    header = [f"Bearer {one.token}"]
    for n in (0, 1):
        with pytest.raises(Forbidden):
            passes.check(f"c{n}", header, Access.READ)
    for n in (2, 3):
        passes.check(f"c{n}", header, Access.READ)


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ([], None),
        ([""], None),
        (["Bearer"], None),
        (["Bearer "], None),
        (["Bearer ="], None),
        (["Bearerabc"], None),
        (["Basic abc"], None),
        (["Livepeer-AI-Worker-1.0"], None),
        (["Bearer a b"], None),
        (["Bearer a,b"], None),
        (["Bearer a\n"], None),
        (["Bearer \udcff"], None),
        (["Bearer é"], None),
        (["Bearer a=b"], None),
        (["Bearer a", "Bearer a"], None),
        ([f"Bearer {'a' * (MAX_TOKEN + 1)}"], None),
        (["Bearer a"], b"a"),
        (["bEARER   a-._~+/9=="], b"a-._~+/9=="),
    ],
)
def test_one_bearer_header_is_read(values: list[str], token: bytes | None) -> None:
    assert bearer(values) == token


ODD = st.text(st.characters(codec=None), max_size=80) | st.builds(
    "{}{}{}".format,
    st.sampled_from(["Bearer", "bearer", "Basic", "", "Bearer Bearer"]),
    st.sampled_from(["", " ", "  ", "\t", " ,", '"']),
    st.text(st.characters(codec="ascii"), max_size=60),
)


@given(st.lists(ODD, max_size=3), st.sampled_from([Access.READ, Access.WRITE, Access.ALL]))
def test_whatever_a_header_holds_lets_nobody_in(values: list[str], needed: Access) -> None:
    passes, one = Passes(4), Pass()
    passes.let("ch", one, Access.ALL)
    answers = []
    for name in ("ch", "absent"):
        with pytest.raises((Unauthorized, Forbidden)) as refusal:
            passes.check(name, values, needed)
        answers.append((type(refusal.value), str(refusal.value)))
    assert answers[0] == answers[1]
    assert not one.shown


@given(st.data())
def test_a_token_that_is_nearly_right_is_wrong(data: st.DataObject) -> None:
    passes, one = Passes(4), Pass()
    passes.let("ch", one, Access.ALL)
    at = data.draw(st.integers(0, len(one.token)))
    inserted = data.draw(st.text("abcXYZ09-_", max_size=2))
    dropped = data.draw(st.integers(0, 2))
    near = one.token[:at] + inserted + one.token[at + dropped :]
    if near == one.token:
        passes.check("ch", [f"Bearer {near}"], Access.READ)
        return
    with pytest.raises((Unauthorized, Forbidden)):
        passes.check("ch", [f"Bearer {near}"], Access.READ)


def test_a_server_has_no_tokens_by_default() -> None:
    server = TrickleServer()
    assert server._passes is None
