"""``relay conformance``: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relay.cli.app import app
from relay.conformance import own
from tests.conformance.test_wrong import blunt, served
from tests.network import ROOT, ran
from tests.protocols.trickle.test_tls import certificate, serving
from tests.protocols.trickle.wire import serve

SOME = ("--only", "post-latest", "--only", "gone-ahead", "--only", "no-channel-post")


async def conformance(*words: str) -> tuple[int, list[str], str]:
    """Exit code, lines of stdout, stderr; in a process of its own, as the server is in this."""
    code, out, errors = await ran("conformance", *words, within=30)
    return code, out.splitlines(), errors


async def test_a_table_and_0() -> None:
    async with serve(autocreate=True) as site:
        code, lines, _ = await conformance("trickle", site.base, *SOME)
    assert code == 0
    assert len(lines) == 4
    assert lines[-1] == "2 passed, 0 failed, 1 not offered"
    assert lines[0].startswith("  1/3  ")


async def test_json_lines_and_1() -> None:
    async with served(blunt(500)) as url:
        code, lines, _ = await conformance("trickle", f"{url}/t/", *SOME, "--json")
    told = [json.loads(line) for line in lines]
    assert code == 1
    assert told[-1] == {"passed": 0, "failed": 3, "not_offered": 0}
    gone = next(case for case in told[:-1] if case["name"] == "gone-ahead")
    assert gone["outcome"] == "failed"
    assert (gone["seen"], gone["expected"]) == ("POST 500", "POST 200")
    assert gone["section"] == "3.4"


@pytest.mark.parametrize("kind", ["trickle", "whip", "whep"])
def test_nothing_there_is_2(kind: str) -> None:
    result = CliRunner().invoke(app, ["conformance", kind, "http://127.0.0.1:1/x"])
    assert result.exit_code == 2
    assert "does not answer" in result.stderr
    result = CliRunner().invoke(app, ["conformance", kind, "https://127.0.0.1:1/x", "--insecure"])
    assert "does not answer" in result.stderr
    assert "SSLContext" not in result.stderr


@pytest.mark.parametrize("kind", ["trickle", "whip", "whep"])
def test_abuse_is_refused_off_this_machine(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "is_own", lambda host: host != "192.0.2.1")
    result = CliRunner().invoke(app, ["conformance", kind, "http://192.0.2.1/x", "--abuse"])
    assert result.exit_code == 2
    assert "--i-own-this" in result.stderr


def test_abuse_with_the_word_goes_on() -> None:
    words = ["conformance", "whip", "http://127.0.0.1:1/x", "--abuse", "--i-own-this"]
    result = CliRunner().invoke(app, words)
    assert "does not answer" in result.stderr


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("trickle", "get-latst", "did you mean get-latest"),
        ("whip", "restart", "did you mean"),
        ("whip", "xyzzy", "there are: post, etag"),
        ("trickle", "idle-sweep", "with --slow only"),
        ("whep", "huge-offer", "with --abuse only"),
    ],
)
def test_a_case_that_is_not_run_is_2_with_the_likely_ones(kind: str, name: str, said: str) -> None:
    wrong = f"{name}s" if name == "restart" else name
    words = ["conformance", kind, "http://127.0.0.1:1/x", "--only", wrong]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "does not answer" not in result.stderr


@pytest.mark.parametrize("kind", ["trickle", "whip", "whep"])
def test_an_address_or_self_is_needed(kind: str) -> None:
    for words, told in (
        ([], "give the address of a server, or --self"),
        (["http://127.0.0.1:1/x", "--self"], "leave out http://127.0.0.1:1/x, or --self"),
    ):
        result = CliRunner().invoke(app, ["conformance", kind, *words])
        assert result.exit_code == 2
        assert told in result.stderr


@pytest.mark.parametrize(
    ("kind", "names"),
    [("trickle", ("post-latest", "many-channels")), ("whip", ("token-needed", "publish"))],
)
async def test_a_server_of_ours_is_started_for_the_test(kind: str, names: tuple[str, str]) -> None:
    only = [word for name in names for word in ("--only", name)]
    code, lines, err = await conformance(kind, "--self", "--abuse", *only)
    assert (code, err) == (0, "")
    assert lines[-1] == "2 passed, 0 failed, 0 not offered"


async def test_a_viewers_side_of_ours_is_started_too() -> None:
    code, lines, _ = await conformance("whep", "--self", "--only", "setup-is-obeyed")
    assert (code, lines[-1]) == (0, "1 passed, 0 failed, 0 not offered")


async def test_a_case_that_takes_its_time_is_named_on_a_terminal_until_it_ends() -> None:
    ours, its = pty.openpty()
    words = ("whep", "--self", "--only", "close-notify")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "conformance", *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=its,
    )
    os.close(its)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert "\r\x1b[K  1/1  close-notify ..." in said
    assert said.endswith("\r\x1b[K")
    assert out.decode().splitlines()[-1] == "1 passed, 0 failed, 0 not offered"


@pytest.mark.parametrize("kind", ["trickle", "whip", "whep"])
async def test_a_certificate_that_is_not_trusted_names_the_option(
    kind: str, tmp_path: Path
) -> None:
    async with serve(autocreate=True, ssl=serving(certificate(tmp_path))) as site:
        code, _, err = await conformance(kind, site.base)
        assert code == 2
        assert "not trusted" in err
        assert "--insecure" in err
        code, _, err = await conformance(kind, site.base, "--insecure", "--only", "post-latest")
        assert "not trusted" not in err


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("192.0.2.1", False),
        ("224.0.0.1", False),
        ("2001:db8::1", False),
        ("", False),
    ],
)
def test_which_addresses_are_this_machine(host: str, ours: bool) -> None:
    assert own.is_own(host) is ours


def test_a_name_that_also_leads_elsewhere_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in ("127.0.0.1", "192.0.2.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert not own.is_own("both.example")
