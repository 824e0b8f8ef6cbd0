"""The server over real connections: what readers and writers see."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.errors import BadInput, NotFound, Unavailable
from relay.protocols.trickle import intake
from relay.protocols.trickle.channel import Limits
from relay.protocols.trickle.server import TrickleServer
from tests.protocols.trickle.wire import Connection, Site, serve, until

STOCK = Path(__file__).parents[2] / "captures" / "trickle" / "stock-gateway"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        yield site


async def reading(site: Site, path: str) -> Connection:
    connection = await site.connect()
    await connection.request("GET", path)
    return connection


async def writing(site: Site, path: str, *headers: str) -> Connection:
    connection = await site.connect()
    await connection.post(path, *headers)
    return connection


async def latest(site: Site, name: str = "ch") -> int:
    return int((await site.ask("GET", f"/t/{name}/next")).body)


async def test_each_piece_reaches_every_reader_by_itself(site: Site) -> None:
    readers = [await reading(site, "/t/ch/0") for _ in range(3)]
    writer = await writing(site, "/t/ch/0")
    for n in range(20):
        await writer.piece(b"%d" % n)
        for reader in readers:
            if n == 0:
                assert (await reader.head()).headers["content-type"] == "video/MP2T"
            assert await reader.chunk() == b"%d" % n
    await writer.end()
    assert (await writer.answer()).headers["lp-trickle-seq"] == "0"
    for reader in readers:
        assert await reader.chunk() == b""


async def test_one_byte_at_a_time(site: Site) -> None:
    writer = await writing(site, "/t/ch/0")
    await writer.send(b"".join(b"1\r\n%c\r\n" % (n % 256) for n in range(3000)))
    await writer.end()
    assert (await writer.answer()).status == 200
    answer = await site.ask("GET", "/t/ch/0")
    assert answer.body == bytes(n % 256 for n in range(3000))


async def test_a_large_segment_arrives_whole_while_it_is_written(site: Site) -> None:
    data = bytes(range(256)) * 4096 * 6
    reader = await reading(site, "/t/ch/-1")
    writer = await site.connect()
    await writer.request("POST", "/t/ch/0", f"Content-Length: {len(data)}")
    answer, _ = await asyncio.gather(reader.answer(), writer.send(data))
    assert answer.body == data
    assert (await writer.answer()).status == 200
    assert (await site.ask("GET", "/t/ch/0")).body == data


async def test_one_connection_serves_one_request_after_another(site: Site) -> None:
    reader, writer = await site.connect(), await site.connect()
    for sequence in range(7):
        await reader.request("GET", f"/t/ch/{sequence}")
        await writer.post(f"/t/ch/{sequence}")
        await writer.piece(b"n%d" % sequence)
        await writer.end()
        assert (await writer.answer()).headers["lp-trickle-seq"] == str(sequence)
        assert (await reader.answer()).body == b"n%d" % sequence


async def test_what_comes_behind_a_preconnected_request(site: Site) -> None:
    writer = await writing(site, "/t/ch/1")
    assert await latest(site) == 0
    other = await writing(site, "/t/ch/0")
    await other.piece(b"x")
    await other.end()
    assert (await other.answer()).status == 200
    await writer.piece(b"y")
    await writer.end()
    assert (await writer.answer()).headers["lp-trickle-seq"] == "1"
    assert await latest(site) == 2


async def test_a_reader_that_is_behind_is_told_the_newest(site: Site) -> None:
    for sequence in range(7):
        await site.ask("POST", f"/t/ch/{sequence}", body=b"x")
    answer = await site.ask("GET", "/t/ch/1")
    assert answer.status_line == "HTTP/1.1 470 status code 470"
    assert answer.headers["lp-trickle-latest"] == "7"
    assert answer.body == b"Entry not found"


async def test_channels_do_not_see_each_other(site: Site) -> None:
    names = [f"n{n}" for n in range(40)]
    for name in names:
        site.server.create(name, "application/json")
    await asyncio.gather(*(site.ask("POST", f"/t/{name}/0", body=name.encode()) for name in names))
    answers = await asyncio.gather(*(site.ask("GET", f"/t/{name}/0") for name in names))
    assert [answer.body.decode() for answer in answers] == names


async def test_deleting_the_channel_during_a_read_and_a_write(site: Site) -> None:
    reader, writer = await reading(site, "/t/ch/0"), await writing(site, "/t/ch/0")
    await writer.piece(b"begun")
    await reader.head()
    assert await reader.chunk() == b"begun"
    assert (await site.ask("DELETE", "/t/ch")).status == 200
    assert await reader.chunk() == b""
    await writer.piece(b"late")  # an aiohttp client that is answered now would hang in its body
    await writer.end()
    answer = await writer.answer()
    assert (answer.status, answer.headers["lp-trickle-closed"]) == (200, "terminated")
    assert (await site.ask("GET", "/t/ch/1")).status == 404
    assert (await site.ask("POST", "/t/ch/1", body=b"x")).headers["connection"] == "close"


async def test_a_body_that_goes_on_after_its_channel_is_cut_short(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LINGER", 0.2)
    writer = await writing(site, "/t/ch/0")
    await writer.piece(b"begun")
    await until(lambda: site.server.activity("ch").bytes > 0)
    assert (await site.ask("DELETE", "/t/ch")).status == 200
    with pytest.raises(TimeoutError):
        await writer.head(within=0.1)
    answer = await writer.answer()
    assert answer.headers["lp-trickle-closed"] == "terminated"
    assert answer.headers["connection"] == "close"


async def test_deleting_a_segment_that_is_being_written_drops_the_rest(site: Site) -> None:
    reader, writer = await reading(site, "/t/ch/0"), await writing(site, "/t/ch/0")
    await writer.piece(b"begun")
    await reader.head()
    assert await reader.chunk() == b"begun"
    assert (await site.ask("DELETE", "/t/ch/0")).status == 200
    assert await reader.chunk() == b""
    await writer.piece(b"late")
    await writer.end()
    assert (await writer.answer()).status == 200
    assert (await site.ask("GET", "/t/ch/0")).body == b"begun"


async def test_reset_lets_go_of_readers_of_a_half_written_segment(site: Site) -> None:
    reader, writer = await reading(site, "/t/ch/0"), await writing(site, "/t/ch/0")
    await writer.piece(b"half")
    await reader.head()
    assert await reader.chunk() == b"half"
    fresh = await writing(site, "/t/ch/1", "Lp-Trickle-Reset: 1")
    assert await reader.chunk() == b""
    await fresh.piece(b"new")
    await fresh.end()
    assert (await fresh.answer()).status == 200
    assert await latest(site) == 2


async def test_a_writer_that_comes_back_goes_on_with_its_segment(site: Site) -> None:
    reader, writer = await reading(site, "/t/ch/0"), await writing(site, "/t/ch/0")
    await writer.piece(b"one ")
    await reader.head()
    assert await reader.chunk() == b"one "
    writer.abort()
    again = await writing(site, "/t/ch/0")
    await again.piece(b"two")
    await again.end()
    assert await reader.chunk() == b"two"
    assert await reader.chunk() == b""


async def test_a_preconnect_that_vanishes_leaves_its_reader_waiting(site: Site) -> None:
    reader, writer = await reading(site, "/t/ch/0"), await writing(site, "/t/ch/0")
    writer.abort()
    assert await reader.silent()
    assert await latest(site) == 0
    await site.ask("POST", "/t/ch/0", body=b"x")
    assert (await reader.answer()).body == b"x"


@pytest.mark.parametrize(
    ("head", "raw", "body"),
    [
        ("Transfer-Encoding: chunked", b"3;ext=1\r\nabc\r\n0\r\n\r\n", b"abc"),
        ("Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n", b"abc"),
        ("Content-Length: 3", b"abc", b"abc"),
        ("Content-Length: 0", b"", b""),
    ],
)
async def test_ways_to_frame_a_body(site: Site, head: str, raw: bytes, body: bytes) -> None:
    writer = await site.connect()
    await writer.request("POST", "/t/ch/0", head, body=raw)
    assert (await writer.answer()).status == 200
    assert (await site.ask("GET", "/t/ch/0")).body == body


async def test_a_body_that_breaks_its_framing_is_refused(site: Site) -> None:
    writer = await writing(site, "/t/ch/0")
    await writer.send(b"zz\r\nabc\r\n")
    answer = await writer.answer()
    assert answer.status in (400, 500)
    assert await writer.closed()
    assert await latest(site) == 0


async def test_a_reader_of_http_1_0(site: Site) -> None:
    reader = await site.connect()
    await reader.send(b"GET /t/ch/0 HTTP/1.0\r\n\r\n")
    writer = await writing(site, "/t/ch/0")
    for piece in (b"one ", b"two ", b"three"):
        await writer.piece(piece)
        await asyncio.sleep(0.01)
    await writer.end()
    answer = await reader.answer()
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"one two three"


async def test_head_of_a_segment_has_no_body(site: Site) -> None:
    await site.ask("POST", "/t/ch/0", body=b"x")
    connection = await site.connect()
    await connection.request("HEAD", "/t/ch/0")
    assert (await connection.head()).headers["lp-trickle-seq"] == "0"
    await connection.request("GET", "/t/ch/next")
    assert (await connection.answer()).body == b"1"


async def test_nothing_is_compressed(site: Site) -> None:
    await site.ask("POST", "/t/ch/0", body=b"a" * 10_000)
    answer = await site.ask("GET", "/t/ch/0", "Accept-Encoding: gzip, deflate, br")
    assert "content-encoding" not in answer.headers
    assert answer.body == b"a" * 10_000
    packed = await site.ask("POST", "/t/ch/1", "Content-Encoding: gzip", body=b"\x1f\x8b")
    assert packed.status == 415


@pytest.mark.parametrize(
    "sequence", ["-3", "-5", "abc", "1e3", "-9223372036854775808", "9223372036854775808", "%2e%2e"]
)
async def test_numbers_that_name_no_segment(site: Site, sequence: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await site.ask(method, f"/t/ch/{sequence}", body=b"x" if method == "POST" else b"")
        assert (answer.status, answer.body) == (400, b"Invalid idx\n")
    assert (await site.ask("POST", "/t/ch/-2", body=b"x")).status == 400
    assert (await site.ask("DELETE", "/t/ch/-1")).status == 400
    assert (await site.ask("POST", "/t/ch/0", body=b"x")).status == 200


@pytest.mark.parametrize("name", ["a%2Fb", "%2e%2e", "%00", "%C3%BC", "x" * 4096, "a%20b", "."])
async def test_names_that_no_channel_has(name: str) -> None:
    async with serve(autocreate=True) as site:
        for method, path in (("POST", ""), ("POST", "/0"), ("GET", "/0"), ("DELETE", "/0")):
            answer = await site.ask(method, f"/t/{name}{path}")
            assert answer.status == 404


async def test_strangers_make_no_channels_unless_they_may(site: Site) -> None:
    assert (await site.ask("POST", "/t/new", "Expect-Content: text/plain")).status == 404
    assert (await site.ask("POST", "/t/new/0", body=b"x")).status == 404
    async with serve(autocreate=True, limits=Limits(channels=2)) as open_site:
        await open_site.ask("POST", "/t/new", "Expect-Content: text/plain")
        await open_site.ask("POST", "/t/new/0", "Content-Type: video/MP2T", body=b"x")
        answer = await open_site.ask("GET", "/t/new/0")
        assert answer.headers["content-type"] == "text/plain"
        await open_site.ask("POST", "/t/other/0", "Content-Type: video/MP2T", body=b"x")
        answer = await open_site.ask("GET", "/t/other/0")
        assert answer.headers["content-type"] == "video/MP2T"
        assert (await open_site.ask("POST", "/t/third/0", body=b"x")).status == 503


async def test_methods_that_are_not_allowed(site: Site) -> None:
    answer = await site.ask("GET", "/t/ch")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, POST")
    assert (await site.ask("PUT", "/t/ch/0")).status == 405


async def test_two_hundred_empty_segments(site: Site) -> None:
    writer = await site.connect()
    for sequence in range(200):
        await writer.request("POST", f"/t/ch/{sequence}", "Content-Length: 0")
        assert (await writer.answer()).status == 200
        assert await writer.closed()
        writer = await site.connect()
    assert await latest(site) == 200


async def test_the_stock_gateways_control_messages_arrive_in_order(site: Site) -> None:
    site.server.create("99df2831-control", "application/json")
    connections = [await site.connect(), await site.connect()]
    got = []
    for index, source in recorded_control():
        connection = connections[index % 2]
        reader = await reading(site, "/t/99df2831-control/-1")
        for piece in source:
            await connection.send(piece.replace(b"/ai/trickle/", b"/t/"))
        assert (await connection.answer()).headers["lp-trickle-seq"] == str(index)
        got.append(json.loads((await reader.answer()).body))
    assert {"keep": "alive"} in got
    assert {"prompt": "x"} in got
    assert [message["n"] for message in got if "n" in message] == list(range(len(got) - 2))


def recorded_control() -> list[tuple[int, list[bytes]]]:
    """The POSTs of both recorded connections: sequence number, and the pieces as sent."""
    posts: list[tuple[int, list[bytes]]] = []
    for name in ("post-control.conn1.txt", "post-control.conn2.txt"):
        text = (STOCK / name).read_text()
        for part in re.split(r"^(?=>>> |<<< )", text, flags=re.M):
            if not part.startswith(">>>"):
                continue
            lines = part.split("\n")[1:]
            raw = "".join(line for line in lines if line.endswith("\\r\\n"))
            piece = raw.replace("\\r\\n", "\r\n").encode()
            if found := re.match(rb"POST \S+-control/(\d+)", piece):
                posts.append((int(found[1]), [piece]))
            else:
                posts[-1][1].append(piece)
    return sorted(posts)


# What the process that holds the server sees.


async def test_closing_tells_why_once(site: Site) -> None:
    heard: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    for name, reasons in heard.items():
        site.server.create(name, "video/MP2T")
        site.server.on_closed(name, reasons.append)
    await site.ask("DELETE", "/t/a")
    await site.server.close("b")
    await site.server.close("b")
    site.server.sweep(1e12)
    assert heard == {"a": ["deleted"], "b": ["closed"], "c": ["idle"]}
    with pytest.raises(NotFound):
        site.server.on_closed("a", print)


async def test_activity(site: Site) -> None:
    before = site.server.activity("ch")
    assert (before.next_write, before.bytes, before.readers) == (0, 0, 0)
    await reading(site, "/t/ch/0")
    await until(lambda: site.server.activity("ch").readers == 1)
    await site.ask("POST", "/t/ch/0", body=b"12345")
    after = site.server.activity("ch")
    assert (after.next_write, after.bytes) == (1, 5)
    assert after.last_write > before.last_write
    with pytest.raises(NotFound):
        site.server.activity("other")


async def test_activity_tells_a_writer_that_was_cut_off_from_one_that_came_to_its_end(
    site: Site,
) -> None:
    for sequence, ends in enumerate((True, False, True)):
        writer = await writing(site, f"/t/ch/{sequence}")
        await until(lambda: site.server.activity("ch").writers == 1)
        await writer.piece(b"x")
        if ends:
            await writer.end()
        else:
            await writer.close()
        await until(lambda: site.server.activity("ch").writers == 0)
        assert site.server.activity("ch").cut is not ends


def test_what_cannot_be_created() -> None:
    server = TrickleServer(limits=Limits(channels=1))
    with pytest.raises(BadInput):
        server.create("a/b", "video/MP2T")
    server.create("a", "video/MP2T")
    server.create("a", "text/plain")
    with pytest.raises(Unavailable):
        server.create("b", "video/MP2T")
    assert server.exists("a")
    assert not server.exists("b")


async def test_shutting_down_ends_what_waits() -> None:
    async with serve() as site:
        site.server.create("ch", "video/MP2T")
        reader, writer = await reading(site, "/t/ch/0"), await writing(site, "/t/ch/0")
        await until(lambda: site.server.activity("ch").readers == len(site.server._intakes) == 1)
        await site.runner.cleanup()
        for connection in (reader, writer):
            assert (await connection.answer()).headers["lp-trickle-closed"] == "terminated"


async def test_two_resets_at_once(site: Site) -> None:
    half = await writing(site, "/t/ch/0")
    await half.piece(b"x")
    await until(lambda: site.server.activity("ch").next_write == 1)
    first = await writing(site, "/t/ch/1", "Lp-Trickle-Reset: 1")
    second = await writing(site, "/t/ch/2", "Lp-Trickle-Reset: 1")
    for writer, sequence in ((first, "1"), (second, "2")):
        await writer.piece(b"y")
        await writer.end()
        assert (await writer.answer()).headers["lp-trickle-seq"] == sequence
    assert await latest(site) in (2, 3)


async def test_garbage_on_the_port(site: Site) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET\r\n\r\n",
        b"\0" * 9000,
        b"\r\n" * 50,
    ):
        connection = await site.connect()
        await connection.send(garbage)
        connection.writer.write_eof()
        await asyncio.wait_for(connection.reader.read(), 5)
    assert await latest(site) == 0
