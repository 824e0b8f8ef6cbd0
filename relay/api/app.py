"""The gateway's HTTP side, whole."""

from __future__ import annotations

from aiohttp import web

from relay.api import middleware, routes
from relay.api.node import Node
from relay.api.routes import Options, Route
from relay.api.session import Sessions
from relay.api.whip import Endpoints

# aiohttp's own bound on bodies: ours are smaller, and read by ``relay.api.body``.
_CLIENT_MAX_SIZE = 256 * 1024


def table(node: Node) -> tuple[list[Route], list[Options]]:
    """All operations: what the application serves and what OpenAPI documents."""
    endpoints = Endpoints(node)
    sessions = Sessions(node)
    return [*endpoints.routes(), *sessions.routes()], endpoints.options()


def build_app(node: Node) -> web.Application:
    """The application of a gateway that was made, started or not."""
    app = web.Application(middlewares=[middleware.answer_errors], client_max_size=_CLIENT_MAX_SIZE)
    app.on_response_prepare.append(middleware.common_headers)
    routes.add(app, *table(node))
    return app
