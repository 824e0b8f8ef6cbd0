"""The meter in front of HTTP/2: lengths that lie, streams reset too fast, floods."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RateLimited, TooLarge
from relay.rpc.frame_meter import HEADERS, PREFACE, RST_STREAM, FrameMeter
from tests.rpc.captured import captured

PING = 0x6
SETTINGS = 0x4


def frame(kind: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1]) + payload


@given(st.lists(st.binary(max_size=50), max_size=30))
def test_bytes_from_strangers_pass_or_are_refused(pieces: list[bytes]) -> None:
    meter = FrameMeter(preface=False)
    for piece in pieces:
        try:
            meter.feed(piece, 0.0)
        except (TooLarge, RateLimited):
            return


@given(st.integers(1, 400))
def test_a_stock_gateways_connection_passes_in_any_pieces(step: int) -> None:
    data = captured("get-orchestrator/stock-gateway-asks.tls.c2s.bin")
    meter = FrameMeter(preface=True)
    for start in range(0, len(data), step):
        meter.feed(data[start : start + step], 0.0)


def test_a_frame_that_says_it_is_too_long_is_refused_by_its_header_alone() -> None:
    meter = FrameMeter(preface=True)
    meter.feed(PREFACE + frame(SETTINGS), 0.0)
    with pytest.raises(TooLarge):
        meter.feed(frame(0, length=16385), 0.0)


def test_streams_reset_without_end_are_refused() -> None:
    meter = FrameMeter(preface=False)
    pair = frame(HEADERS, b"x") + frame(RST_STREAM, b"1234")
    meter.feed(pair * 100, 0.0)
    with pytest.raises(RateLimited, match="reset"):
        meter.feed(pair, 0.0)


def test_streams_reset_now_and_then_pass() -> None:
    meter = FrameMeter(preface=False)
    for second in range(500):
        meter.feed(frame(HEADERS, b"x") + frame(RST_STREAM, b"1234"), float(second))


def test_a_flood_of_pings_is_refused() -> None:
    meter = FrameMeter(preface=False)
    meter.feed(frame(PING, bytes(8)) * 1000, 0.0)
    with pytest.raises(RateLimited, match="control"):
        meter.feed(frame(PING, bytes(8)), 0.0)


def test_a_flood_of_empty_data_is_refused() -> None:
    with pytest.raises(RateLimited):
        FrameMeter(preface=False).feed(frame(0) * 1001, 0.0)


def test_a_busy_client_with_its_pings_passes() -> None:
    meter = FrameMeter(preface=False)
    call = frame(HEADERS, b"x") + frame(0, b"data") + frame(PING, bytes(8)) + frame(8, bytes(4))
    meter.feed(call * 20_000, 0.0)
