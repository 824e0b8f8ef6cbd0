from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.media import native_transport


@pytest.fixture(scope="module", params=["native", "python"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """MPEG-TS with the native part, and without."""
    if request.param == "native":
        assert native_transport.UnitReader.where_built() is not None
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_transport, "_library", lambda: None)
        yield
