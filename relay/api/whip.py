"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) endpoints, over HTTP.

What an offer is worth is decided by the gateway; here are methods, headers, the order
of checks and the codes.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from relay import metrics
from relay.api import address, auth, body
from relay.api.node import Node, Session
from relay.api.routes import Answer, Body, Options, Parameter, Route, allowed
from relay.errors import BadInput, NotFound, RelayError, TooLarge, Unavailable
from relay.gateway.doorman import Visit

OFFERS_AT_ONCE = 256  # an offer costs two milliseconds; more would wait past any use
MAX_WORD = 256  # characters of a model's name or a stream's id


class Endpoints:
    """The addresses that take offers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._open = 0

    # -------------------------------------------------------------- WHIP

    async def publish(self, request: web.Request) -> web.Response:
        """POST of an offer that sends."""
        name = request.match_info["name"]
        query = request.query
        params = _initial_params(query.get("params"))
        model = _word(query.get("pipeline") or query.get("model"), code="bad_model")
        stream_id = _word(query.get("streamId"), code="bad_stream_id")
        visit = Visit(
            query=request.raw_path.partition("?")[2],
            base=address.base(request, self._node.settings),
            orchestrator=_word(query.get("orchestrator"), code="bad_orchestrator") or "",
            rtmp_output=query.get("rtmpOutput", ""),
        )
        token = auth.token(request)

        offer = await body.read_offer(request)
        answer = self._node.publish(
            name, offer, token=token, model=model, params=params, stream_id=stream_id, visit=visit
        )
        session = await self._offer("whip", answer)
        headers = self._created(session)
        headers["Livepeer-Playback-URL"] = self._playback(request, name)
        return _created(session, headers)

    async def whip_get(self, _: web.Request) -> web.Response:
        """GET and HEAD: a 2xx without content (RFC 9725 section 4.1)."""
        return web.Response(status=204)

    async def whip_options(self, request: web.Request) -> web.Response:
        allow = auth.fits(self._node.settings, auth.token(request))
        return self._options(request, self.whip_routes(), with_links=allow)

    def _playback(self, request: web.Request, name: str) -> str:
        base = address.base(request, self._node.settings)
        status = self._node.stream(name)
        return address.playback(base, status.name, status.request_id)

    # -------------------------------------------------------------- WHEP

    async def play(self, request: web.Request) -> web.Response:
        """POST of an offer that receives, at the short address."""
        return await self._play(request, request.match_info["name"])

    async def play_output(self, request: web.Request) -> web.Response:
        """The same at the network's address, which may name one stream start."""
        return await self._play(request, self._rendition(request.match_info["playback"]))

    async def _play(self, request: web.Request, name: str) -> web.Response:
        offer = await body.read_offer(request)
        session = await self._offer("whep", self._node.play(name, offer))
        return _created(session, self._created(session))

    async def whep_get(self, _: web.Request) -> web.Response:
        """GET and HEAD: players know a WHEP address by this content type."""
        return web.Response(status=200, content_type=body.SDP)

    async def whep_options(self, request: web.Request) -> web.Response:
        return self._options(request, self.whep_routes(), with_links=True)

    def _rendition(self, element: str) -> str:
        """The stream that a playback address means.

        Raises:
            NotFound: it names a stream start that is not the present one.
        """
        whole, name, request_id = address.parse_playback(element)
        if name is None or self._knows(whole):
            return whole
        if self._knows(name) and self._node.stream(name).request_id == request_id:
            return name
        raise NotFound(f"No stream {name} of start {request_id} is live.", code="stream_not_found")

    def _knows(self, name: str) -> bool:
        return any(status.name == name for status in self._node.streams())

    # -------------------------------------------------------------- both

    async def _offer(self, kind: str, answer: Coroutine[Any, Any, Session]) -> Session:
        """Answer one offer, at most so many at once, and count how it went."""
        if self._open >= OFFERS_AT_ONCE:
            answer.close()
            metrics.SESSIONS.labels(kind, "busy").inc()
            raise Unavailable("Too many offers at once.", code="busy", retry_after=1)
        self._open += 1
        started = time.monotonic()
        try:
            session = await answer
        except RelayError as error:
            metrics.SESSIONS.labels(kind, error.code).inc()
            raise
        finally:
            self._open -= 1
        metrics.SESSIONS.labels(kind, "ok").inc()
        metrics.SESSION_SETUP.labels(kind).observe(time.monotonic() - started)
        return session

    def _created(self, session: Session) -> CIMultiDict[str]:
        headers = CIMultiDict(
            {
                "Location": address.session(self._node.settings, session.id),
                "ETag": session.etag,
                "Accept-Patch": body.SDPFRAG,
            }
        )
        self._add_links(headers)
        return headers

    def _add_links(self, headers: CIMultiDict[str]) -> None:
        """One header line a server: encoders in the field cannot split a joined one."""
        for server in self._node.settings.webrtc.ice_servers:
            headers.add("Link", address.ice_link(server))

    def _options(
        self, request: web.Request, routes: list[Route], *, with_links: bool
    ) -> web.Response:
        """OPTIONS; the ICE servers only outside a preflight (RFC 9725 section 4.6)."""
        headers = CIMultiDict(
            {
                "Allow": allowed(route for route in routes if route.path == routes[0].path),
                "Accept-Post": body.SDP,
            }
        )
        if with_links and "Access-Control-Request-Method" not in request.headers:
            self._add_links(headers)
        return web.Response(status=200, headers=headers)

    # -------------------------------------------------------------- the table

    def routes(self) -> list[Route]:
        return self.whip_routes() + self.whep_routes()

    def options(self) -> list[Options]:
        return [Options(route.path, self.whip_options) for route in self.whip_routes()] + [
            Options(route.path, self.whep_options) for route in self.whep_routes()
        ]

    def whip_routes(self) -> list[Route]:
        routes = []
        for path, suffix in (
            ("/live/video-to-video/{name}/whip", ""),
            ("/whip/{name}", "Short"),
        ):
            routes += [
                Route(
                    "POST",
                    path,
                    self.publish,
                    f"publish{suffix}",
                    "Publish a stream (WHIP)",
                    "live",
                    _CREATED | {201: _WHIP_CREATED},
                    "RFC 9725. H.264 is needed for video, Opus for audio.",
                    body=_OFFER,
                    parameters=(_NAME, *_WHIP_QUERY),
                    problems=(400, 401, 403, 409, 413, 415, 422, 502, 503, 504),
                    keyed=True,
                    accept_post=body.SDP,
                ),
                Route(
                    "GET",
                    path,
                    self.whip_get,
                    f"probePublish{suffix}",
                    "Tell that this is a WHIP endpoint",
                    "live",
                    {204: Answer("It is one.")},
                    parameters=(_NAME,),
                ),
            ]
        return routes

    def whep_routes(self) -> list[Route]:
        routes = []
        for path, suffix, handler, parameter in (
            ("/live/video-to-video/{playback}/whep", "", self.play_output, _PLAYBACK),
            ("/whep/{name}", "Short", self.play, _NAME),
        ):
            routes += [
                Route(
                    "POST",
                    path,
                    handler,
                    f"play{suffix}",
                    "Play a stream (WHEP)",
                    "live",
                    _CREATED,
                    "draft-ietf-wish-whep. A viewer may come before the publisher.",
                    body=_OFFER,
                    parameters=(parameter,),
                    problems=(400, 404, 413, 415, 422, 503),
                    accept_post=body.SDP,
                ),
                Route(
                    "GET",
                    path,
                    self.whep_get,
                    f"probePlay{suffix}",
                    "Tell that this is a WHEP endpoint",
                    "live",
                    {200: Answer("It is one; the body is empty.", body.SDP)},
                    parameters=(parameter,),
                ),
            ]
        return routes


