"""The network's own live paths, as thin adapters over the same operations.

Paths, keys and bodies are those of the stock gateway; where it has no error of its own,
ours are problems.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from relay.api import address, auth, body
from relay.api.node import Node
from relay.api.routes import Answer, Body, Handler, Options, Parameter, Route, plain_options
from relay.errors import BadInput, Forbidden, NotFound
from relay.gateway.journal import Seller, ingest_stats
from relay.gateway.status import StreamStatus

UPDATE = "/live/video-to-video/{name}/update"
STATUS = "/live/video-to-video/{stream_id}/status"

SMOKE_TEST = "/live/video-to-video/smoketest"

_DEFAULT_SECONDS = 300
_MAX_SECONDS = 3600


class Network:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def update(self, request: web.Request) -> web.Response:
        """Change parameters, by the stream's name; any content type, an empty 200."""
        auth.require_key(request, self._node.settings)
        name = request.match_info["name"]
        if not any(given.name == name for given in self._node.streams()):
            return _not_found()
        data = await body.read(request, limit=body.PARAMS_LIMIT, types=None)
        body.parse_object(data, code="bad_params_json")
        try:
            await self._node.update(name, data)
        except NotFound:  # only viewers are there
            return _not_found()
        return web.Response(status=200)

    async def status(self, request: web.Request) -> web.Response:
        """The last status event of the runner and what the gateway knows, by stream id."""
        auth.require_details(request, self._node.settings)
        wanted = request.match_info["stream_id"]
        for given in self._node.streams():
            if wanted == given.stream_id:
                base = address.base(request, self._node.settings)
                return web.json_response(status_document(given, base, time.time()))
        return _not_found()

    async def smoke_test(self, request: web.Request) -> web.Response:
        """Send a test picture somewhere; an empty 200 at once, whatever becomes of it."""
        settings = self._node.settings
        auth.require_key(request, settings)
        if settings.publish_key is None and not auth.is_local(settings):
            raise Forbidden(
                "A gateway that others reach needs a publish key for smoke tests.",
                code="key_needed",
            )
        data = await body.read(request, limit=body.PARAMS_LIMIT, types=None)
        asked = body.parse_object(data, code="bad_json")
        url, seconds = asked.get("stream_url"), asked.get("duration_secs") or _DEFAULT_SECONDS
        if not isinstance(url, str) or not url:
            raise BadInput("stream_url is missing.", code="bad_stream_url")
        whole = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not whole or not 0 < seconds <= _MAX_SECONDS:
            raise BadInput(f"duration_secs is at most {_MAX_SECONDS}.", code="bad_duration")
        self._node.smoke_test(url, seconds, base=address.base(request, settings))
        return web.Response(status=200)

    def options(self) -> list[Options]:
        return [Options(route.path, _empty_options([route])) for route in self.routes()]

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                UPDATE,
                self.update,
                "networkUpdate",
                "Change parameters (the network's path)",
                "network",
                {200: Answer("It is forwarded; the body is empty.")},
                body=Body((body.JSON,), "Parameters.", dict[str, object]),
                parameters=(Parameter("name", "The stream's name.", "path", required=True),),
                problems=(400, 401, 403, 413, 415, 422),
                keyed=True,
            ),
            Route(
                "GET",
                STATUS,
                self.status,
                "networkStatus",
                "Show a stream's status (the network's path)",
                "network",
                {200: Answer("The runner's last event and gateway_status.", body.JSON, dict)},
                parameters=(Parameter("stream_id", "The stream's id.", "path", required=True),),
                problems=(401, 403),
            ),
            Route(
                "PUT",
                SMOKE_TEST,
                self.smoke_test,
                "smokeTest",
                "Send a test picture to an RTMP or WHIP address (the network's path)",
                "network",
                {200: Answer("It begins; the body is empty.")},
                "Two at once at most. Needs ffmpeg.",
                body=Body((body.JSON,), "stream_url and duration_secs.", dict[str, object]),
                problems=(400, 401, 403, 413, 415, 429, 501),
                keyed=True,
            ),
        ]


def status_document(given: StreamStatus, base: str, now: float) -> dict[str, Any]:
    """The stock gateway's status JSON.

    Args:
        now: seconds since the epoch; the time of an error whose own is not known.
    """
    ours: dict[str, Any] = {"whep_url": address.playback(base, given.name, given.request_id)}
    message = given.reason or given.runner_error
    if message:
        since = now if given.reason_since is None else given.reason_since
        ours["error"] = {"error_message": message, "error_time": int(since * 1000)}
    if given.input is not None:
        ours["ingest_metrics"] = {"stats": ingest_stats(given.input, given.output)}
    if given.not_offered:
        ours["not_offered"] = list(given.not_offered)
    document = dict(given.runner) | {"gateway_status": ours}
    if given.runner:
        document |= {"stream_id": given.stream_id, "request_id": given.request_id}
        if given.serving is not None:
            by = Seller(given.serving.orchestrator, given.serving.address)
            document["orchestrator_info"] = by.info
    return document


def _not_found() -> web.Response:
    return web.Response(status=404, text="Stream not found\n")


def _empty_options(group: list[Route]) -> Handler:
    return plain_options(group, status=204)
