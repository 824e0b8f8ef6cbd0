"""Whether an orchestrator and a gateway fit together, by the rules of the network.

A stock gateway also wants every transcoding capability that it has itself. Nothing of a live
job depends on those, so here an orchestrator of fewer words is taken too.
"""

from __future__ import annotations

import re
from typing import Final

from relay.errors import PeerRefused
from relay.rpc.capabilities import LIVE_VIDEO_TO_VIDEO, Capabilities, ModelConstraint

INCOMPATIBLE: Final = "orchestrator_incompatible"

_VERSION: Final = re.compile(r"v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?(?:[-+].*)?")

Version = tuple[int, int, int]


def parse_version(text: str) -> Version | None:
    """Major, minor and patch; what comes after a ``-`` or ``+`` does not count.

    None for what is no version: "undefined" of unlabelled builds, and nothing at all.
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    major, minor, patch = (int(part or 0) for part in found.groups())
    return major, minor, patch


def at_least(version: str, minimum: str) -> bool:
    """Whether ``version`` is ``minimum`` or newer; anything is when there is no minimum."""
    if not minimum:
        return True
    lowest, told = parse_version(minimum), parse_version(version)
    return lowest is not None and told is not None and told >= lowest


def check_node(ours: Capabilities, theirs: Capabilities | None) -> None:
    """Whether to work with a node at all.

    Args:
        ours: what we have, and with ``min_version`` what we want.
        theirs: what it tells.

    Raises:
        PeerRefused: code ``orchestrator_incompatible``, with the reason in words.
    """
    if theirs is None or theirs.constraints is None:
        raise PeerRefused("it tells no capabilities", code=INCOMPATIBLE)
    if not at_least(theirs.version, ours.min_version):
        told = theirs.version or "none"
        raise PeerRefused(
            f"its version ({told:.40}) is not {ours.min_version} or newer", code=INCOMPATIBLE
        )
    missing = [
        64 * index + bit
        for index, word in enumerate(theirs.mandatories)
        for bit in range(word.bit_length())
        if word >> bit & 1 and not ours.has(64 * index + bit)
    ][:8]
    if missing:
        raise PeerRefused(f"it asks for capabilities {missing}", code=INCOMPATIBLE)
    if theirs.bitstring and not theirs.has(LIVE_VIDEO_TO_VIDEO):
        raise PeerRefused("it does no live video", code=INCOMPATIBLE)


def fits(wanted: ModelConstraint, told: ModelConstraint) -> bool:
    """Whether a model is warm and new enough, as far as that is asked for."""
    if wanted.warm and not told.warm:
        return False
    return at_least(told.runner_version, wanted.runner_version)
