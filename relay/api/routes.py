"""The table that the application and its OpenAPI document are both made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import HttpVersion11, web

from relay.api.problem import problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries.

    Attributes:
        types: content types; the first is the usual one.
        model: a type that pydantic can describe, or None for text.
    """

    types: tuple[str, ...]
    description: str
    model: Any = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    description: str
    type: str | None = None
    model: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    description: str
    place: str = "query"
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    Attributes:
        id: OpenAPI's operationId.
        answers: the good ones; problems are listed by ``problems``.
        problems: status codes that may come as problem+json.
        keyed: whether the publish key is needed, where one is set.
        accept_post: value of ``Accept-Post`` that OPTIONS tells.
        accept_patch: value of ``Accept-Patch`` that OPTIONS tells.
    """

    method: str
    path: str
    handler: Handler
    id: str
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    description: str = ""
    body: Body | None = None
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[int, ...] = ()
    keyed: bool = False
    accept_post: str = ""
    accept_patch: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How OPTIONS of a path is answered, where the plain way will not do."""

    path: str
    handler: Handler


def add(app: web.Application, routes: Iterable[Route], options: Iterable[Options] = ()) -> None:
    """Register all routes; each path also answers HEAD (where it has GET) and OPTIONS."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    special = {option.path: option.handler for option in options}
    for path, group in by_path.items():
        resource = app.router.add_resource(path)
        for route in group:
            resource.add_route(route.method, route.handler, expect_handler=expectation)
            if route.method == "GET":
                resource.add_route("HEAD", route.handler, expect_handler=expectation)
        answer = special.get(path) or plain_options(group)
        resource.add_route("OPTIONS", answer, expect_handler=expectation)


async def expectation(request: web.Request) -> web.StreamResponse | None:
    """``Expect`` (RFC 9110 section 10.1.1): go on with the body, or say that we cannot."""
    if request.headers["Expect"].lower() != "100-continue":
        return problem(417, "expectation_failed", "Only 100-continue can be expected.")
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return None


def allowed(group: Iterable[Route]) -> str:
    """The methods of one path, for ``Allow``."""
    methods = {route.method for route in group} | {"OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


def plain_options(group: Iterable[Route], status: int = 200) -> Handler:
    """OPTIONS of a path: what may be done there. Never needs a credential."""
    group = list(group)
    headers = {"Allow": allowed(group)}
    for route in group:
        if route.accept_post:
            headers["Accept-Post"] = route.accept_post
        if route.accept_patch:
            headers["Accept-Patch"] = route.accept_patch

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    return answer
