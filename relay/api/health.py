"""``/healthz``, ``/readyz``, ``/metrics``: for those who run the gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay import metrics
from relay.api import auth
from relay.api.node import Node
from relay.api.routes import Answer, Route
from relay.gateway.status import StreamState

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._gauges = CollectorRegistry(auto_describe=False)
        self._gauges.register(_Now(node))

    async def healthz(self, request: web.Request) -> web.Response:
        """The process is alive and its loop turns."""
        return web.json_response({"status": "ok", **self._of_token(request)})

    async def readyz(self, request: web.Request) -> web.Response:
        """It may take new streams: started, with sellers found, and not going away.

        That nobody could serve one now is only a warning: what it waits for comes back without
        it, another gateway would be sold no more, and a balancer that takes all of them away
        takes their viewers and the streams that wait along.

        The reason may name sellers, after a colon: so much of it is told to those who may
        know of them.
        """
        why = self._node.why_not_ready()
        words = self._node.shortage() if why is None else why
        if not auth.may_see_details(request, self._node.settings):
            words = words.partition(": ")[0]
        if why is None:
            warning = {"warning": words} if words else {}
            return web.json_response({"status": "ready", **warning, **self._of_token(request)})
        status = "draining" if self._node.draining else "not ready"
        told = {"status": status, "reason": words, **self._of_token(request)}
        return web.json_response(told, status=503)

    def _of_token(self, request: web.Request) -> dict[str, str]:
        """What is said of a token that is not the publish key; nobody needs one here."""
        offered = auth.token(request)
        if offered is None or auth.fits(self._node.settings, offered):
            return {}
        return {"token": "this is not the publish key"}

    async def metrics(self, request: web.Request) -> web.Response:
        auth.require_details(request, self._node.settings)
        text = generate_latest(metrics.registry) + generate_latest(self._gauges)
        return web.Response(body=text, headers={"Content-Type": _METRICS_TYPE})

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/healthz",
                self.healthz,
                "health",
                "Tell that the process lives",
                "operation",
                {200: Answer("It does.", "application/json", dict)},
            ),
            Route(
                "GET",
                "/readyz",
                self.readyz,
                "readiness",
                "Tell whether new streams may come",
                "operation",
                {
                    200: Answer("They may.", "application/json", dict),
                    503: Answer("Not yet, or no more.", "application/json", dict),
                },
                "Where nobody could serve them now it is 200, for they wait; a warning says why. A "
                "token is not needed; a wrong one is told of.",
            ),
            Route(
                "GET",
                "/metrics",
                self.metrics,
                "metrics",
                "Prometheus metrics",
                "operation",
                {200: Answer("Text format 0.0.4.", "text/plain")},
                problems=(401, 403),
            ),
        ]


class _Now(Collector):
    """Gauges that are read off the gateway when somebody asks."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterable[Metric]:
        streams = self._node.streams()
        states = Counter(given.state for given in streams)
        by_state = GaugeMetricFamily("relay_streams", "Streams by state.", labels=["state"])
        for state in StreamState:
            by_state.add_metric([state.value], states[state])
        yield by_state
        yield GaugeMetricFamily(
            "relay_viewers", "Viewers now.", value=sum(given.viewers for given in streams)
        )
        yield from _processes(self._node)
        offers = GaugeMetricFamily(
            "relay_model_orchestrators", "Orchestrators that offer a model.", labels=["model"]
        )
        for offer in self._node.models():
            offers.add_metric([offer.model], offer.orchestrators)
        yield offers
        yield GaugeMetricFamily("relay_draining", "1 while draining.", self._node.draining)
        yield GaugeMetricFamily("relay_ready", "1 when new streams may come.", self._node.ready)


def _processes(node: Node) -> Iterable[Metric]:
    """By number; 0 is the gateway itself, which stands with those that serve viewers."""
    publishers = GaugeMetricFamily(
        "relay_ingest_publishers",
        "Publishers by the process that receives them; 0 is the gateway itself.",
        labels=["process"],
    )
    receiving = GaugeMetricFamily(
        "relay_ingest_load", "Share of a core that an ingest process takes.", labels=["process"]
    )
    lost = CounterMetricFamily(
        "relay_ingest_pictures_dropped",
        "Pictures that the gateway did not take from an ingest process in time.",
        labels=["process"],
    )
    viewers = GaugeMetricFamily(
        "relay_egress_viewers", "Viewers by the process that serves them.", labels=["process"]
    )
    load = GaugeMetricFamily(
        "relay_egress_load", "Share of a core that a process takes.", labels=["process"]
    )
    dropped = CounterMetricFamily(
        "relay_egress_pictures_dropped",
        "Pictures that a process was not sent, or that came to it too late.",
        labels=["process"],
    )
    for given in node.processes():
        number = [str(given.number)]
        if given.kind != "egress":
            publishers.add_metric(number, given.publishers)
        if given.kind == "ingest":
            receiving.add_metric(number, given.load)
            lost.add_metric(number, given.dropped)
            continue
        viewers.add_metric(number, given.viewers)
        load.add_metric(number, given.load)
        dropped.add_metric(number, given.dropped)
    yield from (viewers, load, dropped, publishers, receiving, lost)
