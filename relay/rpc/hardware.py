"""HardwareInformation: the cards behind one model, as a runner reports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.rpc import lp_rpc_pb2 as pb
from relay.rpc.wire import decode, encode


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card. Memory in bytes; ``major`` and ``minor`` are its compute capability."""

    id: str
    name: str
    major: int = 0
    minor: int = 0
    memory_free: int = 0
    memory_total: int = 0

    @classmethod
    def from_message(cls, message: pb.GPUComputeInfo) -> Gpu:
        return cls(
            message.id,
            message.name,
            message.major,
            message.minor,
            message.memory_free,
            message.memory_total,
        )

    def to_message(self) -> pb.GPUComputeInfo:
        return pb.GPUComputeInfo(
            id=self.id,
            name=self.name,
            major=self.major,
            minor=self.minor,
            memory_free=self.memory_free,
            memory_total=self.memory_total,
        )


@dataclass(frozen=True, slots=True)
class HardwareInformation:
    pipeline: str
    model_id: str
    gpus: Mapping[str, Gpu] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> HardwareInformation:
        return cls.from_message(decode(pb.HardwareInformation, data))

    def serialise(self) -> bytes:
        return encode(self.to_message)

    @classmethod
    def from_message(cls, message: pb.HardwareInformation) -> HardwareInformation:
        return cls(
            message.pipeline,
            message.model_id,
            {key: Gpu.from_message(gpu) for key, gpu in message.gpu_info.items()},
        )

    def to_message(self) -> pb.HardwareInformation:
        message = pb.HardwareInformation(pipeline=self.pipeline, model_id=self.model_id)
        for key, gpu in self.gpus.items():
            message.gpu_info[key].CopyFrom(gpu.to_message())
        return message
