"""A change shows at the viewer; a bad one is refused with the schema's reason."""

from __future__ import annotations

import time
from typing import Any

import aiohttp

from tests.live import publishing, reaches, status, watching
from tests.network import Network, eventually
from tests.scenarios.test_a_dead_worker_does_not_freeze_the_viewer import is_negative

NAME, OTHER = "cam", "other"
NETWORK = {"worker__slots": 2}


async def change(network: Network, body: Any) -> tuple[int, dict[str, Any]]:
    url = f"{network.url}/v1/streams/{NAME}"
    async with aiohttp.ClientSession() as http, http.patch(url, json=body) as answer:
        return answer.status, await answer.json()


async def test_a_change_shows_and_a_bad_one_changes_nothing(network: Network) -> None:
    async with (
        publishing(network.whip(NAME), model="effects"),
        watching(network.whep(NAME)) as viewer,
    ):
        await viewer.sees(20)
        await reaches(network.url, NAME, "live")
        assert (await change(network, {"effect": "negative"}))[0] == 200
        changed = time.monotonic()
        await viewer.sees(20, after=changed)
        pictures = list(viewer.pictures())
        assert not is_negative(pictures[5][1])
        turned = next(arrived for arrived, image in pictures if is_negative(image))
        assert turned - changed < 2
        code, problem = await change(network, {"effect": "fire"})
        assert code == 422
        assert problem["code"] == "bad_params"
        assert problem["detail"].startswith("effect: 'fire' is not one of ['none',")
        refused = time.monotonic()
        await viewer.sees(10, after=refused)
        assert all(is_negative(image) for _, image in viewer.pictures(since=refused))
        assert (await status(network.url, NAME))["params"] == {"effect": "negative"}


async def test_the_model_of_a_live_stream_changes(network: Network) -> None:
    async with (
        publishing(network.whip(OTHER), model="passthrough"),
        watching(network.whep(OTHER)) as viewer,
    ):
        await viewer.sees(20)
        url = f"{network.url}/v1/streams/{OTHER}/model"
        body = {"model": "effects", "params": {"effect": "negative"}}
        async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
            assert answer.status == 200, await answer.text()

        async def moved() -> bool:
            now = await status(network.url, OTHER)
            return bool(now["state"] == "live" and now["serving"]["model"] == "effects")

        await eventually(moved)
        since = time.monotonic()
        await viewer.sees(10, after=since)
        assert all(is_negative(image) for _, image in viewer.pictures(since=since))
        body = {"model": "no-such-model"}
        async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
            assert answer.status == 422
            assert (await answer.json())["code"] == "unknown_model"
