"""What every test stands on: the event loop of production, and properties without a clock."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from tests.network import Network, eventually

# A slow machine is no broken parser, and CI must find what a desk found.
settings.register_profile(
    "relay",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("relay")


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage: what counts or collects objects leaves them aside."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def network_of_the_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    """With the settings that the file has as ``NETWORK``."""
    settings = getattr(request.module, "NETWORK", {})
    with Network.shared(tmp_path_factory.mktemp("network"), **settings) as shared:
        yield shared


@pytest.fixture
async def network(network_of_the_file: Network) -> AsyncIterator[Network]:
    """A network that tests of a file use in turn, each with names of its own for its streams."""
    yield network_of_the_file
    assert await eventually(network_of_the_file.idle)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A RELAY_* variable of the person who runs the tests is not part of them."""
    for name in list(os.environ):
        if name.startswith("RELAY_"):
            monkeypatch.delenv(name)
