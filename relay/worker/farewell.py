"""What the parent tells a job's readers when the job's process is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

import aiohttp

from relay.errors import PeerError
from relay.rpc.events import Event
from relay.rpc.runner import RunnerStart
from relay.rpc.trickle_token import token_header
from relay.rpc.trust import JobTrust

log = logging.getLogger(__name__)

WITHIN: Final = 2.0
NEXT: Final = -1


async def farewell(
    session: aiohttp.ClientSession, job: RunnerStart, reason: str, trust: JobTrust
) -> None:
    """An error event, then the end of the output and events channels.

    Best effort: whoever holds the channels notices by itself when they fall silent.
    """
    token = token_header(job.trickle_token)
    event = Event.error(job.model_id, reason, time=round(time.time() * 1000)).serialise()
    if job.events_url:
        await _call(session, "POST", f"{job.events_url}/{NEXT}", trust, token, event)
    deletes = [
        _call(session, "DELETE", url, trust, token)
        for url in (job.publish_url, job.events_url)
        if url
    ]
    await asyncio.gather(*deletes)


async def _call(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    trust: JobTrust,
    token: Mapping[str, str],
    body: bytes | None = None,
) -> None:
    headers = {**token, **({"Content-Type": "application/json"} if body else {})}
    try:
        guard = trust.guard(url)
        async with (
            asyncio.timeout(WITHIN),
            session.request(
                method, url, data=body, headers=headers, ssl=guard.ssl, allow_redirects=False
            ) as response,
        ):
            log.debug("%s of a lost job: %s", method, response.status)
    except (aiohttp.ClientError, OSError, PeerError) as error:
        log.info("%s of a lost job failed: %s", method, error)
