"""Run the native code's tests with it built for the address and the undefined behaviour
sanitizers. The build lives in a temporary folder; the package keeps its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = {"media": "native_transport", "protocols/webrtc": "native_library"}
"""Where native code is, and the module of the room that opens it."""
TESTS = [
    "tests/media/test_native_transport.py",
    "tests/media/test_mpegts.py",
    "tests/protocols/webrtc/processes/test_inlet.py",
] + [
    f"tests/protocols/webrtc/test_{name}.py"
    for name in (
        "native_fanout",
        "native_again",
        "our_addresses",
        "native_payload",
        "fanout",
        "sendlog",
        "egress",
        "native_receive",
        "native_arrivals",
        "receiver_reports",
        "ingest",
        "native_stun",
        "native_viewer",
        "native_asking",
        "native_feedback",
    )
]
FLAGS = ["-O1", "-g", "-std=gnu11", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
SANITIZERS = "-fsanitize=address,undefined"
PLUGIN = """
from pathlib import Path

from relay.{package} import {module} as {name}

{name}.HERE = Path(__file__).parent / "{room}"
"""


def build(compiler: str, folder: Path) -> None:
    """Each library with its headers, and the plug-in that has it looked for there."""
    plugins = []
    for room, module in ROOMS.items():
        native = folder / room / "native"
        shutil.copytree(ROOT / "relay" / room / "native", native)
        sources = sorted(native.glob("*.c"))
        modules = [path for path in sources if path.name == "reader.c"]
        built = {"_native": [path for path in sources if path not in modules]}
        built |= {f"_{path.stem}": [path] for path in modules}
        for name, parts in built.items():
            library = folder / room / f"{name}{EXTENSION_SUFFIXES[0]}"
            command = [compiler, *FLAGS, SANITIZERS, "-shared", "-fPIC", "-o", str(library)]
            include = f"-I{sysconfig.get_paths()['include']}"
            subprocess.run([*command, include, *map(str, parts)], check=True)
        package, name = room.replace("/", "."), room.replace("/", "_")
        plugins.append(PLUGIN.format(package=package, module=module, name=name, room=room))
    (folder / "sanitized.py").write_text("".join(plugins))


def main(arguments: list[str]) -> int:
    compiler = shutil.which("gcc")
    if compiler is None:
        print("the sanitizers are gcc's, and it is missing: sudo apt-get install -y gcc")
        return 2
    found = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        build(compiler, Path(name))
        environment = {
            **os.environ,
            "LD_PRELOAD": found,
            "PYTHONPATH": f"{name}{os.pathsep}{ROOT}",
            # Python keeps memory to its end.
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "sanitized", "-p", "no:cacheprovider"]
        return subprocess.run(
            [*pytest, *(arguments or TESTS)], cwd=ROOT, env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
