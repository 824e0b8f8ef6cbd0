"""What the documents say must be so: words, links, sample files, containers."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from relay.cli.options import load
from relay.cli.printed import settings_yaml
from relay.config import Settings
from tests.house.sources import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()
WORDS = frozenset(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
BIN = ".venv/bin/"
ROLES = ("up", "gateway", "orchestrator", "worker")
COMMANDS = frozenset({*ROLES, "publish", "demo", "health", "conformance", "streams", "watch"})


def test_the_documents_are_there() -> None:
    names = {path.name for path in DOCUMENTS}
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= names
    assert "MIT License" in (ROOT / "LICENSE").read_text()


def test_make_help_lists_every_word() -> None:
    said = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert set(re.findall(r"make ([a-z]+)", said)) == WORDS
    expected = {"run", "test", "demo", "bench", "help", "lint", "types", "fmt", "clean"}
    assert expected | {"fuzz", "sanitize", "tools"} == WORDS
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == WORDS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_words_and_commands_in_the_documents_exist(document: Path) -> None:
    text = document.read_text()
    code = "\n".join(re.findall(r"`+([^`]+)`+", text))
    assert set(re.findall(r"\bmake ([a-z]+)\b", code)) <= WORDS
    used = set(re.findall(r"^(?:\S+/)?relay ([a-z]+)\b", code, re.MULTILINE))
    assert used <= COMMANDS


def _role_commands() -> list[str]:
    """The README's commands that run a role, each on one line."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = [word.removeprefix(BIN) for word in shlex.split(line, comments=True)]
            if "relay" in words and words[words.index("relay") + 1] in ROLES:
                found.append(line)
    return found


@pytest.mark.parametrize("line", _role_commands(), ids=lambda line: line.split("#")[0][:40])
def test_the_role_commands_of_the_readme_are_taken(line: str, tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text("gateway: {port: 9000}\n")
    words = [word.removeprefix(BIN) for word in shlex.split(line, comments=True)]
    start = words.index("relay")
    environment = dict(word.split("=", 1) for word in words[:start])
    done = subprocess.run(
        [sys.executable, "-m", "relay", *words[start + 1 :], "--print-config"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
    if "9000" in line or "--config" in line:
        assert yaml.safe_load(done.stdout)["gateway"]["port"] == 9000


def test_three_machines_are_three_commands() -> None:
    assert len(_role_commands()) >= 7


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_the_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    targets += re.findall(r'(?:src|href)="([^"#]+)"', text)
    for target in targets:
        if not re.match(r"[a-z]+:", target):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_the_documents_exist(document: Path) -> None:
    pattern = r"`((?:relay|pipelines|tests|bench|docs)/[\w./*-]+)`"
    for name in re.findall(pattern, document.read_text()):
        if not name.startswith("docs/my"):
            assert list(ROOT.glob(name.rstrip("/"))), f"{document.name}: {name}"


def test_the_sample_configuration_is_every_key_with_its_default() -> None:
    """`make fmt` writes it anew."""
    sample = ROOT / "docs" / "relay.yaml"
    assert sample.read_text() == settings_yaml(Settings())
    assert load(sample, []).model_dump() == Settings().model_dump()


def _compose() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return tree


def test_compose_keeps_to_its_specification() -> None:
    file = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(file.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(_compose())] == []


def _interpolated(text: str) -> str:
    """Compose's ${NAME:-default} and ${NAME:?words}, with nothing set but the key."""
    return re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}",
        lambda found: found[3] if found[2] == "-" else f"set-{found[1]}",
        text,
    )


@pytest.mark.parametrize("name", sorted(_compose()["services"]))
def test_each_service_is_a_command_that_the_program_takes(name: str) -> None:
    service = _compose()["services"][name]
    environment = {k: _interpolated(v) for k, v in service.get("environment", {}).items()}
    done = subprocess.run(
        [sys.executable, "-m", "relay", *service["command"], "--print-config"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)[name]["host"] == "0.0.0.0"
    check = service["healthcheck"]["test"]
    assert check[:3] == ["CMD", "relay", "health"]
    assert f":{yaml.safe_load(done.stdout)[name]['port']}/" in check[3]


def test_the_services_of_compose_find_each_other() -> None:
    services = _compose()["services"]
    orchestrators = services["gateway"]["environment"]["RELAY_GATEWAY__ORCHESTRATORS"]
    assert json.loads(orchestrators) == ["https://orchestrator:8935"]
    sells = " ".join(services["orchestrator"]["command"])
    assert "service_url=https://orchestrator:8935" in sells
    assert "http://worker:8900" in sells
    offered = set(re.findall(r"model_id: (\w+)", sells))
    assert offered == {pipeline.model_id for pipeline in Settings().worker.pipelines}


def test_the_image_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    final = text.rsplit("\nFROM ", 1)[1]
    user = re.search(r"^USER (\S+)$", final, re.MULTILINE)
    assert user is not None
    assert user[1] not in ("root", "0")
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for part in copied.split():
            assert (ROOT / part).exists(), part
            assert f"!{part}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_ci_runs_all_checks() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert "make test" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
