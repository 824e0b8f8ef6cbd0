"""``/v1/gateway`` and ``/v1/models``: what is here, and what may be had."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from aiohttp import web

from relay.api import body
from relay.api.node import Node
from relay.api.routes import Answer, Route
from relay.api.v1.streams import answer
from relay.api.v1.view import GatewayView, ModelList, ModelView


class About:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def gateway(self, _: web.Request) -> web.Response:
        settings = self._node.settings
        return answer(
            GatewayView(
                version=own_version(),
                default_model=settings.default_model,
                needs_publish_key=settings.publish_key is not None,
                ready=self._node.ready and not self._node.draining,
                draining=self._node.draining,
            )
        )

    async def models(self, _: web.Request) -> web.Response:
        return answer(ModelList(models=[ModelView.of(given) for given in self._node.models()]))

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/v1/gateway",
                self.gateway,
                "showGateway",
                "Show the gateway",
                "gateway",
                {200: Answer("What a page needs to know.", body.JSON, GatewayView)},
            ),
            Route(
                "GET",
                "/v1/models",
                self.models,
                "listModels",
                "List the models that orchestrators offer now",
                "gateway",
                {
                    200: Answer(
                        "The models, each with the schema of its parameters.", body.JSON, ModelList
                    )
                },
            ),
        ]


def own_version() -> str:
    try:
        return version("relay-gateway")
    except PackageNotFoundError:
        return "0"
