"""The authentication webhook: what the operator's own service is asked of a publisher, and
what its answer means. Values only; ``relay/gateway/doorman.py`` does the asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from relay.errors import PeerError

KIND: Final = "livepeer-whip"
MAX_WORD: Final = 256
MAX_URL: Final = 2048
MAX_PARAMETERS: Final = 32 << 10
"""Bytes of the parameters in an answer: what a runner reads at once."""

BAD_ANSWER: Final = "auth_webhook_answer"


@dataclass(frozen=True, slots=True)
class Question:
    """One publisher at the door.

    Attributes:
        query: the raw query of its address; empty when it has none.
        host: name and port under which clients reach the gateway.
    """

    stream: str
    query: str
    host: str
    whep_url: str
    status_url: str
    update_url: str

    def body(self) -> bytes:
        asked: dict[str, str] = {"stream": self.stream, "stream_key": self.stream, "type": KIND}
        if self.query:
            asked["query_params"] = self.query
        asked |= {
            "gateway_host": self.host,
            "whep_url": self.whep_url,
            "status_url": self.status_url,
            "update_url": self.update_url,
        }
        return orjson.dumps(asked)


def headers(key: str | None) -> dict[str, str]:
    """What goes along; a key that is not set is sent empty, as stock gateways do."""
    value = key or ""
    return {"Content-Type": "application/json", "x-api-key": value, "Authorization": value}


@dataclass(frozen=True, slots=True)
class Permit:
    """What the service lets a publisher have; what is empty leaves the publisher's own wish."""

    pipeline: str = ""
    pipeline_id: str = ""
    stream_id: str = ""
    rtmp_output_url: str = ""
    parameters: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Permit:
        """
        Raises:
            PeerError: code ``auth_webhook_answer``: a field is of another kind, or too large.
        """
        parameters = fields.get("pipeline_parameters") or None
        if parameters is not None and not isinstance(parameters, dict):
            raise _bad("pipeline_parameters is no JSON object")
        pipeline = _word(fields, "pipeline")
        if pipeline == "comfyui" and parameters is not None and "prompt" not in parameters:
            # That pipeline takes its workflow under one key; services send it bare.
            parameters = {"prompt": parameters}
        if parameters is not None and len(orjson.dumps(parameters)) > MAX_PARAMETERS:
            raise _bad(f"pipeline_parameters has over {MAX_PARAMETERS} bytes")
        return cls(
            pipeline,
            _word(fields, "pipeline_id"),
            _word(fields, "stream_id"),
            _word(fields, "rtmp_output_url", MAX_URL),
            parameters,
        )


def _word(fields: Mapping[str, Any], name: str, limit: int = MAX_WORD) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise _bad(f"{name} is no text of at most {limit} printable characters")
    return value


def _bad(why: str) -> PeerError:
    return PeerError(f"the authentication webhook's answer: {why}", code=BAD_ANSWER)
