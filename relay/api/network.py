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
from relay.gateway.status import Input, StreamStatus

UPDATE = "/live/video-to-video/{name}/update"
STATUS = "/live/video-to-video/{stream_id}/status"

_BAD_LOSS = 2.0  # percent; where the stock gateway calls a connection bad


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
        await self._node.update(name, data)
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
        ours["ingest_metrics"] = {"stats": _stats(given.input, given)}
    document = dict(given.runner) | {"gateway_status": ours}
    if given.runner:
        document |= {"stream_id": given.stream_id, "request_id": given.request_id}
        if given.serving is not None:
            document["orchestrator_info"] = {
                "address": "0x" + "0" * 40,
                "url": given.serving.orchestrator,
            }
    return document


def _stats(seen: Input, given: StreamStatus) -> dict[str, Any]:
    expected = seen.packets + seen.lost
    loss = 100.0 * seen.lost / expected if expected else 0.0
    track: dict[str, Any] = {
        "type": "video",
        "jitter": seen.jitter_ms,
        "packets_lost": seen.lost,
        "packets_received": seen.packets,
        "packet_loss_pct": loss,
        "rtt": 0,
    }
    if given.output is not None and given.output.delay is not None:
        track["latency"] = given.output.delay.last_ms / 1000
    return {
        "peer_conn_stats": {"ID": "iceTransport", "BytesReceived": seen.bytes, "BytesSent": 0},
        "track_stats": [track],
        "conn_quality": "bad" if loss > _BAD_LOSS or seen.jitter_ms > 50 else "good",
    }


def _not_found() -> web.Response:
    return web.Response(status=404, text="Stream not found\n")


def _empty_options(group: list[Route]) -> Handler:
    return plain_options(group, status=204)
