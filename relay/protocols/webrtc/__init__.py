"""WebRTC, as a walk from datagram to access unit and back.

In: ``udp`` (``tcp``, ``framing``) reads batches of ``datagrams``, bounds strangers by ``sources``
and ``half_open``, and finds the session by ``stun`` or address (``registered``). ``ice`` and
``path`` say where a peer is, ``roaming`` that it has moved. ``dtls`` agrees on keys behind a
``certificate``, ``peer`` opens ``srtp`` with them. ``rtp`` is parsed, ``receive``
(``receive_audio``) puts packets in order, ``repair`` asks for lost ones, ``h264_payload`` makes
access units, ``reception``, ``arrivals`` (``congestion``) and ``remb`` report to the sender,
``keyframe_requests`` ask it, ``ingest`` hands on. ``native_receive`` and ``native_lane`` (over
``native/``) do the same for a video in order, from datagrams to access units; ``budget`` bounds
what one peer may cost.

Out: ``egress`` has renditions, ``rendition`` knows who gets what, ``viewer`` what state each is
in. ``fanout`` (``native_fanout`` over ``native/``) writes headers, protects and sends; ``pacing``
spreads large pictures, ``sent`` keeps what may be asked for again, ``sendlog``, ``estimate`` and
``link`` judge the way there. ``rtcp`` is the wire of all feedback.

``processes`` does all of that for more viewers than one process can serve, behind the same port.

Coming in: ``sdp``, ``negotiation`` and ``description`` read an offer and write the answer,
``sdpfrag`` and ``session`` are WHIP's and WHEP's PATCH, ``turns`` has joins wait for one another.
``peers`` is what all share; ``client``, ``offering`` and ``resource`` are the other side of the
same protocols.
"""
