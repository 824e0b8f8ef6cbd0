"""Asks the operator's authentication webhook about a publisher, before it is let in.

It fails closed: what cannot be asked, and what is answered badly, is refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from relay.errors import Forbidden, ParseError, PeerError, Unavailable
from relay.gateway import places
from relay.policy.webhook import BAD_ANSWER, Permit, Question, headers
from relay.rpc.http import HttpAnswer, call
from relay.rpc.json_body import load_object

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
TIMEOUT: Final = 5.0
MAX_ANSWER: Final = 64 << 10
REFUSED: Final = "auth_webhook_refused"
FAILED: Final = "auth_webhook_failed"


@dataclass(frozen=True, slots=True)
class Visit:
    """How a publisher came, beside what it wants to run.

    Attributes:
        query: the raw query of its address.
        base: where clients reach this gateway.
        orchestrator: part of the address of the orchestrators that may serve it.
        rtmp_output: where else it wants its output sent.
    """

    query: str = ""
    base: str = ""
    orchestrator: str = ""
    rtmp_output: str = ""


class Doorman:
    """
    Args:
        url: the webhook; None lets everyone pass as they are.
        key: what it knows us by.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str | None, key: str | None) -> None:
        self._http = http
        self._url = url
        self._key = key
        self._asking = 0

    async def ask(self, name: str, visit: Visit, *, stream_id: str, request_id: str) -> Permit:
        """What this publisher may have.

        Raises:
            Unavailable: too many are being asked about; code ``busy``.
            Forbidden: the webhook says no; code ``auth_webhook_refused``.
            PeerError: it cannot be asked, or its answer is none; a code of its own.
        """
        if self._url is None:
            return Permit()
        if self._asking >= AT_ONCE:
            raise Unavailable("too many publishers at once", code="busy", retry_after=1)
        question = Question(
            stream=name,
            query=visit.query,
            host=urlsplit(visit.base).netloc,
            whep_url=places.playback(visit.base, name, request_id),
            status_url=places.status(visit.base, stream_id),
            update_url=places.update(visit.base, name),
        )
        self._asking += 1
        try:
            return self._read(await self._post(self._url, question))
        except PeerError as error:
            log.warning("stream %s: the authentication webhook: %s", name, error)
            # Where it is and how it fails is the operator's business, not the publisher's.
            if error.code == BAD_ANSWER:
                words, code = "the authentication webhook's answer cannot be read", BAD_ANSWER
            else:
                words, code = "the authentication webhook cannot be asked at the moment", FAILED
            raise type(error)(words, code=code, retry_after=5) from error
        finally:
            self._asking -= 1

    async def _post(self, url: str, question: Question) -> HttpAnswer:
        return await call(
            self._http,
            "POST",
            url,
            timeout=TIMEOUT,
            limit=MAX_ANSWER,
            headers=headers(self._key),
            body=question.body(),
        )

    def _read(self, answer: HttpAnswer) -> Permit:
        if 400 <= answer.status < 500:
            raise Forbidden("the authentication webhook refuses this publisher", code=REFUSED)
        if not 200 <= answer.status < 300:
            raise PeerError(f"it answered {answer.status}")
        try:
            fields = load_object(answer.body, what="the answer", limit=MAX_ANSWER)
        except ParseError as error:
            raise PeerError(str(error), code=BAD_ANSWER) from error
        return Permit.read(fields)
