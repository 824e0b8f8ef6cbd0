"""Who may import whom: the table of the house, and one door for each heavy dependency."""

from __future__ import annotations

import pytest

from tests.house.sources import Source, imports, sources

# These any room of relay may import, but for the two that know nothing of ours.
FREE = frozenset(
    {
        *("relay.errors", "relay.states", "relay.metrics", "relay.config", "relay.memory"),
        "relay.wrong_values",
    }
)

ROOMS: dict[str, frozenset[str]] = {
    "relay.errors": frozenset(),
    "relay.memory": frozenset(),
    "relay.metrics": frozenset(),
    "relay.states": frozenset(),
    "relay.timeouts": frozenset(),
    "relay.wrong_values": frozenset(),
    "relay.wrong_settings": frozenset({"relay.wrong_values"}),
    "relay.settings_file": frozenset(),
    "relay.webrtc_settings": frozenset({"relay.wrong_settings"}),
    "relay.config": frozenset(
        {"relay.errors", "relay.settings_file", "relay.webrtc_settings", "relay.wrong_settings"}
    ),
    "relay.media": frozenset({"relay.media", "relay.errors", "relay.states"}),
    "relay.market": FREE | {"relay.market"},
    "relay.policy": FREE | {"relay.policy"},
    "relay.protocols.webrtc": FREE | {"relay.protocols.webrtc", "relay.media"},
    "relay.protocols.trickle": FREE | {"relay.protocols.trickle", "relay.media"},
    "relay.rpc": FREE | {"relay.rpc", "relay.media", "relay.market"},
    "relay.gateway": FREE
    | {
        "relay.gateway",
        "relay.media",
        "relay.protocols",
        "relay.market",
        "relay.rpc",
        "relay.policy",
    },
    "relay.orchestrator": FREE
    | {
        "relay.orchestrator",
        "relay.media",
        "relay.protocols",
        "relay.market",
        "relay.rpc",
        "relay.policy",
    },
    "relay.worker": FREE | {"relay.worker", "relay.media", "relay.protocols.trickle", "relay.rpc"},
    "relay.api": FREE
    | {"relay.api", "relay.gateway", "relay.orchestrator", "relay.market"}
    | {"relay.policy"},
    "relay.conformance": FREE | {"relay.conformance", "relay.media", "relay.protocols"},
    "relay.cli": frozenset({"relay", "pipelines"}),
    "relay.__main__": frozenset({"relay.cli"}),
    "pipelines": frozenset({"pipelines"}),
}

# dependency -> the files that may import it
DOORS: dict[str, frozenset[str]] = {
    "aiortc": frozenset(),
    "aioice": frozenset(),
    "pylibsrtp": frozenset({"relay/protocols/webrtc/srtp.py"}),
    # Pictures, sound, and files of both; a gateway never comes near them.
    "av": frozenset({"relay/worker/codec.py", "relay/worker/audio.py", "relay/worker/file.py"}),
    "h2": frozenset({"relay/rpc"}),
    "aiokafka": frozenset({"relay/rpc/event_topic.py"}),
    "google.protobuf": frozenset({"relay/rpc"}),
    "onnxruntime": frozenset({"pipelines/onnx.py", "pipelines/onnx"}),
    "typer": frozenset({"relay/cli"}),
    "pydantic_settings": frozenset({"relay/config.py"}),
}

# Whole frames and their pictures belong to workers, and to the tools that make clips.
PICTURES = frozenset({"pipelines", "relay/worker", "relay/cli"})


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def room_of(module: str) -> str:
    fitting = [room for room in ROOMS if within(module, room)]
    return max(fitting, key=len, default="")


def trespasses(source: Source) -> list[str]:
    room = room_of(source.module)
    if not room:
        return [] if source.module in ("relay", "relay.protocols") else [f"{source.path}: no room"]
    ours = [
        (node, name)
        for node, name in imports(source)
        if name.split(".")[0] in ("relay", "pipelines") and name not in ("relay", "relay.protocols")
    ]
    # `from a import b` is given as a and as a.b: the longer name is right when a room allows it.
    bad = [
        f"{source.at(node)}: {room} imports {name}"
        for node, name in ours
        if not any(within(name, allowed) for allowed in ROOMS[room])
    ]
    return sorted(set(bad))


def back_doors(source: Source) -> list[str]:
    bad = []
    for node, name in imports(source):
        for library, files in DOORS.items():
            if within(name, library) and not any(
                source.path == file or source.path.startswith(file + "/") for file in files
            ):
                bad.append(f"{source.at(node)}: {library} is imported")
        if name in ("cv2", "numpy") and not any(
            source.path.startswith(room + "/") for room in PICTURES
        ):
            bad.append(f"{source.at(node)}: {name} is imported")
    return sorted(set(bad))


def test_rooms_import_only_what_the_table_allows() -> None:
    assert [line for s in sources("relay", "pipelines") for line in trespasses(s)] == []


def test_each_heavy_dependency_has_one_door() -> None:
    assert [line for s in sources("relay", "pipelines") for line in back_doors(s)] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("relay/gateway/a.py", "from relay.orchestrator.node import OrchestratorNode"),
        ("relay/media/a.py", "import relay.config"),
        ("relay/protocols/webrtc/a.py", "from relay.protocols.trickle import server"),
        ("relay/worker/a.py", "from relay.protocols.webrtc.peers import Peers"),
        ("relay/worker/a.py", "import pipelines.effects"),
        ("pipelines/a.py", "from relay.errors import RelayError"),
        ("relay/api/a.py", "from relay.protocols.webrtc.peers import Peers"),
        ("relay/market/a.py", "def f():\n    from relay.gateway import node"),
        ("relay/strange/a.py", "x = 1"),
    ],
)
def test_the_table_catches(path: str, text: str) -> None:
    assert trespasses(Source.made(path, text))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("relay/protocols/webrtc/session.py", "from aiortc import RTCPeerConnection"),
        ("relay/gateway/a.py", "import av"),
        ("relay/api/a.py", "import numpy as np"),
        ("relay/worker/a.py", "import onnxruntime"),
    ],
)
def test_the_doors_catch(path: str, text: str) -> None:
    assert back_doors(Source.made(path, text))
