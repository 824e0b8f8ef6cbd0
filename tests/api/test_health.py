"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from relay.errors import Unavailable
from relay.gateway.status import ModelOffer, StreamState
from tests.api.conftest import MakeSite, Site


async def test_alive_and_ready(site: Site) -> None:
    assert (await site.call("GET", "/healthz"))[0].status == 200
    answer, body = await site.call("GET", "/readyz")
    assert (answer.status, json.loads(body)) == (200, {"status": "ready"})


async def test_not_ready_before_sellers_and_while_draining(site: Site) -> None:
    site.node.ready = False
    answer, body = await site.call("GET", "/readyz")
    why = "no orchestrator answers: https://seller.example: refused"
    assert (answer.status, json.loads(body)) == (503, {"status": "not ready", "reason": why})
    site.node.draining = True
    answer, body = await site.call("GET", "/readyz")
    assert (answer.status, json.loads(body)) == (
        503,
        {"status": "draining", "reason": "this gateway is going away"},
    )
    assert (await site.call("GET", "/healthz"))[0].status == 200


async def test_strangers_are_not_told_who_sells(make_site: MakeSite) -> None:
    site = await make_site(publish_key="k", public_url="https://live.example")
    site.node.ready = False
    answer, body = await site.call("GET", "/readyz")
    told = {"status": "not ready", "reason": "no orchestrator answers"}
    assert (answer.status, json.loads(body)) == (503, told)
    answer, body = await site.call("GET", "/readyz", Authorization="Bearer k")
    assert "https://seller.example" in json.loads(body)["reason"]


async def test_what_a_ready_gateway_lacks_is_a_warning_and_takes_no_traffic_away(
    make_site: MakeSite,
) -> None:
    site = await make_site(publish_key="k", public_url="https://live.example")
    site.node.short = "no orchestrator offers a model: https://seller.example: it has none"
    for headers, words in (
        ({}, "no orchestrator offers a model"),
        ({"Authorization": "Bearer k"}, site.node.short),
    ):
        answer, body = await site.call("GET", "/readyz", **headers)
        assert (answer.status, json.loads(body)) == (200, {"status": "ready", "warning": words})


async def test_a_wrong_token_is_said_and_takes_no_traffic_away(make_site: MakeSite) -> None:
    """A balancer whose key is an old one still learns what it asked."""
    site = await make_site(publish_key="k", public_url="https://live.example")
    for path, status in (("/readyz", "ready"), ("/healthz", "ok")):
        answer, body = await site.call("GET", path, Authorization="Bearer another")
        told = {"status": status, "token": "this is not the publish key"}
        assert (answer.status, json.loads(body)) == (200, told)
        answer, body = await site.call("GET", path, Authorization="Bearer k")
        assert (answer.status, json.loads(body)) == (200, {"status": status})
    site.node.ready = False
    answer, body = await site.call("GET", "/readyz", Authorization="Bearer another")
    assert (answer.status, json.loads(body)["token"]) == (503, "this is not the publish key")


async def read(site: Site) -> dict[tuple[str, tuple[str, ...]], float]:
    answer, body = await site.call("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def test_metrics_count_without_naming_streams(site: Site) -> None:
    site.node.add("cam-secret-name")
    site.node.add("other", state=StreamState.SWITCHING, viewers=3)
    site.node.offers = [ModelOffer("effects", "live-video-to-video", 2)]
    before = await read(site)
    await site.post("/whip/new")
    site.node.fail = Unavailable("full", code="no_capacity")
    await site.post("/whip/another")
    after = await read(site)

    def grown(*key: object) -> float:
        name, *labels = key
        full = (str(name), tuple(str(label) for label in labels))
        return after[full] - before.get(full, 0.0)

    assert after["relay_streams", ("live",)] == 2
    assert after["relay_streams", ("switching",)] == 1
    assert after["relay_viewers", ()] == 7
    assert after["relay_model_orchestrators", ("effects",)] == 2
    assert grown("relay_sessions_total", "whip", "ok") == 1
    assert grown("relay_sessions_total", "whip", "no_capacity") == 1
    assert grown("relay_http_requests_total", "POST", "/whip/{name}", 201) == 1
    assert grown("relay_http_requests_total", "POST", "/whip/{name}", 503) == 1
    assert ("process_resident_memory_bytes", ()) in after
    assert not any("cam-secret-name" in label for _, labels in after for label in labels)


async def test_strangers_paths_make_no_labels(site: Site) -> None:
    await site.call("GET", "/made-up-path")
    assert not any("made-up" in label for _, labels in await read(site) for label in labels)
