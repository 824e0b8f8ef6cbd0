"""A native part that is older than its sources is named."""

from __future__ import annotations

import os
import shutil
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from relay.media import native_library

HERE = Path(native_library.__file__).parent
LIBRARY = HERE / f"_native{EXTENSION_SUFFIXES[0]}"


@pytest.mark.skipif(not LIBRARY.exists(), reason="not built")
@pytest.mark.parametrize("seconds", [-10, 10])
def test_a_library_older_than_its_sources_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: int
) -> None:
    shutil.copy(LIBRARY, tmp_path)
    shutil.copytree(HERE / "native", tmp_path / "native")
    built = (tmp_path / LIBRARY.name).stat().st_mtime
    for source in (tmp_path / "native").iterdir():
        os.utime(source, (built - 10, built - 10))
    os.utime(tmp_path / "native" / "transport.c", (built + seconds, built + seconds))
    for _ in range(2):
        found = native_library.opened(tmp_path, "transport.h", "ts_reader")
        assert not isinstance(found, str), "it is used all the same"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (seconds > 0), "once"
    assert all("older than its source transport.c: install again" in text for text in told)
