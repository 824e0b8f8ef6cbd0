"""Egress in more processes than one, behind one UDP port.

``pool`` is the egress that the gateway sees: its own, which serves the first viewers, and
processes that it starts when that one has much to do. Where a viewer goes, and when a process
is started or let go, ``placement`` says, from the ``load`` of each.

``process`` is a process as the gateway sees it, ``child`` what runs in it; between them go
``messages``, as ``wire`` writes them, over the socket pair of ``link``. ``feed`` hands a
rendition's pictures on, and drops to a key frame where they are not read. A viewer's
``session`` stands in for the one that lives there.

The gateway alone reads the UDP port, and finds a datagram's process by ``far``; each process
sends from the port itself, which it was lent (``lent``).
"""
