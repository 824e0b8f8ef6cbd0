"""The parameters' schema, on its way from worker to gateway. An extension of ours.

A worker answers ``GET /schema?model_id=M``, an orchestrator
``GET /relay/schema?pipeline=live-video-to-video&model_id=M``, with the same body. Stock
nodes answer 404, and then there is no schema. A 500 says why the model could not be
loaded, a 503 that it is not loaded yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson

from relay.errors import BadInput, PeerError, PeerRefused
from relay.rpc.capabilities import LIVE_PIPELINE
from relay.rpc.http import HttpAnswer, Ssl, call
from relay.rpc.json_body import dump, load_object, text_of

ORCHESTRATOR_PATH: Final = "/relay/schema"
RUNNER_PATH: Final = "/schema"
TOKEN_REFUSED: Final = "token_refused"
"""The code of a runner that does not take the token it was asked with."""
MAX_SCHEMA: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class RunnerSchema:
    """
    Attributes:
        version: of the pipeline; what a copy of the schema is kept under.
        schema: JSON Schema of the parameters object.
    """

    model_id: str
    version: str
    schema: dict[str, Any]
    pipeline: str = LIVE_PIPELINE

    @classmethod
    def parse(cls, body: bytes) -> RunnerSchema:
        """
        Raises:
            BadInput: not JSON, no model_id, or a schema that is no object.
        """
        fields = load_object(body, what="schema", limit=MAX_SCHEMA)
        model, schema = fields.get("model_id"), fields.get("schema")
        if not isinstance(model, str) or not model:
            raise BadInput("the schema names no model_id", code="bad_schema")
        if not isinstance(schema, dict):
            raise BadInput("the schema is no JSON object", code="bad_schema")
        return cls(
            model_id=model,
            version=text_of(fields.get("version")),
            schema=schema,
            pipeline=text_of(fields.get("pipeline")) or LIVE_PIPELINE,
        )

    def serialise(self) -> bytes:
        return dump(
            {
                "model_id": self.model_id,
                "pipeline": self.pipeline,
                "version": self.version,
                "schema": self.schema,
            }
        )


async def fetch_schema(
    session: aiohttp.ClientSession,
    transcoder: str,
    model_id: str,
    *,
    ssl: Ssl = False,
    timeout: float = 3.0,
) -> RunnerSchema | None:
    """Ask an orchestrator for a model's schema; None when it tells none.

    Raises:
        PeerRefused: code ``model_broken``: it could not be loaded, and the text is why;
            any other: another refusal than 404.
        PeerError: unreachable, too late, or no schema of it.
    """
    query = urlencode({"pipeline": LIVE_PIPELINE, "model_id": model_id})
    url = f"{transcoder.rstrip('/')}{ORCHESTRATOR_PATH}?{query}"
    return await _read(session, url, model_id, ssl=ssl, timeout=timeout, headers={})


async def fetch_runner_schema(
    session: aiohttp.ClientSession,
    runner: str,
    model_id: str,
    *,
    headers: dict[str, str],
    ssl: Ssl = True,
    timeout: float = 3.0,
) -> RunnerSchema | None:
    """Ask a runner; otherwise like ``fetch_schema``."""
    url = f"{runner.rstrip('/')}{RUNNER_PATH}?{urlencode({'model_id': model_id})}"
    return await _read(session, url, model_id, ssl=ssl, timeout=timeout, headers=headers)


async def _read(
    session: aiohttp.ClientSession,
    url: str,
    model_id: str,
    *,
    ssl: Ssl,
    timeout: float,
    headers: dict[str, str],
) -> RunnerSchema | None:
    answer = await call(
        session, "GET", url, timeout=timeout, limit=MAX_SCHEMA, ssl=ssl, headers=headers
    )
    # A stock orchestrator's catch-all may answer 200 with nothing in it.
    if answer.status in (404, 405) or (answer.status == 200 and not answer.body):
        return None
    if answer.status == 500 and (reason := detail_of(answer).strip()):
        raise PeerRefused(reason, code="model_broken")
    if answer.status in (401, 403):
        raise PeerRefused(detail_of(answer), code=TOKEN_REFUSED)
    if answer.status != 200 or not answer.is_json:
        raise PeerRefused(f"GET {url} answered {answer.status}: {answer.text}")
    try:
        schema = RunnerSchema.parse(answer.body)
    except BadInput as error:
        raise PeerError(f"GET {url}: {error}", code="peer_answer") from error
    if schema.model_id != model_id:
        raise PeerError(f"GET {url}: the schema is of another model", code="peer_answer")
    return schema


def detail_of(answer: HttpAnswer) -> str:
    """``detail.msg`` of a refusal where it has one, else its text."""
    try:
        fields = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.text
    detail = fields.get("detail") if isinstance(fields, dict) else None
    message = detail.get("msg") if isinstance(detail, dict) else None
    return message[:500] if isinstance(message, str) else answer.text
