from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


class Up:
    """A supervised network of fake roles, in a process of its own."""

    def __init__(self, faults: dict[str, Any], errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.fake_network", "up", json.dumps(faults)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], 30)
        assert readable, self.said()
        line = self.process.stdout.readline()
        assert line, self.said()
        value: dict[str, Any] = json.loads(line)
        return value

    def said(self) -> str:
        return self._errors.read_text()

    def role(self, name: str) -> int | None:
        """The pid of the process that runs a role now."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if name in child.cmdline():
                    return child.pid
            except psutil.Error:
                continue
        return None

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(**faults: Any) -> Up:
        started.append(Up(faults, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


def eventually(check: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, check
        time.sleep(0.02)


def gone(*pids: int) -> bool:
    return not any(
        psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        for pid in pids
    )


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """That it ends by itself and is not waited out; a loaded machine gets as long again."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 2 * seconds


def test_each_role_learns_the_address_of_the_one_before(up: Callable[..., Up]) -> None:
    network = up()
    ready = network.ready()
    assert ready["orchestrator"]["runners"] == [ready["worker"]["url"]] * 3
    assert ready["gateway"]["orchestrators"] == [ready["orchestrator"]["url"]]
    assert network.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_all_within_three_seconds(up: Callable[..., Up], number: int) -> None:
    network = up()
    pids = [role["pid"] for role in network.ready().values()]
    with bounded(3):
        assert network.end(number) == 0
        eventually(lambda: gone(*pids))


def test_a_gateway_has_a_second_for_its_goodbyes(up: Callable[..., Up]) -> None:
    network = up(gateway={"busy": 1.0})
    network.ready()
    with bounded(3):
        assert network.end() == 0
    assert "gateway has said goodbye" in network.said()


def test_a_deaf_role_and_what_it_started_are_ended_too(up: Callable[..., Up]) -> None:
    network = up(worker={"deaf": True, "brood": True}, gateway={"deaf": True})
    ready = network.ready()
    pids = [role["pid"] for role in ready.values()]
    with bounded(3):
        assert network.end() == 0
        eventually(lambda: gone(*pids, ready["worker"]["brood"]))


def test_a_second_signal_ends_all_at_once(up: Callable[..., Up]) -> None:
    network = up(gateway={"deaf": True}, worker={"deaf": True})
    pids = [role["pid"] for role in network.ready().values()]
    network.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    with bounded(1):
        assert network.end() == 1
        eventually(lambda: gone(*pids))


def test_no_role_outlives_a_killed_parent(up: Callable[..., Up]) -> None:
    network = up(gateway={"deaf": True})
    pids = [role["pid"] for role in network.ready().values()]
    network.process.kill()
    eventually(lambda: gone(*pids))


def test_a_role_that_refuses_to_start_is_named_with_its_reason(up: Callable[..., Up]) -> None:
    network = up(orchestrator={"fail": "port 8935 is taken"})
    assert network.process.wait(30) == 1
    assert "error: orchestrator could not start: port 8935 is taken" in network.said()


def test_a_role_that_crashes_at_start_is_named_with_its_last_lines(up: Callable[..., Up]) -> None:
    network = up(worker={"crash": True})
    assert network.process.wait(30) == 1
    said = network.said()
    assert "error: worker could not start: it ended with exit code 1" in said
    assert "nobody thought of this" in said.split("error:")[1]


@pytest.mark.parametrize("name", ["worker", "orchestrator", "gateway"])
def test_a_role_that_dies_is_named_and_started_again(up: Callable[..., Up], name: str) -> None:
    network = up()
    ready = network.ready()
    old = ready[name]["pid"]
    settled = network.said().count(f"{name} has its settings")
    os.kill(old, signal.SIGKILL)
    eventually(lambda: network.said().count(f"{name} has its settings") > settled)
    eventually(lambda: f"{name} is back" in network.said())
    lines = [line for line in network.said().splitlines() if "relay.cli.supervisor: " in line]
    said = [line.partition("relay.cli.supervisor: ")[2] for line in lines]
    new = network.role(name)
    assert new not in (None, old)
    assert said == [
        f"{name} was ended by SIGKILL; starting it again",
        f"{name} is back (pid {new}, {ready[name]['url']})",
    ]
    assert all(line.startswith("up           | ") for line in lines)
    assert network.end() == 0
    for other in ready:
        assert gone(ready[other]["pid"])


def test_a_role_that_was_asked_to_end_is_no_fault(up: Callable[..., Up]) -> None:
    network = up()
    os.kill(network.ready()["gateway"]["pid"], signal.SIGTERM)
    eventually(lambda: "gateway is back" in network.said())
    assert network.end() == 0
    [told] = [line for line in network.said().splitlines() if "starting it again" in line]
    assert " INFO " in told
    assert told.endswith("gateway ended as it was asked to; starting it again")
    assert " ERROR " not in network.said()


def test_a_role_that_ends_well_without_being_asked_is_a_fault(up: Callable[..., Up]) -> None:
    network = up(gateway={"quit": True})
    eventually(lambda: "starting it again" in network.said())
    told = next(line for line in network.said().splitlines() if "starting it again" in line)
    assert " ERROR " in told
    assert told.endswith("gateway ended with exit code 0; starting it again")


def test_what_a_dead_role_left_behind_is_ended(up: Callable[..., Up]) -> None:
    network = up(worker={"brood": True})
    ready = network.ready()
    os.kill(ready["worker"]["pid"], signal.SIGKILL)
    eventually(lambda: gone(ready["worker"]["brood"]))
    assert network.end() == 0


def test_the_lines_of_roles_are_passed_on(up: Callable[..., Up]) -> None:
    network = up()
    network.ready()
    eventually(lambda: "gateway      | gateway has its settings" in network.said())
    assert network.end() == 0
