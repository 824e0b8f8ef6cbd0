"""A model that its runner could not load: not offered, refused in the runner's words, and
nobody else's loss."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from relay.config import Runner
from relay.errors import PeerRefused
from relay.rpc.runner import RunnerStatus
from relay.rpc.schema import fetch_schema
from tests.network import eventually
from tests.orchestrator.doubles import MODEL, Desk, RunnerDouble, desk, refusing, sold

WHY = "model 'broken' could not be loaded: load: RuntimeError: no model at None"


def models(runner: RunnerDouble, *names: str) -> list[Runner]:
    return [Runner(model_id=name, url=runner.url, capacity=2) for name in names]


async def offered(one: Desk) -> set[str]:
    info = await one.ask()
    assert info.capabilities is not None
    return set(info.capabilities.models())


async def schema_of(one: Desk, model: str) -> object:
    return await eventually(lambda: fetch_schema(one.session, one.url, model))


@pytest.mark.parametrize("fault", ["broken", "silent"])
async def test_a_model_that_tells_no_schema_takes_nobody_elses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level(logging.INFO, "relay.orchestrator.runners")
    async with RunnerDouble().running() as runner:
        if fault == "broken":
            runner.broken = {"first": "no"}
        else:
            runner.silent = {"first"}
        async with desk(tmp_path, models(runner, "first", "good")) as one:
            assert await schema_of(one, "good")
            looks = runner.looks
            await eventually(lambda: runner.looks > looks + 5)
            told = [line for line in caplog.messages if "does not tell all" in line]
            assert len(told) == 1


async def test_a_broken_model_is_not_offered_and_a_job_for_it_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    async with RunnerDouble().running() as runner:
        runner.broken = {"broken": WHY}
        async with desk(tmp_path, models(runner, "broken", "good")) as one:
            assert await offered(one) == {"good"}
            assert [item.model_id for item in (await one.ask()).hardware] == ["good"]
            assert await schema_of(one, "good")
            with pytest.raises(PeerRefused) as caught:
                await one.start("broken")
            assert caught.value.code == "orchestrator_bad_request"
            words = f"live-video-to-video container returned 400: {WHY}"
            assert words in str(caught.value)
            with pytest.raises(PeerRefused) as caught:
                await fetch_schema(one.session, one.url, "broken")
            assert (caught.value.code, str(caught.value)) == ("model_broken", WHY)
            runners = (await one.status())["runners"]
            assert [(each["broken"], each["free"]) for each in runners] == [(True, 0), (False, 2)]
            assert runner.starts == []
            await one.start("good")


async def test_a_runner_that_does_not_take_the_token_is_not_sold_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = "the runner does not take the orchestrator's token"
    async with RunnerDouble(token="right").running() as runner:
        wrong = [entry.model_copy(update={"token": "wrong"}) for entry in models(runner, "good")]
        async with desk(tmp_path, wrong) as one:
            await one.until(lambda status: status["runners"][0]["broken"])
            assert await offered(one) == set()
            with pytest.raises(PeerRefused, match=words) as caught:
                await one.start("good")
            assert caught.value.code == "orchestrator_bad_request"
            looks = runner.looks
            await eventually(lambda: runner.looks > looks + 3)
            told = [record for record in caplog.records if words in record.message]
            assert [record.levelname for record in told] == ["WARNING"]
            runner.token = "wrong"  # its operator mends it
            await one.until(lambda status: not status["runners"][0]["broken"])
            assert await offered(one) == {"good"}
            await one.start("good")


async def test_the_reason_is_told_only_to_those_with_a_token(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner:
        runner.broken = {"broken": WHY}
        async with (
            desk(tmp_path, models(runner, "broken")) as one,
            one.session.post(
                f"{one.url}/live-video-to-video", json={"model_id": "broken"}
            ) as response,
        ):
            assert (response.status, await response.text()) == (403, "missing auth token\n")


async def test_a_model_that_is_mended_is_offered_again(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner:
        runner.broken = {MODEL: "no"}
        async with desk(tmp_path, sold(runner)) as one:
            assert await offered(one) == set()
            runner.broken = {}

            async def back() -> bool:
                return await offered(one) == {MODEL}

            await eventually(back)
            assert await schema_of(one, MODEL)
            await one.start()


async def test_a_runner_that_could_load_it_gets_the_jobs_and_is_busy_when_it_is(
    tmp_path: Path,
) -> None:
    async with RunnerDouble().running() as first, RunnerDouble().running() as second:
        first.broken = {MODEL: "no"}
        async with desk(tmp_path, sold(first, second)) as one:
            await one.start()
            assert (len(first.starts), len(second.starts)) == (0, 1)
            with pytest.raises(PeerRefused, match="insufficient capacity"):
                await one.start()


async def test_a_runner_that_could_load_nothing_says_why(tmp_path: Path) -> None:
    async with RunnerDouble().running() as runner:
        runner.broken, runner.status = {"broken": WHY}, RunnerStatus.ERROR
        async with desk(tmp_path, models(runner, "broken"), wait=False) as one:

            async def told() -> bool:
                with pytest.raises(PeerRefused) as caught:
                    await one.start("broken")
                return WHY in str(caught.value)

            await eventually(told)
            await runner.close()
            await one.until(lambda status: not status["runners"][0]["broken"])
            with pytest.raises(PeerRefused, match="insufficient capacity"):
                await one.start("broken")
            await runner.open()


async def test_refusals_are_logged_once_until_another_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "relay.orchestrator")

    def lines(text: str) -> list[int]:
        return [record.levelno for record in caplog.records if text in record.getMessage()]

    async with RunnerDouble().running() as runner:
        runner.broken = {"broken": WHY}
        async with desk(tmp_path, [*sold(runner), *models(runner, "broken")]) as one:
            job = await one.start()
            for model in (MODEL, MODEL, MODEL, "broken", MODEL):
                with pytest.raises(PeerRefused):
                    await one.start(model)
            info, debug = logging.INFO, logging.DEBUG
            assert lines("503 insufficient") == [info, debug, debug, info]
            await one.delete(job.control_url)
            await one.start()
            with pytest.raises(PeerRefused):
                await one.start()
            assert lines("503 insufficient")[4:] == [info]


async def test_a_runner_that_says_no_again_and_again_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "relay.orchestrator")

    async with RunnerDouble().running() as runner, desk(tmp_path, sold(runner)) as one:
        for status in (500, 500, 422):
            runner.refuse = refusing(status, "it broke")
            with pytest.raises(PeerRefused):
                await one.start()
        levels = [r.levelno for r in caplog.records if "not started: " in r.getMessage()]
        assert levels == [logging.INFO, logging.DEBUG, logging.INFO]
