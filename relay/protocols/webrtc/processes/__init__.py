"""Egress and ingest in more processes than one, behind one UDP port.

``egresses`` is the egress that the gateway sees: its own, which serves the first viewers, and
processes that it starts when that one has much to do. Where a viewer goes, and when a process is
started or let go, ``placement`` says, from the ``load`` of each. ``ingests`` is the same of
publishers, whom processes receive from the start, where that is set. Both are a ``pool``.

``process`` is a process as the gateway sees it (``egress_process``, ``ingest_process``), ``child``
what runs in it (``egress_child``, ``ingest_child``); between them go ``messages``, as ``wire``
writes them, over the socket pair of ``link``. ``feed`` hands a stream's pictures on, either way,
and drops to a key frame where they are not read. A ``session`` stands in for the one that lives
there; a publisher's is ``far_publisher``.

The gateway alone reads the UDP port, and finds a datagram's process by ``far``; each process
sends from the port itself, which it was lent (``lent``). Who is told of a process's end, and how,
says ``orphans``.
"""
