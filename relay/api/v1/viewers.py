"""``/v1/streams/NAME/viewers``, ``/v1/viewers/ID``: what each viewer gets, and says of it.

``/v1/processes``: where they are served."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from relay.api import auth, body
from relay.api.node import Node
from relay.api.routes import Answer, Parameter, Route
from relay.api.v1.streams import NAME, answer
from relay.api.v1.view import ProcessList, ProcessView, ViewerList, ViewerView
from relay.errors import BadInput

PAGE: Final = 100
LARGEST: Final = 1000


class Viewers:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def list_(self, request: web.Request) -> web.Response:
        """A page of them, the earliest first."""
        auth.require_details(request, self._node.settings)
        limit = _limit(request.query.get("limit"))
        after = request.query.get("after", "")
        found = await self._node.viewers(request.match_info["name"], limit=limit + 1, after=after)
        shown = [ViewerView.of(given) for given in found[:limit]]
        more = shown[-1].id if len(found) > limit else None
        return answer(ViewerList(viewers=shown, next=more))

    async def show(self, request: web.Request) -> web.Response:
        """One, for whoever knows its session's secret: the viewer itself."""
        return answer(ViewerView.of(await self._node.viewer(request.match_info["id"])))

    async def end(self, request: web.Request) -> web.Response:
        """End one, for whoever sees the list."""
        auth.require_key(request, self._node.settings)
        await asyncio.shield(self._node.end_viewer(request.match_info["id"]))
        return web.Response(status=204)

    async def processes(self, request: web.Request) -> web.Response:
        auth.require_details(request, self._node.settings)
        found = [ProcessView.of(given) for given in self._node.processes()]
        return answer(ProcessList(processes=found))

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/v1/streams/{name}/viewers",
                self.list_,
                "listViewers",
                "List a stream's viewers",
                "streams",
                {200: Answer("A page of viewers.", body.JSON, ViewerList)},
                "On a public gateway this needs the publish key.",
                parameters=(
                    NAME,
                    Parameter("limit", f"At most so many, up to {LARGEST}; {PAGE} by default."),
                    Parameter("after", "The next of the page before."),
                ),
                problems=(400, 401, 403, 404),
            ),
            Route(
                "GET",
                "/v1/viewers/{id}",
                self.show,
                "showViewer",
                "Show the viewer of a session",
                "streams",
                {200: Answer("The viewer.", body.JSON, ViewerView)},
                "The session's secret, the last part of its Location, is the right to ask. "
                "Of the last few thousand that ended, it tells why (410).",
                parameters=(Parameter("id", "The session's secret.", "path", required=True),),
                problems=(404, 410),
            ),
            Route(
                "DELETE",
                "/v1/viewers/{id}",
                self.end,
                "endViewer",
                "End a viewer",
                "streams",
                {204: Answer("It has ended.")},
                "Its session's address tells it so. Nothing keeps it from a new offer.",
                parameters=(
                    Parameter(
                        "id", "As a stream's list has it, or its secret.", "path", required=True
                    ),
                ),
                problems=(401, 403, 404),
                keyed=True,
            ),
            Route(
                "GET",
                "/v1/processes",
                self.processes,
                "listProcesses",
                "List the processes that serve viewers and publishers",
                "operation",
                {200: Answer("The gateway's own first.", body.JSON, ProcessList)},
                "On a public gateway this needs the publish key.",
                problems=(401, 403),
            ),
        ]


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= LARGEST:
        raise BadInput(f"limit is a number from 1 to {LARGEST}.", code="bad_limit")
    return int(text)
