"""``/v1/streams``: list, show, change, stop."""

from __future__ import annotations

import asyncio

from aiohttp import web
from pydantic import BaseModel, ValidationError

from relay.api import address, auth, body
from relay.api.node import Node
from relay.api.routes import Answer, Body, Parameter, Route
from relay.api.v1.view import ModelChoice, ParamsView, StreamList, StreamView
from relay.errors import BadInput, Unprocessable
from relay.gateway.status import StreamStatus
from relay.wrong_values import said_of

COLLECTION = "/v1/streams"
ITEM = "/v1/streams/{name}"
MODEL = "/v1/streams/{name}/model"


class Streams:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def list_(self, request: web.Request) -> web.Response:
        """All streams; or, with ``name``, the one of that name or none."""
        name = request.query.get("name")
        if name is None:
            auth.require_details(request, self._node.settings)
        found = [given for given in self._node.streams() if name in (None, given.name)]
        return answer(StreamList(streams=[self._view(request, given) for given in found]))

    async def show(self, request: web.Request) -> web.Response:
        return answer(self._view(request, self._node.stream(request.match_info["name"])))

    async def update(self, request: web.Request) -> web.Response:
        """New parameters, checked against the model's schema."""
        auth.require_key(request, self._node.settings)
        data = await body.read(
            request, limit=body.PARAMS_LIMIT, types=(body.JSON, body.MERGE_PATCH)
        )
        asked = body.parse_object(data, code="bad_params_json")
        try:
            params = await self._node.update(request.match_info["name"], data)
        except Unprocessable as error:
            if list(asked) != ["params"]:
                raise
            hint = "The body is the parameters themselves, without “params” around them."
            raise Unprocessable(f"{error}. {hint}", code=error.code) from error
        return answer(ParamsView(params=params))

    async def set_model(self, request: web.Request) -> web.Response:
        auth.require_key(request, self._node.settings)
        data = await body.read(request, limit=body.PARAMS_LIMIT, types=(body.JSON,))
        try:
            choice = ModelChoice.model_validate(body.parse_object(data, code="bad_json"))
        except ValidationError as error:
            raise BadInput(said_of(error.errors()[0]), code="bad_model_choice") from error
        name = request.match_info["name"]
        await self._node.set_model(name, choice.model, choice.params)
        return answer(self._view(request, self._node.stream(name)))

    async def stop(self, request: web.Request) -> web.Response:
        """End a stream: its publisher, its job, its viewers."""
        auth.require_key(request, self._node.settings)
        await asyncio.shield(self._node.stop_stream(request.match_info["name"]))
        return web.Response(status=204)

    def _view(self, request: web.Request, given: StreamStatus) -> StreamView:
        settings = self._node.settings
        details = auth.may_see_details(request, settings)
        return StreamView.of(given, address.base(request, settings), details=details)

    def routes(self) -> list[Route]:
        return self._looking() + self._changing()

    def _looking(self) -> list[Route]:
        return [
            Route(
                "GET",
                COLLECTION,
                self.list_,
                "listStreams",
                "List streams",
                "streams",
                {200: Answer("The streams, by name.", body.JSON, StreamList)},
                "Without a name this needs the publish key on a public gateway.",
                parameters=(Parameter("name", "Only the stream of this name, if there is one."),),
                problems=(401, 403),
            ),
            Route(
                "GET",
                ITEM,
                self.show,
                "showStream",
                "Show a stream",
                "streams",
                {200: ONE},
                parameters=(NAME,),
                problems=(404,),
            ),
        ]

    def _changing(self) -> list[Route]:
        return [
            Route(
                "PATCH",
                ITEM,
                self.update,
                "updateStream",
                "Change parameters of a live stream",
                "streams",
                {200: Answer("All parameters, as they now are.", body.JSON, ParamsView)},
                "What is named changes, the rest stays. A refused change changes nothing.",
                body=Body((body.JSON, body.MERGE_PATCH), "Parameters.", dict[str, object]),
                parameters=(NAME,),
                problems=(400, 401, 403, 404, 413, 415, 422),
                keyed=True,
                accept_patch=f"{body.JSON}, {body.MERGE_PATCH}",
            ),
            Route(
                "DELETE",
                ITEM,
                self.stop,
                "stopStream",
                "Stop a stream",
                "streams",
                {204: Answer("It is stopped.")},
                parameters=(NAME,),
                problems=(401, 403, 404),
                keyed=True,
            ),
            Route(
                "POST",
                MODEL,
                self.set_model,
                "setModel",
                "Give a live stream another model",
                "streams",
                {200: ONE},
                "Viewers stay; the picture changes when the new job's first one comes. Without "
                "params they are the model's defaults; a stream that has the model already goes on "
                "as it is.",
                body=Body((body.JSON,), "The model and its first parameters.", ModelChoice),
                parameters=(NAME,),
                problems=(400, 401, 403, 404, 413, 415, 422, 503),
                keyed=True,
                accept_post=body.JSON,
            ),
        ]


def answer(view: BaseModel) -> web.Response:
    return web.Response(body=view.model_dump_json().encode(), content_type=body.JSON)


ONE = Answer("The stream.", body.JSON, StreamView)
NAME = Parameter("name", "The stream's name.", place="path", required=True)
