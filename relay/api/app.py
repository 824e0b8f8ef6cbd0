"""The gateway's HTTP side, whole."""

from __future__ import annotations

from typing import cast

from aiohttp import web

from relay.api import middleware, openapi, routes
from relay.api.health import Health
from relay.api.network import Network
from relay.api.node import Node
from relay.api.pages import Pages
from relay.api.routes import Options, Route
from relay.api.session import Sessions
from relay.api.v1.gateway import About
from relay.api.v1.streams import Streams
from relay.api.v1.viewers import Viewers
from relay.api.whip import Endpoints

# aiohttp's own bound on bodies: ours are smaller, and read by ``relay.api.body``.
_CLIENT_MAX_SIZE = 256 * 1024


def build_app(node: Node) -> web.Application:
    """The application of a gateway that was made, started or not."""
    app = web.Application(middlewares=[middleware.answer_errors], client_max_size=_CLIENT_MAX_SIZE)
    app.on_response_prepare.append(middleware.common_headers)
    routes.add(app, *_table(node))
    app.router.add_get("/v1/openapi.json", _openapi)
    Pages().attach(app)
    return app


def described() -> list[Route]:
    """Every operation, for OpenAPI; their handlers lead nowhere."""
    return _table(cast("Node", None))[0]


def _table(node: Node) -> tuple[list[Route], list[Options]]:
    endpoints, network = Endpoints(node), Network(node)
    table = [
        *endpoints.routes(),
        *Sessions(node).routes(),
        *Streams(node).routes(),
        *Viewers(node).routes(),
        *About(node).routes(),
        *network.routes(),
        *Health(node).routes(),
    ]
    return table, [*endpoints.options(), *network.options()]


async def _openapi(_: web.Request) -> web.StreamResponse:
    return web.FileResponse(openapi.FILE, headers={"Content-Type": "application/json"})
