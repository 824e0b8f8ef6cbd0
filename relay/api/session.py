"""The secret address of a WHIP or WHEP session."""

from __future__ import annotations

from aiohttp import web

from relay.api import auth, body
from relay.api.node import Node, Publisher, Session
from relay.api.routes import Answer, Body, Parameter, Route
from relay.policy.gate import Gate

PATH = "/session/{id}"


class Sessions:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def patch(self, request: web.Request) -> web.Response:
        """Trickled candidates or an ICE restart.

        Checks in this order: known (404), token (401), type (415), size (413); the
        session goes on with syntax (400), If-Match (428, 412) and kind (422).
        """
        session = self._find(request)
        fragment = await body.read(request, limit=body.SDP_LIMIT, types=(body.SDPFRAG,))
        answer = await session.patch(fragment, _if_match(request))
        if answer.status == 204:
            return web.Response(status=204)
        headers = {"ETag": answer.etag} if answer.etag is not None else {}
        return web.Response(
            status=answer.status,
            body=(answer.body or "").encode(),
            content_type=body.SDPFRAG,
            headers=headers,
        )

    async def delete(self, request: web.Request) -> web.Response:
        """End it. If-Match does not matter here (RFC 9725 section 4.3.1)."""
        session = self._find(request)
        await self._node.end_session(session.id)
        return web.Response(status=200)

    async def get(self, request: web.Request) -> web.Response:
        self._find(request)
        return web.Response(status=204)

    def _find(self, request: web.Request) -> Session:
        """The session, if the request may touch it.

        The address is a secret of its own, so no token is needed; a wrong one that
        comes all the same is refused, but only where a token is asked for at all.

        Raises:
            NotFound: no such session, or it ended.
            Unauthorized: a token that is not the publish key.
        """
        session = self._node.session(request.match_info["id"])
        token = auth.token(request)
        if token is not None and isinstance(session, Publisher):
            Gate(self._node.settings.publish_key).check(token)
        return session

    def routes(self) -> list[Route]:
        return [
            Route(
                "PATCH",
                PATH,
                self.patch,
                "patchSession",
                "Trickle ICE candidates or restart ICE",
                "live",
                {
                    204: Answer("The candidates are taken."),
                    200: Answer(
                        "ICE restarts with these credentials.",
                        body.SDPFRAG,
                        headers={"ETag": "The new ICE generation."},
                    ),
                },
                body=Body((body.SDPFRAG,), "A fragment of RFC 8840."),
                parameters=(
                    _ID,
                    Parameter("If-Match", "The ETag of the session, or *.", place="header"),
                ),
                problems=(400, 401, 404, 412, 413, 415, 422, 428, 429),
                accept_patch=body.SDPFRAG,
            ),
            Route(
                "DELETE",
                PATH,
                self.delete,
                "endSession",
                "End a session",
                "live",
                {200: Answer("It has ended.")},
                parameters=(_ID,),
                problems=(401, 404),
            ),
            Route(
                "GET",
                PATH,
                self.get,
                "probeSession",
                "Tell whether a session lives",
                "live",
                {204: Answer("It lives.")},
                parameters=(_ID,),
                problems=(401, 404),
            ),
        ]


def _if_match(request: web.Request) -> str | None:
    values = request.headers.getall("If-Match", [])
    return ", ".join(values) if values else None


_ID = Parameter("id", "The session's secret.", place="path", required=True)
