"""The committed OpenAPI document: current, valid, and true of the application."""

from __future__ import annotations

import json
import re

from openapi_spec_validator import OpenAPIV31SpecValidator

from relay.api import openapi
from relay.api.app import build_app, described
from relay.api.v1.gateway import own_version
from tests.api.conftest import Site
from tests.api.fake import FakeNode

DOCUMENT = json.loads(openapi.FILE.read_text())


def test_the_committed_document_is_current() -> None:
    made = openapi.render(described(), own_version())
    assert openapi.FILE.read_text() == made, "run: python -m relay.api.openapi"


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_and_the_application_have_the_same_operations() -> None:
    served = set()
    for route in build_app(FakeNode()).router.routes():
        if route.method in ("OPTIONS", "HEAD") or route.resource is None:
            continue
        served.add((re.sub(r"\{(\w+)[^}]*\}", r"{\1}", route.resource.canonical), route.method))
    told = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    pages = {
        ("/", "GET"),
        ("/watch/{name}", "GET"),
        ("/web/{file}", "GET"),
        ("/v1/openapi.json", "GET"),
    }
    assert served == told | pages


def test_every_operation_has_its_own_id_and_words() -> None:
    operations = [item for path in DOCUMENT["paths"].values() for item in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["responses"] for operation in operations)


async def test_it_is_served(site: Site) -> None:
    answer, body = await site.call("GET", "/v1/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(body) == DOCUMENT
