"""The live job: ``POST /live-video-to-video`` from a gateway to an orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from relay.errors import BadInput, PeerError, PeerRefused
from relay.rpc.address import check_url
from relay.rpc.auth_token import AuthToken
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.http import HttpAnswer, Ssl, call
from relay.rpc.json_body import dump, load_object, text_of
from relay.rpc.seg_data import SegData
from relay.rpc.trickle_token import token_field, token_of

PATH: Final = "/live-video-to-video"
START_TIMEOUT: Final = 5.0
"""Seconds that a gateway gives the whole call, the runner's start included."""

PROTOCOL: Final = "Livepeer-AI-Worker-1.0"
MAX_ANSWER: Final = 64 << 10
MAX_MODEL_ID: Final = 256


@dataclass(frozen=True, slots=True)
class LiveJobRequest:
    """
    Attributes:
        params: what the pipeline is to be set to, as the caller gave it. An absent or
            null one reads as empty.
        gateway_request_id: for logs; stock gateways use 8 hex digits.
        stream_id: the caller's own word for the stream; may be empty.
    """

    model_id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    gateway_request_id: str = ""
    stream_id: str = ""

    @classmethod
    def parse(cls, body: bytes) -> LiveJobRequest:
        """
        Raises:
            BadInput: not JSON, no model_id (stock nodes drop the connection at that),
                or params that are no object. Unknown fields are skipped.
        """
        fields = load_object(body, what="job request")
        model = fields.get("model_id")
        if not isinstance(model, str) or not model:
            raise BadInput("model_id is required", code="no_model_id")
        if len(model) > MAX_MODEL_ID:
            raise BadInput(f"model_id is longer than {MAX_MODEL_ID}", code="bad_model_id")
        params = fields.get("params")
        if params is not None and not isinstance(params, dict):
            raise BadInput("params must be a JSON object", code="bad_params")
        return cls(
            model_id=model,
            params=params or {},
            gateway_request_id=text_of(fields.get("gateway_request_id")),
            stream_id=text_of(fields.get("stream_id")),
        )

    def serialise(self) -> bytes:
        """The body as a stock gateway writes it: the empty URLs are in it."""
        return dump(
            {
                "gateway_request_id": self.gateway_request_id,
                "model_id": self.model_id,
                "params": self.params,
                "publish_url": "",
                "stream_id": self.stream_id,
                "subscribe_url": "",
            }
        )


@dataclass(frozen=True, slots=True)
class LiveJobAnswer:
    """The four channels, seen from the gateway, and the id that payments name.

    Attributes:
        publish_url: the gateway writes its input here.
        subscribe_url: it reads the output here.
        manifest_id: stock orchestrators use 8 hex digits; may be empty off-chain.
        trickle_token: goes with every request to the four; empty: none is asked for.
    """

    publish_url: str
    subscribe_url: str
    control_url: str
    events_url: str
    manifest_id: str
    trickle_token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, body: bytes, *, transcoder: str) -> LiveJobAnswer:
        """Read an answer; an address without a host is one on ``transcoder``.

        Raises:
            BadInput: not JSON, one of the four addresses is missing or is none, or the
                token is none.
        """
        fields = load_object(body, what="job answer", limit=MAX_ANSWER)
        urls: dict[str, str] = {}
        for name in ("publish_url", "subscribe_url", "control_url", "events_url"):
            url = text_of(fields.get(name))
            if not url:
                raise BadInput(f"the job answer has no {name}", code="bad_answer")
            if "://" not in url:
                url = f"{transcoder.rstrip('/')}/{url.lstrip('/')}"
            check_url(url, what=name)
            urls[name] = url
        manifest_id = text_of(fields.get("manifest_id"))
        return cls(**urls, manifest_id=manifest_id, trickle_token=token_of(fields))

    @property
    def urls(self) -> tuple[str, str, str, str]:
        return self.publish_url, self.subscribe_url, self.control_url, self.events_url

    def serialise(self) -> bytes:
        return dump(
            {
                "publish_url": self.publish_url,
                "subscribe_url": self.subscribe_url,
                "control_url": self.control_url,
                "events_url": self.events_url,
                "manifest_id": self.manifest_id,
                **token_field(self.trickle_token),
            }
        )


async def start_live_job(
    session: aiohttp.ClientSession,
    transcoder: str,
    request: LiveJobRequest,
    *,
    auth_token: AuthToken,
    capabilities: Capabilities | None = None,
    ssl: Ssl = False,
    timeout: float = START_TIMEOUT,
) -> LiveJobAnswer:
    """Ask an orchestrator to start a job.

    Args:
        transcoder: its address, from OrchestratorInfo.
        auth_token: likewise; without it a stock orchestrator answers 403.
        capabilities: those of the discovery; made for the model when left out.
        ssl: stock gateways verify nothing, hence the default.

    Raises:
        PeerRefused: it answered no. Code ``orchestrator_capped``: no capacity, try the
            next one; ``orchestrator_token``: ask it again with GetOrchestrator;
            ``orchestrator_bad_request``: no other one will take it either;
            ``orchestrator_refused``: anything else.
        PeerTimeout: no answer in time.
        PeerError: unreachable, or a 200 that is no job answer (``bad_answer``).
    """
    if capabilities is None:
        capabilities = Capabilities.live({request.model_id: ModelConstraint()})
    segment = SegData.for_job(request.model_id, auth_token, capabilities)
    answer = await call(
        session,
        "POST",
        transcoder.rstrip("/") + PATH,
        timeout=timeout,
        limit=MAX_ANSWER,
        ssl=ssl,
        headers={
            "Content-Type": "application/json",
            "Livepeer-Payment": "",
            "Livepeer-Segment": segment.to_header(),
            "Authorization": PROTOCOL,
        },
        body=request.serialise(),
    )
    if answer.status != 200:
        raise _refusal(transcoder, answer)
    if not answer.is_json:
        raise PeerError(f"{transcoder}: a 200 without JSON: {answer.text!r}", code="bad_answer")
    try:
        return LiveJobAnswer.parse(answer.body, transcoder=transcoder)
    except BadInput as error:
        raise PeerError(f"{transcoder}: {error}", code="bad_answer") from error


def _refusal(transcoder: str, answer: HttpAnswer) -> PeerRefused:
    text = answer.text
    if answer.status == 503 or "OrchestratorCapped" in text or "insufficient capacity" in text:
        code = "orchestrator_capped"
    elif answer.status == 403 and "auth token" in text:
        code = "orchestrator_token"
    elif answer.status == 400 or "returned 400" in text or "returned 422" in text:
        code = "orchestrator_bad_request"
    else:
        code = "orchestrator_refused"
    return PeerRefused(f"{transcoder} answered {answer.status}: {text}", code=code)
