"""What a listener is told of the network, field for field, and within bounds."""

from __future__ import annotations

from typing import Any

import orjson

from relay.gateway import census, courier
from relay.gateway.census import Census, described
from relay.gateway.journal import Entry
from relay.rpc.capabilities import Capabilities, ModelConstraint
from relay.rpc.hardware import Gpu, HardwareInformation
from relay.rpc.orchestrator_info import OrchestratorInfo
from relay.rpc.price_info import PriceInfo
from relay.rpc.ticket_params import TicketParams

URL = "https://127.0.0.1:8935"


def node(models: int = 1, url: str = URL, filling: int = 0) -> OrchestratorInfo:
    told = {f"m{i}" + "x" * filling: ModelConstraint(warm=True, capacity=2) for i in range(models)}
    return OrchestratorInfo(url, bytes(20), Capabilities.live(told))


def told(*rounds: list[OrchestratorInfo], every: float = census.INTERVAL) -> list[Entry]:
    entries: list[Entry] = []
    asked = Census()
    for number, infos in enumerate(rounds):
        asked.begin(number * every)
        for info in infos:
            asked.heard(info)
        asked.end(number * every, entries.append)
    return entries


def test_an_orchestrator_of_the_chain_is_told_with_numbers_and_stock_names() -> None:
    info = OrchestratorInfo(
        transcoder=URL,
        address=b"\xab" * 20,
        capabilities=Capabilities(
            bitstring=(1 << 35,),
            capacities={35: 1},
            version="0.9.1",
            constraints={35: {"m": ModelConstraint(True, 2, "1.0", 1), "cold": ModelConstraint()}},
            min_version="0.9.0",
        ),
        price_info=PriceInfo(7, 1),
        ticket_params=TicketParams(b"\xcd" * 20, b"", b"", b"", b"", b""),
        capabilities_prices=(PriceInfo(9, 2, 35, "m"),),
        hardware=(
            HardwareInformation(
                "live-video-to-video", "m", {"0": Gpu("g", "H100", 9, 0, 1 << 35, 1 << 36)}
            ),
        ),
    )
    assert described(info) == {
        "address": "0x" + "cd" * 20,
        "local_address": "0x" + "ab" * 20,
        "orch_uri": URL,
        "capabilities": {
            "bitstring": [1 << 35],
            "capacities": {"35": 1},
            "version": "0.9.1",
            "constraints": {
                "minVersion": "0.9.0",
                "PerCapability": {
                    "35": {
                        "models": {
                            "m": {
                                "warm": True,
                                "capacity": 2,
                                "runnerVersion": "1.0",
                                "capacityInUse": 1,
                            },
                            "cold": {},
                        }
                    }
                },
            },
        },
        "price_info": {"pricePerUnit": 7, "pixelsPerUnit": 1},
        "capabilities_prices": [
            {"pricePerUnit": 9, "pixelsPerUnit": 2, "capability": 35, "constraint": "m"}
        ],
        "hardware": [
            {
                "pipeline": "live-video-to-video",
                "model_id": "m",
                "gpu_info": {
                    "0": {
                        "id": "g",
                        "name": "H100",
                        "major": 9,
                        "memory_free": 1 << 35,
                        "memory_total": 1 << 36,
                    }
                },
            }
        ],
    }


def test_what_is_absent_off_chain_is_null() -> None:
    assert described(OrchestratorInfo(URL, bytes(20))) == {
        "address": "",
        "local_address": "0x" + "0" * 40,
        "orch_uri": URL,
        "capabilities": None,
        "price_info": None,
        "capabilities_prices": None,
        "hardware": None,
    }


def test_it_is_told_at_once_and_then_now_and_then() -> None:
    one = [node()]
    assert len(told(one, one, one, every=10.0)) == 1
    assert len(told(one, one)) == 2
    assert len(told([], one, every=10.0)) == 1  # nobody had answered at first


def test_a_long_list_goes_in_several_events_that_a_courier_takes() -> None:
    infos = [node(20, f"https://127.0.0.1:{number}") for number in range(300)]
    entries = told(infos)
    assert len(entries) > 1
    urls = [one["orch_uri"] for entry in entries for one in entry.data]
    assert urls == [info.transcoder for info in infos]
    for entry in entries:
        assert entry.type == "network_capabilities"
        assert len(orjson.dumps(entry.data)) < courier.MAX_EVENT - 1024


def test_one_that_tells_too_much_is_told_without_it() -> None:
    (entry,) = told([node(1000, filling=100), node()])
    first, second = entry.data
    assert first["capabilities"] is None
    assert second["capabilities"] is not None
    assert told([node(url="https://" + "x" * 100_000)]) == []


def test_a_telling_has_a_bound() -> None:
    infos = [node(300, filling=100) for _ in range(100)]
    size = sum(len(orjson.dumps(entry.data)) for entry in told(infos))
    assert census.MAX_ROUND / 2 < size < census.MAX_ROUND * 1.1


def test_numbers_that_are_no_json_are_left_out() -> None:
    wrong: Any = Capabilities(bitstring=(1 << 70,))
    (entry,) = told([OrchestratorInfo(URL, bytes(20), wrong)])
    assert entry.data[0]["capabilities"] is None
