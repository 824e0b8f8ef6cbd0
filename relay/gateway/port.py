"""What a gateway says of its UDP port."""

from __future__ import annotations

import logging

from relay.protocols.webrtc.udp import BUFFER, UdpPort

log = logging.getLogger(__name__)


def tell_of_buffers(port: UdpPort) -> None:
    """Where the system granted less than a gateway with many viewers needs."""
    if min(buffers := port.buffers) < BUFFER:
        log.info(
            "the UDP port's buffers are %d and %d KiB, of %d asked for: enough for a desk; for"
            " many viewers raise net.core.rmem_max and net.core.wmem_max (sysctl)",
            *(size >> 10 for size in (*buffers, BUFFER)),
        )
