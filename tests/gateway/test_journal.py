"""The network's events, field for field."""

from __future__ import annotations

import pytest

from relay.gateway import journal
from relay.gateway.journal import Entry, Found, Seller, Subject
from relay.gateway.status import Delay, Input, Output

US = Subject("str_1", "11467777", "effects", "pip_1")
URL = "https://127.0.0.1:8935"
HIM = Seller(URL, b"\x5a" * 20)
HIS = {"address": "0x" + "5a" * 20, "url": URL}
NOBODY = {"address": "", "url": ""}


@pytest.mark.parametrize(
    ("by", "info"),
    [
        (journal.NOBODY, NOBODY),
        (HIM, HIS),
        (Seller(URL), {"address": "0x" + "0" * 40, "url": URL}),
        (Seller(URL, bytes(20)), {"address": "0x" + "0" * 40, "url": URL}),
        (Seller(URL, b"x" * 4000), {"address": "0x" + "0" * 40, "url": URL}),
    ],
)
def test_a_trace(by: Seller, info: dict[str, str]) -> None:
    assert journal.trace("gateway_ingest_stream_closed", US, 1795442687974, by) == Entry(
        "stream_trace",
        {
            "type": "gateway_ingest_stream_closed",
            "timestamp": 1795442687974,
            "stream_id": "str_1",
            "pipeline_id": "pip_1",
            "request_id": "11467777",
            "orchestrator_info": info,
        },
    )


def test_a_swap_names_who_is_left_and_why() -> None:
    entry = journal.swap(US, 7, HIM, "no picture")
    assert entry.type == "stream_trace"
    assert entry.data == {
        "type": "orchestrator_swap",
        "timestamp": 7,
        "stream_id": "str_1",
        "request_id": "11467777",
        "pipeline": "effects",
        "pipeline_id": "pip_1",
        "message": "no picture",
        "orchestrator_info": HIS,
    }


def test_an_error() -> None:
    assert journal.error(US, "whip disconnected") == Entry(
        "ai_stream_events",
        {
            "type": "error",
            "request_id": "11467777",
            "stream_id": "str_1",
            "pipeline_id": "pip_1",
            "pipeline": "effects",
            "capability": "Live video to video",
            "message": "whip disconnected",
        },
    )


def test_an_update() -> None:
    assert journal.params_update(US, {"a": 1}, HIM) == Entry(
        "ai_stream_events",
        {
            "type": "params_update",
            "stream_id": "str_1",
            "request_id": "11467777",
            "pipeline": "effects",
            "pipeline_id": "pip_1",
            "params": {"a": 1},
            "orchestrator_info": HIS,
        },
    )


ADDED = {
    "stream_id": "str_1",
    "request_id": "11467777",
    "pipeline_id": "pip_1",
    "orchestrator_info": HIS,
}


@pytest.mark.parametrize(
    ("topic", "body", "wanted"),
    [
        ("ai_stream_events", {"type": "status", "state": "ONLINE"}, "ai_stream_status"),
        ("ai_stream_events", {"type": "restart"}, "ai_stream_events"),
        ("stream_trace", {"type": "runner_receive_stream_request"}, "stream_trace"),
        ("stream_heartbeat", {"type": "heartbeat", "stream_id": "a lie"}, "stream_heartbeat"),
        ("", {}, "ai_stream_events"),
        ("a\nb", {}, "ai_stream_events"),
        ("x" * 129, {}, "ai_stream_events"),
    ],
)
def test_a_runners_event_says_whose_stream_it_is(
    topic: str, body: dict[str, str], wanted: str
) -> None:
    assert journal.forwarded(US, topic, body, HIM) == Entry(wanted, body | ADDED)


def test_measures_of_ingest() -> None:
    seen = Input(True, 30.0, 2_000_000, 1280, 720, False, 351, 0, 0.1, 23.3, 322757)
    stats = journal.ingest_stats(seen, Output(30.0, 1, 1280, 720, Delay(60.0, 70.0, 66.0)))
    assert stats == {
        "peer_conn_stats": {"ID": "iceTransport", "BytesReceived": 322757, "BytesSent": 0},
        "track_stats": [
            {
                "type": "video",
                "jitter": 23.3,
                "packets_lost": 0,
                "packets_received": 351,
                "packet_loss_pct": 0.0,
                "rtt": 0,
                "latency": 0.066,
            }
        ],
        "conn_quality": "good",
    }
    assert journal.ingest_metrics(US, 7, stats) == Entry(
        "stream_ingest_metrics",
        {
            "timestamp": 7,
            "stream_id": "str_1",
            "pipeline_id": "pip_1",
            "request_id": "11467777",
            "stats": stats,
        },
    )


def test_who_was_found() -> None:
    entry = journal.discovered([Found(bytes(20), URL, 12.4), Found(b"\xab" * 20, "b", 0.2)])
    assert entry == Entry(
        "discovery_results",
        [
            {"address": "0x" + "0" * 40, "url": URL, "latency_ms": "12"},
            {"address": "0x" + "ab" * 20, "url": "b", "latency_ms": "0"},
        ],
    )


def test_the_envelope() -> None:
    entry = Entry("stream_trace", {"type": "x"})
    assert journal.envelope(entry, "an-id", now_ms=1795442687974, gateway="gw") == {
        "id": "an-id",
        "type": "stream_trace",
        "timestamp": "1795442687974",
        "gateway": "gw",
        "data": {"type": "x"},
    }
