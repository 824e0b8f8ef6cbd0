from __future__ import annotations

from pathlib import Path

import pytest

from relay.rpc.hardware import Gpu
from relay.worker import hardware

LINES = """\
0, GPU-1a2b, NVIDIA H100 80GB HBM3, 9.0, 80995, 81559
broken line
1, GPU-3c4d, NVIDIA L4, 8.9, [N/A], 23034
2, GPU-5e6f, NVIDIA L4, 8.9, 22000, 23034
"""


def test_cards_are_read_and_lines_that_make_no_sense_left_out() -> None:
    cards = hardware.parse_gpus(LINES)
    assert list(cards) == ["0", "2"]
    assert cards["0"] == Gpu("GPU-1a2b", "NVIDIA H100 80GB HBM3", 9, 0, 80995 << 20, 81559 << 20)


async def test_without_the_tool_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert await hardware.find_gpus() == {}


async def test_the_tool_is_asked_and_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / hardware.TOOL
    tool.write_text(f"#!/bin/sh\ncat <<END\n{LINES}END\n")
    tool.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(tool))
    assert set(await hardware.find_gpus()) == {"0", "2"}
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(hardware, "WITHIN", 0.1)
    assert await hardware.find_gpus() == {}
