from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.cli.options import load, refuse_open_door, refuse_unknown_environment
from relay.errors import ConfigError

IN_ITSELF = "is an alias of what it stands in, without an end"


def test_a_flag_beats_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text("gateway: {port: 1, max_streams: 7}\nworker: {slots: 3}\n")
    monkeypatch.setenv("RELAY_GATEWAY__PORT", "2")
    monkeypatch.setenv("RELAY_WORKER__SLOTS", "4")
    settings = load(file, ["gateway.port=3"], {"gateway.host": "::1", "gateway.open": None})
    assert settings.gateway.port == 3
    assert settings.worker.slots == 4
    assert settings.gateway.max_streams == 7
    assert settings.gateway.host == "::1"
    assert settings.gateway.open is False


def test_an_orchestrator_may_be_named_without_a_scheme() -> None:
    settings = load(None, ["gateway.orchestrators=['node.example:8935', '[::1]:8935']"])
    assert settings.gateway.orchestrators == ["node.example:8935", "[::1]:8935"]


def test_set_takes_yaml_lists() -> None:
    settings = load(None, ["gateway.orchestrators=[https://a:1, https://b:2]"])
    assert settings.gateway.orchestrators == ["https://a:1", "https://b:2"]


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("gateway.prot=1", "gateway.prot"),
        ("gatway.port=1", "gatway"),
        ("gateway.port=many", "gateway.port"),
        ("gateway.port", "gateway.port"),
        ("=1", "=1"),
        ("gateway.port={", "gateway.port"),
        ("gateway.port=" + "[" * 2000, "gateway.port: the value is not YAML"),
        ("gateway.port.x=1", "gateway.port"),
    ],
)
def test_a_wrong_key_is_refused_by_name(assignment: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        load(None, [assignment])


@pytest.mark.parametrize("word", ["gateway.publish_key:s3cr3t", "gateway.token s3cr3t"])
def test_a_secret_without_an_equals_sign_is_not_told(word: str) -> None:
    with pytest.raises(ConfigError, match=r"--set takes section\.key=value") as caught:
        load(None, [word])
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway.max_price=cheap", "'cheap' is not wei a pixel such as 1200, 0.5 or 3/7"),
        ("gateway.auth_webhook=x", "'x' is not an http:// or https:// address"),
        ("gateway.orchestrators=https://x", "is no list; write [https://x]"),
        ("gateway.orchestrators=[not a url]", "'not a url' is not a node's address such as"),
        ("gateway.orchestrators=[ftp://a]", "gateway.orchestrators.0: 'ftp://a' is not a node's"),
        ("gateway.orchestrators=['https://a:99999']", "'https://a:99999' is not a node's"),
        ("gateway.orchestrators=['https://me:pw@a']", "'https://...@a' is not a node's"),
        ("gateway.node_ca=/x.pem", "gateway.node_ca: is asked with node_tls: ca only"),
        (
            "gateway.remote_signer=https://me:secret@x",
            "'https://...@x' is not an http:// or https:// address without a user in it",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_is_asked(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(None, [text])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway.prot=1", "gateway.prot (did you mean gateway.port?)"),
        ("gatway.port=1", "gatway (did you mean gateway?)"),
        ("webrtc.native=no", "webrtc (did you mean gateway.webrtc?)"),
        (
            "gateway.egress_processes=2",
            "gateway.egress_processes (did you mean gateway.webrtc.egress_processes?)",
        ),
        ("gateway.verify_orchestrator_tls=true", "(now gateway.node_tls=ca)"),
        ("gateway.webrtc.hots=a", "gateway.webrtc.hots (did you mean gateway.webrtc.host?)"),
        (
            "worker.pipelines=[{model_id: a, entri: b}]",
            "worker.pipelines.0.entri (did you mean worker.pipelines.0.entry?)",
        ),
        (
            "orchestrator.models=[{model_id: a, ulr: 'http://h:1'}]",
            "orchestrator.models.0.ulr (did you mean orchestrator.models.0.url?)",
        ),
        (
            "orchestrator.models=[{model_id: a, url: 'http://h:1', capcity: 2}]",
            "orchestrator.models.0.capcity (did you mean orchestrator.models.0.capacity?)",
        ),
        ("gateway.qqqqqqqqqqqqqqqqqqqqqq=1", "gateway.qqqqqqqqqqqqqqqqqqqqqq (relay up"),
    ],
)
def test_an_unknown_key_is_told_with_its_likeliest_neighbour(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [text])
    assert str(caught.value).startswith("unknown keys: ")
    assert words in str(caught.value)
    assert "Extra inputs" not in str(caught.value)


@pytest.mark.parametrize("given", ["many", "-1", "2.5", "65", "''", "[1]", "²"])
def test_a_number_of_processes_that_is_none_is_one_sentence(given: str) -> None:
    with pytest.raises(ConfigError, match="is neither auto nor a number from 0 to 64") as caught:
        load(None, [f"gateway.webrtc.egress_processes={given}"])
    assert str(caught.value).count("egress_processes") == 1


@pytest.mark.parametrize(("given", "number"), [("0", 0), ("64", 64), ("auto", "auto")])
def test_a_number_of_processes(given: str, number: int | str) -> None:
    settings = load(None, [f"gateway.webrtc.egress_processes={given}"])
    assert settings.gateway.webrtc.egress_processes == number


def test_an_unknown_key_in_the_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text("gateway: {webrtc: {prot: 1}}\n")
    with pytest.raises(ConfigError, match=r"gateway\.webrtc\.prot"):
        load(file, [])
    entries = "{model_id: a, url: 'http://h:1'}, {model_id: b, url: 'http://h:1', wram: true}"
    file.write_text(f"orchestrator: {{models: [{entries}]}}\n")
    with pytest.raises(ConfigError, match=r"^unknown keys: orchestrator\.models\.1\.wram \(did"):
        load(file, [])


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml", [])


def test_a_file_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text("gateway: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load(file, [])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe\0", "cannot be read"),
        (b"a: \0", "not YAML"),
        (b"- 1", "sections"),
        (b"hello", "sections"),
        (b"gateway: 5", "gateway"),
        (b"1: 2", "1 is no section of settings"),
        (b"gateway: {port: !!int x}", "not YAML: invalid literal"),
        (b"log:\n  level: @a", "not YAML: line 2, column 10: while scanning .* character '@'"),
        (b"gateway: " + b"[" * 2000, "not YAML: maximum recursion depth"),
        (b"gateway: [", "not YAML: line 1, column 11: .*, expected the node content"),
    ],
)
def test_a_file_of_anything_else_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "relay.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=words) as caught:
        load(file, [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway:\n  port: 1\n  host: a\n  port: 2\n", "gateway.port .* in lines 2 and 4"),
        ("log: {}\nworker: {}\nlog: {}\n", "log stands there twice: in lines 1 and 3"),
        ("worker: {slots: 1, 'slots': 2}\n", "worker.slots stands there twice: in line 1"),
        (
            "worker:\n  pipelines:\n  - model_id: a\n    entry: b\n    entry: c\n",
            "worker.pipelines.0.entry .* in lines 4 and 5",
        ),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load(file, [])
    assert str(file) in str(caught.value)


def test_nor_does_a_key_stand_twice_in_a_value() -> None:
    with pytest.raises(ConfigError, match=r"--set worker\.pipelines\.0\.entry stands there twice"):
        load(None, ["worker.pipelines=[{model_id: a, entry: b, entry: c}]"])


def test_aliases_and_merges_are_no_second_time(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(
        "worker:\n  pipelines:\n  - &a {model_id: a, entry: b:C}\n"
        "  - {<<: *a, model_id: d, settings: {b: &b {c: 1}, d: *b}}\n"
        "  - {<<: *a, <<: *a, model_id: e}\n"
    )
    assert [each.model_id for each in load(file, []).worker.pipelines] == ["a", "d", "e"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("&a {x: *a}", f"its x {IN_ITSELF}"),
        ("{b: 1, c: &a [1, {d: *a}]}", f"its c.1.d {IN_ITSELF}"),
        ("&a {x: &b [*b]}", f"its x.0 {IN_ITSELF}"),
        ("{x: [!!binary gIA=]}", "its x.0 is no text, but bytes"),
        ("{x: " + "[" * 101 + "]" * 101 + "}", "its x goes deeper than 100 sections"),
    ],
)
def test_settings_that_no_line_can_carry_are_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    pipeline = f"{{model_id: a, entry: 'b:C', settings: {text}}}"
    file = tmp_path / "relay.yaml"
    file.write_text(f"worker:\n  pipelines:\n  - {pipeline}\n")
    for path, assignments in (file, ()), (None, [f"worker.pipelines=[{pipeline}]"]):
        with pytest.raises(ConfigError) as caught:
            load(path, assignments)
        assert str(caught.value) == f"worker.pipelines.0.settings: {words}"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_bytes(b"")
    assert load(file, []).model_dump() == load(None, []).model_dump()


def test_unknown_environment_variables_are_refused_by_name() -> None:
    refuse_unknown_environment({"RELAY_GATEWAY__WEBRTC__PORT": "1", "RELAY_LOG__LEVEL": "info"})
    with pytest.raises(ConfigError, match=r"RELAY_GATEWAY__PROT .*, RELAY_NOPE"):
        refuse_unknown_environment({"RELAY_NOPE": "", "RELAY_GATEWAY__PROT": "1", "HOME": "/"})
    with pytest.raises(ConfigError, match="did you mean RELAY_GATEWAY__PORT"):
        refuse_unknown_environment({"RELAY_GATEWAY__PROT": "1"})


def test_a_list_in_the_environment_that_is_no_json_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "RELAY_GATEWAY__WEBRTC__PUBLIC_ADDRESSES"
    monkeypatch.setenv(name, '["10.0.0.5=203.0.113.5"]')
    assert load(None, []).gateway.webrtc.public_addresses == ["10.0.0.5=203.0.113.5"]
    monkeypatch.setenv(name, "10.0.0.5=203.0.113.5")
    with pytest.raises(ConfigError, match=rf"^{name}: a list or a section is written in JSON"):
        load(None, [])


@pytest.mark.parametrize("key", ["gateway.host", "gateway.webrtc.host"])
def test_an_open_gateway_needs_a_key_or_the_word(key: str) -> None:
    with pytest.raises(ConfigError, match="publish_key") as caught:
        refuse_open_door(load(None, [f"{key}=0.0.0.0"]).gateway)
    assert caught.value.code == "open_door"
    refuse_open_door(load(None, [f"{key}=0.0.0.0", "gateway.publish_key=k"]).gateway)
    refuse_open_door(load(None, [f"{key}=0.0.0.0", "gateway.open=true"]).gateway)


def test_loopback_needs_neither() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        refuse_open_door(
            load(None, [f"gateway.host='{host}'", f"gateway.webrtc.host='{host}'"]).gateway
        )
