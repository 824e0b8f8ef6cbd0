"""With tokens asked for, our own parts work as ever, and whoever has none is turned away."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp

from relay.errors import PeerRefused
from relay.rpc.client import get_orchestrator
from relay.rpc.live_job import LiveJobAnswer, LiveJobRequest, start_live_job
from relay.rpc.orchestrator_request import OrchestratorRequest
from relay.rpc.trickle_token import token_header
from tests.live import publishing, reaches, watching
from tests.network import Network, eventually
from tests.scenarios.test_a_dead_worker_does_not_freeze_the_viewer import (
    is_negative,
    victim,
)
from tests.scenarios.test_the_end_of_a_stream_frees_everything import all_is_free

NAME = "cam"
TOKENS = {"orchestrator__trickle_tokens": True, "log__level": "debug"}


async def told(network: Network) -> dict[str, Any]:
    url = network.up.ready["orchestrator"]["url"]
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/relay/status", ssl=False) as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return body


async def test_a_stream_of_our_own_parts_goes_live_and_outlives_its_worker(tmp_path: Path) -> None:
    async with Network.running(tmp_path, worker__slots=2, **TOKENS) as network:
        async with (
            publishing(network.whip(NAME), model="effects"),
            watching(network.whep(NAME)) as viewer,
        ):
            await viewer.sees(20)
            await reaches(network.url, NAME, "live")
            body = {"effect": "negative"}
            async with (
                aiohttp.ClientSession() as http,
                http.patch(f"{network.url}/v1/streams/{NAME}", json=body) as answer,
            ):
                assert answer.status == 200
            await eventually(lambda: is_negative(list(viewer.pictures())[-1][1]), every=0.3)
            pid = await victim(network, "slot")
            hit = time.monotonic()
            next(slot for slot in network.slots() if slot.pid == pid).send_signal(signal.SIGKILL)
            await viewer.sees(15, after=hit + 1.1)
            await reaches(network.url, NAME, "live")
        await eventually(lambda: _none_left(network))
        assert "no_token" not in (await told(network))["ended"]
        said = network.up.said()
    assert "trickle" in said
    # Names are cut short in the log, and a token is 43 characters.
    assert not re.search(r"(?i)bearer|(?<![\w-])[\w-]{43}(?![\w-])", said)


async def _none_left(network: Network) -> bool:
    return not (await told(network))["jobs"]


async def start(network: Network, http: aiohttp.ClientSession) -> LiveJobAnswer:
    """Get a job as a stock gateway does."""
    url = network.up.ready["orchestrator"]["url"]
    info = await get_orchestrator(url, OrchestratorRequest.for_live("passthrough"), timeout=5)
    assert info.auth_token is not None
    request = LiveJobRequest("passthrough")
    return await start_live_job(http, info.transcoder, request, auth_token=info.auth_token)


async def test_a_stock_gateway_is_turned_away_and_its_job_says_why(tmp_path: Path) -> None:
    async with Network.running(tmp_path, **TOKENS) as network, aiohttp.ClientSession() as http:
        job = await start(network, http)
        for url in job.urls:
            for method, path in (("POST", "/0"), ("GET", "/-1"), ("GET", "/next"), ("DELETE", "")):
                data = b"x" if method == "POST" else None
                async with http.request(method, url + path, data=data, ssl=False) as answer:
                    assert answer.status == 401
                    assert answer.headers["WWW-Authenticate"] == "Bearer"

        async def ended() -> bool:
            return bool((await told(network))["ended"] == {"no_token": 1})

        await eventually(ended)
        assert "no trickle token came from the gateway: trickle_tokens asks" in network.up.said()
        await all_is_free(network)


async def test_one_jobs_token_opens_no_channel_of_another(tmp_path: Path) -> None:
    async with (
        Network.running(tmp_path, worker__slots=2, **TOKENS) as network,
        aiohttp.ClientSession() as http,
    ):

        async def another() -> LiveJobAnswer | None:
            with contextlib.suppress(PeerRefused):  # the second slot may be warming up
                return await start(network, http)
            return None

        first, second = await eventually(another), await eventually(another)
        for job, other, reads, writes in ((first, second, 403, 403), (first, first, 200, 200)):
            headers = token_header(job.trickle_token)
            url = f"{other.subscribe_url}/next"
            async with http.get(url, headers=headers, ssl=False) as answer:
                assert answer.status == reads
            url = f"{other.control_url}/0"
            async with http.post(url, data=b"{}", headers=headers, ssl=False) as answer:
                assert answer.status == writes
