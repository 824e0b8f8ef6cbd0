"""A remote signer's ``/discover-orchestrators``: who is there, and for what.

The answer is ``[{"address", "score", "capabilities", "runners"}]``. The signer gathers it
now and then, so it may be old; an orchestrator is asked itself before anything is bought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

import aiohttp

from relay.errors import BadInput, PeerError, PeerRefused, TooLarge, Unavailable
from relay.market.sources import Roll
from relay.rpc.capabilities import LIVE_PIPELINE
from relay.rpc.http import call
from relay.rpc.orchestrator_webhook import parse_list

PATH: Final = "/discover-orchestrators"
TIMEOUT: Final = 3.0
MAX_BODY: Final = 4 << 20
"""Bytes: each entry also lists its runners."""


def discovery_url(signer: str, models: Sequence[str] = ()) -> str:
    """Where to ask a signer; with ``models`` for those who have one of them."""
    query = urlencode([("caps", f"{LIVE_PIPELINE}/{model}") for model in models], safe="/")
    return f"{signer.rstrip('/')}{PATH}{'?' if query else ''}{query}"


async def discover(
    session: aiohttp.ClientSession,
    signer: str,
    *,
    models: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> Roll:
    """Ask a remote signer, within 3 seconds.

    Args:
        signer: its base address.
        models: of the live pipeline; none of them asks for everyone.

    Raises:
        Unavailable: code ``discovery_pending``: it has not gathered anything yet (503).
        PeerRefused: answered with another status than 200.
        PeerError: unreachable, too late (PeerTimeout), or no list (``peer_answer``).
    """
    url = discovery_url(signer, models)
    answer = await call(session, "GET", url, timeout=TIMEOUT, limit=MAX_BODY, headers=headers)
    if answer.status == 503:
        raise Unavailable(f"GET {url}: nothing is gathered yet", code="discovery_pending")
    if answer.status != 200:
        raise PeerRefused(f"GET {url} answered {answer.status}: {answer.text}")
    try:
        return parse_list(answer.body, limit=MAX_BODY)
    except (BadInput, TooLarge) as error:
        raise PeerError(f"GET {url}: {error}", code="peer_answer") from error
