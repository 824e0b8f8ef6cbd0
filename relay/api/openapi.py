"""OpenAPI 3.1, made from the route table. ``python -m relay.api.openapi`` writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from relay.api.problem import CONTENT_TYPE
from relay.api.routes import Answer, Body, Route
from relay.api.v1.view import Problem

FILE = Path(__file__).with_name("openapi.json")

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{(\w+)[^}]*\}")
_TAGS = {
    "live": "Publishing and playing: WHIP and WHEP.",
    "streams": "Live streams.",
    "gateway": "The gateway and what it can get.",
    "network": "The Livepeer network's own live paths.",
    "operation": "For those who run it.",
}
_PROBLEMS = {
    400: "It cannot be understood.",
    401: "The publish key is missing or wrong.",
    403: "Another site's page may not do this, or the authentication webhook refuses.",
    404: "There is no such thing.",
    409: "The name is live elsewhere; Retry-After says when to try again.",
    410: "It has ended; the detail says why.",
    412: "A stale entity tag.",
    413: "Over the size bound.",
    415: "Another content type, or an encoded body.",
    422: "Understood, and cannot be served.",
    428: "If-Match is needed.",
    429: "Too often.",
    501: "Known to the network, and not done here.",
    502: "The authentication webhook failed, and nobody is let in without it.",
    503: "No capacity, or going away; Retry-After says when to try again.",
    504: "The authentication webhook did not answer in time.",
}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The whole OpenAPI document of a table."""
    routes = list(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "relay gateway",
            "version": version,
            "description": "Live video through a model on the Livepeer network.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {"publishKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def render(routes: Iterable[Route], version: str) -> str:
    return json.dumps(document(routes, version), indent=2) + "\n"


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.id,
        "summary": route.summary,
        "tags": [route.tag],
    }
    if route.description:
        operation["description"] = route.description
    if route.parameters:
        operation["parameters"] = [
            {
                "name": given.name,
                "in": given.place,
                "description": given.description,
                "required": given.required,
                "schema": dict(given.schema),
            }
            for given in route.parameters
        ]
    if route.body is not None:
        operation["requestBody"] = _body(route.body)
    operation["responses"] = {
        str(status): _answer(answer) for status, answer in sorted(route.answers.items())
    } | {
        str(status): {"description": _PROBLEMS[status], "content": _PROBLEM_CONTENT}
        for status in route.problems
        if status not in route.answers
    }
    if route.keyed:
        operation["security"] = [{"publishKey": []}, {}]
    return operation


def _body(body: Body) -> dict[str, Any]:
    return {
        "description": body.description,
        "required": body.required,
        "content": {kind: {"schema": _schema(body.model)} for kind in body.types},
    }


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        told["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in answer.headers.items()
        }
    if answer.type is not None:
        told["content"] = {answer.type: {"schema": _schema(answer.model)}}
    return told


def _schema(model: Any) -> dict[str, Any]:
    if model is None:
        return {"type": "string"}
    if _is_model(model):
        return {"$ref": _REF.format(model=model.__name__)}
    return TypeAdapter(model).json_schema()


def _schemas(routes: Iterable[Route]) -> dict[str, Any]:
    wanted: dict[type[BaseModel], None] = {Problem: None}
    for route in routes:
        models = [answer.model for answer in route.answers.values()]
        models += [route.body.model] if route.body is not None else []
        wanted |= dict.fromkeys(model for model in models if _is_model(model))
    _, schema = models_json_schema(
        [(model, "serialization") for model in wanted], ref_template=_REF
    )
    definitions: dict[str, Any] = schema["$defs"]
    return definitions


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


_PROBLEM_CONTENT = {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}


def main() -> None:
    from relay.api.app import described
    from relay.api.v1.gateway import own_version

    FILE.write_text(render(described(), own_version()))


if __name__ == "__main__":
    main()
