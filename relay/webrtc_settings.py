"""The settings of WebRTC, a part of ``config.py``'s tree."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from relay.wrong_settings import ICE_URL, MOST_PROCESSES, processes

Processes = Annotated[Literal["auto"] | int, BeforeValidator(processes)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IceServer(Section):
    """One STUN or TURN server, handed to clients in ``Link``."""

    url: str = Field(pattern=ICE_URL)
    username: str | None = None
    credential: str | None = None


class WebRtc(Section):
    """The one UDP port that all peers of a gateway share."""

    host: str = Field("127.0.0.1", description="Address the UDP port is bound to.")
    port: int = Field(7280, ge=0, le=65535, description="UDP port; 0 takes a free one.")
    tcp_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="TCP port for peers whose UDP is blocked (ICE-TCP); default: none.",
    )
    public_addresses: list[str] = Field(
        default_factory=list,
        description="Addresses told to peers instead of the bound one; bound=public: NAT 1:1.",
    )
    ice_servers: list[IceServer] = Field(
        default_factory=list, description="Handed to clients in Link headers."
    )
    connect_timeout: float = Field(
        15.0, gt=0, le=120, description="Seconds for ICE and DTLS to come up."
    )
    consent_timeout: float = Field(
        10.0, gt=0, le=120, description="Seconds without a sign of life until a peer is given up."
    )
    native: bool = Field(
        True, description="Send and receive media by native code, where it was built."
    )
    egress_processes: Processes = Field(
        "auto",
        description="Processes that may serve viewers beside the gateway's own, each started "
        "when it is needed; auto: one for each core but one.",
    )
    egress_idle: float = Field(
        60.0,
        ge=0,
        description="Seconds without a viewer after which such a process ends.",
    )
    ingest_processes: int = Field(
        0,
        ge=0,
        le=MOST_PROCESSES,
        description="Processes that receive publishers in the place of the gateway: what "
        "publishers send is then taken apart where nothing else is, and costs more; 0: none, 64 at "
        "most.",
    )
