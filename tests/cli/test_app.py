from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest
import yaml


def relay(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relay", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", **environment},
    )


COMMANDS = ("up", "gateway", "orchestrator", "worker")
SHOWN = (*COMMANDS, "publish", "watch", "demo", "health", "streams")


def test_help_is_short_and_grouped() -> None:
    said = relay("--help").stdout
    assert all(f" {command} " in said for command in SHOWN)
    assert len(said.splitlines()) < 32


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_short_and_grouped(command: str) -> None:
    said = relay(command, "--help").stdout
    assert "Address" in said
    assert "Settings" in said
    assert "supervised" not in said
    assert len(said.splitlines()) < 36


def test_help_needs_no_role_and_no_media_library() -> None:
    code = (
        "import sys\nfrom relay.cli.app import main\nsys.argv = ['relay', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'av', 'aiortc', 'cv2', 'aiohttp', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_ending_command_does_not_look_for_what_could_be_freed() -> None:
    """With all that publishing imports that takes longer than all else at its end."""
    code = (
        "import sys\nfrom relay.cli.app import main\nsys.argv = ['relay', *sys.argv[1:]]\n"
        "class Kept:\n"
        "    def __init__(self):\n        self.itself = self\n"
        "    def __del__(self, tell=print):\n        tell('found')\n"
        "kept = Kept()\nmain()"
    )
    for words, exit_code in ((("--version",), 0), (("health", "http://127.0.0.1:9"), 1)):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == exit_code, done.stderr
        assert "found" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_settings_in_force_are_printed(command: str) -> None:
    done = relay(command, "--print-config", "--port", "0", RELAY_WORKER__TOKEN="hidden")
    assert done.returncode == 0, done.stderr
    assert "hidden" not in done.stdout
    tree = yaml.safe_load(done.stdout)
    section = "gateway" if command == "up" else command
    assert tree[section]["port"] == 0


def test_one_host_is_for_pages_and_media_alike() -> None:
    tree = yaml.safe_load(relay("up", "--print-config", "--host", "127.0.0.2").stdout)
    assert tree["gateway"]["host"] == tree["gateway"]["webrtc"]["host"] == "127.0.0.2"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("up", "--set", "gateway.prot=1"), "gateway.prot"),
        (("worker", "--config", "/nowhere.yaml"), "/nowhere.yaml"),
        (("up", "--host", "0.0.0.0"), "--open"),
        (("gateway", "--host", "0.0.0.0"), "--open"),
        (("gateway", "--supervised", "77"), "77"),
        (("up", "--what"), "--what"),
        (("nothing",), "nothing"),
        (("publish", "a.mp4"), "--to"),
        (("watch", "http://x/whep/a", "-n", "0"), "--viewers"),
        (("watch", "x/whep/a"), "http://x/whep/a"),
        (("publish", "a.mp4", "--to", "http://x", "--params", "[1]"), "--params"),
    ],
)
def test_a_wrong_word_ends_with_two_and_names_it(words: tuple[str, ...], named: str) -> None:
    done = relay(*words)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "exit_code", "code", "named"),
    [
        (("up", "--set", "gateway.prot=1"), 2, "config", "gateway.prot"),
        (("gateway", "--host", "0.0.0.0"), 2, "open_door", "--open"),
        (("orchestrator", "--what"), 2, "usage", "--what"),
        (("worker", "--config", "/nowhere.yaml"), 2, "config", "/nowhere.yaml"),
        (("publish", "/nowhere.mp4", "--to", "http://a/whip/b"), 1, "bad_input", "/nowhere.mp4"),
        (("publish", "a.mp4"), 2, "usage", "--to"),
        (("watch", "http://127.0.0.1:9/whep/a"), 1, "peer_failed", "connection refused"),
        (("demo", "--params", "[1]"), 2, "usage", "--params takes a JSON object"),
        (("demo", "--out", "/proc/nowhere"), 1, "system", "/proc/nowhere"),
        (("streams", "--gateway", "http://127.0.0.1:9"), 1, "peer_timeout", "connection refused"),
        (("health", "127.0.0.1:9"), 2, "config", "http://127.0.0.1:9"),
        (("conformance", "trickle"), 2, "usage", "--self"),
        (("conformance", "whep", "http://127.0.0.1:9/whep/a"), 2, "unusable", "127.0.0.1:9"),
    ],
)
def test_a_program_hears_of_a_failure_in_one_json_line(
    words: tuple[str, ...], exit_code: int, code: str, named: str
) -> None:
    done = relay(*words, "--json")
    assert done.returncode == exit_code
    told = json.loads(done.stdout)
    assert told["code"] == code
    assert named in told["error"]
    plain = relay(*words)
    assert (plain.returncode, plain.stdout) == (exit_code, "")
    assert plain.stderr == done.stderr != ""


def test_an_unknown_variable_of_ours_ends_with_two() -> None:
    done = relay("worker", RELAY_WORKER__SLOT="1")
    assert done.returncode == 2
    assert "RELAY_WORKER__SLOT" in done.stderr


def test_the_version_is_told() -> None:
    done = relay("--version")
    assert done.returncode == 0
    assert done.stdout == f"relay {metadata.version('relay-gateway')}\n"


def test_up_says_whose_port_it_takes() -> None:
    assert "gateway's HTTP port" in relay("up", "--help").stdout