def _created(session: Session, headers: CIMultiDict[str]) -> web.Response:
    return web.Response(
        status=201,
        headers=headers,
        body=session.answer.encode(),
        content_type=body.SDP,
    )


def _initial_params(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    if len(text.encode()) > body.PARAMS_LIMIT:
        raise TooLarge(
            f"Parameters are at most {body.PARAMS_LIMIT} bytes.", code="params_too_large"
        )
    return body.parse_object(text, code="bad_params_json")


def _word(text: str | None, *, code: str) -> str | None:
    """An id out of the query, which goes on to other nodes, pages and logs."""
    if not text:
        return None
    if len(text) > MAX_WORD or not text.isprintable():
        raise BadInput(f"An id has at most {MAX_WORD} printable characters.", code=code)
    return text


_OFFER = Body((body.SDP,), "An SDP offer.")
_NAME = Parameter("name", "The stream's name.", place="path", required=True)
_PLAYBACK = Parameter(
    "playback", "`NAME-out`, or `NAME-REQUESTID-out` for one start.", place="path", required=True
)
_WHIP_QUERY = (
    Parameter("pipeline", "The model; the gateway's own choice without it."),
    Parameter("params", "First parameters, a JSON object."),
    Parameter("streamId", "The id under which status is kept."),
    Parameter("orchestrator", "Only orchestrators whose address has this in it may serve."),
    Parameter("rtmpOutput", "Taken and not offered yet; the status says so."),
)
_SESSION_HEADERS = {
    "Location": "The session's own secret address.",
    "ETag": "The ICE generation, for If-Match.",
    "Link": "One line for each ICE server.",
    "Accept-Patch": body.SDPFRAG,
}
_CREATED = {201: Answer("The SDP answer.", body.SDP, headers=_SESSION_HEADERS)}
_WHIP_CREATED = Answer(
    "The SDP answer.",
    body.SDP,
    headers=_SESSION_HEADERS | {"Livepeer-Playback-URL": "Where the output plays."},
)
