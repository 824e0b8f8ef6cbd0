"""Every setting, in one tree: one YAML file, each key also ``RELAY_SECTION__KEY``.

Order of precedence: command line, environment, file, the defaults here. A key that
does not exist is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from relay.errors import ConfigError
from relay.settings_file import carried, check_file
from relay.webrtc_settings import IceServer as IceServer
from relay.webrtc_settings import Section
from relay.webrtc_settings import WebRtc as WebRtc
from relay.wrong_settings import (
    HTTP_URL,
    NODE_URL,
    PRICE,
    VERSION,
    in_words,
    node_url,
)

NodeTls = Annotated[
    Literal["pin", "ca", "off"],
    # YAML reads a bare "off" as false; check_file has refused other words that it reads so.
    BeforeValidator(lambda value: "off" if value is False else value),
]
ReachMode = Literal["auto", "any", "same-host"]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Tls(Section):
    cert: Path | None = Field(None, description="PEM certificate chain of the HTTP side.")
    key: Path | None = Field(None, description="PEM key of the HTTP side.")
    self_signed: bool = Field(False, description="Make a certificate at start (phones need HTTPS).")


class NodeTlsFiles(Section):
    cert: Path | None = Field(None, description="PEM certificate chain; default: one of our own.")
    key: Path | None = Field(None, description="PEM key of it.")


class Kafka(Section):
    """A topic that the network's events go to; needs the extra ``kafka``."""

    servers: list[str] = Field(min_length=1, description="Brokers, host:port.")
    topic: str = Field(min_length=1, description="Topic of all events.")
    user: str | None = Field(None, description="SASL/PLAIN user; turns TLS on.")
    password: str | None = Field(None, description="Its password.")


def _is_asked(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is not None and info.data.get("node_tls") != "ca":
        raise ValueError("is asked with node_tls: ca only")
    return path


NodeCa = Annotated[
    Path | None,
    AfterValidator(_is_asked),
    Field(description="PEM of more authorities for node_tls: ca."),
]
HttpUrl = Annotated[str, Field(pattern=HTTP_URL)]
ServiceUrl = Annotated[str, Field(pattern=NODE_URL)]
NodeUrl = Annotated[str, AfterValidator(node_url)]


class Gateway(Section):
    host: str = Field("127.0.0.1", description="HTTP address.")
    port: int = Field(9935, ge=0, le=65535, description="HTTP port; 0 takes a free one.")
    public_url: str | None = Field(None, description="Base of the addresses handed to clients.")
    orchestrators: list[NodeUrl] = Field(
        default_factory=lambda: ["https://127.0.0.1:8935"],
        description="Orchestrators, best first when all else is equal.",
    )
    orchestrator_webhook: ServiceUrl | None = Field(
        None, description="Address of a list of more orchestrators: [{address, score}]."
    )
    orchestrator_webhook_headers: dict[str, str] = Field(
        default_factory=dict, description="Sent along to orchestrator_webhook."
    )
    remote_signer: ServiceUrl | None = Field(
        None, description="Base address of a remote signer; its /discover-orchestrators is asked."
    )
    remote_signer_headers: dict[str, str] = Field(
        default_factory=dict, description="Sent along to remote_signer."
    )
    discovery_models: list[str] = Field(
        default_factory=list,
        description="Ask the remote signer for orchestrators of these models only.",
    )
    extra_nodes: int = Field(
        0,
        ge=0,
        le=100,
        description="Further addresses that are asked of those that an orchestrator names.",
    )
    min_orchestrator_version: str = Field(
        "", pattern=VERSION, description="Oldest version of an orchestrator that is bought from."
    )
    min_runner_version: dict[str, Annotated[str, Field(pattern=VERSION)]] = Field(
        default_factory=dict, description="Oldest version of a runner by model."
    )
    max_price: str | None = Field(
        None,
        pattern=PRICE,
        coerce_numbers_to_str=True,
        description="Most that is paid, in wei a pixel, exact: 1200, 0.5 or 3/7.",
    )
    publish_key: str | None = Field(None, description="Bearer token that publishing needs.")
    open: bool = Field(False, description="Let anyone publish, also on a public address.")
    default_model: str = Field("effects", description="Model of a stream that names none.")
    show_source_while_switching: bool = Field(
        False, description="Let viewers see the unprocessed source while a worker is replaced."
    )
    output_timeout: float = Field(
        1.0,
        ge=0.25,
        le=60,
        description="Seconds without output, while input flows, until a job moves.",
    )
    max_streams: int = Field(100, ge=1, description="Live streams at once.")
    max_viewers: int = Field(1000, ge=1, description="Viewers at once, over all streams.")
    viewer_wait: float = Field(
        60.0, gt=0, description="Seconds a viewer waits for a publisher before it is let go."
    )
    drain_timeout: float = Field(30.0, ge=0, description="Seconds that SIGTERM lets streams end.")
    start_timeout: float = Field(
        10.0, gt=0, le=300, description="Seconds a new job gets until its first picture."
    )
    node_tls: NodeTls = Field(
        "pin",
        description="Certificates of orchestrators: pin the first seen, ask a ca, or off.",
    )
    node_ca: NodeCa = None
    reach: ReachMode = Field(
        "auto",
        description="Addresses orchestrators may name: auto (no nearer than they), any, same-host.",
    )
    data_dir: Path = Field(Path(".relay"), description="Where a self-signed certificate is kept.")
    auth_webhook: HttpUrl | None = Field(
        None, description="Asked about each publisher before it is let in."
    )
    auth_webhook_key: str | None = Field(
        None, description="Sent to the webhook as x-api-key and Authorization."
    )
    heartbeat_url: HttpUrl | None = Field(
        None, description="Told the ids of live streams; its answer may end some."
    )
    heartbeat_interval: float = Field(5.0, ge=0.1, description="Seconds between heartbeats.")
    heartbeat_headers: dict[str, str] = Field(
        default_factory=dict, description="Headers of each heartbeat."
    )
    events_webhook: HttpUrl | None = Field(
        None, description="Gets the network's events, as JSON lists of envelopes."
    )
    events_secret: str | None = Field(
        None, description="Signs what the events webhook gets (HMAC-SHA256)."
    )
    kafka: Kafka | None = Field(None, description="Topic that the network's events go to.")
    webrtc: WebRtc = WebRtc()
    tls: Tls = Tls()

    @property
    def own_orchestrators(self) -> list[str]:
        """The operator's own list. Its default, this machine, counts only while no other
        list is named."""
        elsewhere = self.orchestrator_webhook or self.remote_signer
        if elsewhere and "orchestrators" not in self.model_fields_set:
            return []
        return self.orchestrators


class Runner(Section):
    """What means something here in an entry of the network's models file (``aiModels.json``)."""

    pipeline: str = "live-video-to-video"
    model_id: str
    url: str
    token: str | None = None
    warm: bool = True
    capacity: int = Field(1, ge=0)
    price_per_unit: int = Field(0, ge=0)
    pixels_per_unit: int = Field(1, ge=1)
    currency: str = "wei"


class Orchestrator(Section):
    host: str = Field("127.0.0.1", description="Address of the one port (gRPC, REST, trickle).")
    port: int = Field(8935, ge=0, le=65535, description="Port; 0 takes a free one.")
    service_url: str | None = Field(
        None, description="Address told to gateways; https:// serves TLS, http:// plain text."
    )
    trickle_url: str | None = Field(
        None,
        description="Base of the trickle addresses given to gateways; default: service_url. "
        "http:// beside an https service_url is served here, in plain text, on its port.",
    )
    runner_trickle_url: str | None = Field(
        None, description="Base of the trickle addresses given to runners; default: service_url."
    )
    separate_names: bool = Field(
        False,
        description="Give gateway and runner names of their own for a job's channels: each "
        "writes and reads only what is its part.",
    )
    trickle_tokens: bool = Field(
        False,
        description="Ask for a bearer token with each trickle request. Gateway and runner get "
        "one each with the job; stock ones do not send it, and their jobs end.",
    )
    models: list[Runner] = Field(default_factory=list, description="Runners, models-file shape.")
    models_file: Path | None = Field(
        None,
        description="The network's models file, JSON; or its short form, "
        "pipeline:model_id:warm with commas between.",
    )
    runner_url: str | None = Field(
        None, description="Runner of the models whose entry in the models file has no url."
    )
    data_dir: Path = Field(Path(".relay"), description="Where the node keeps its certificate.")
    tls: NodeTlsFiles = NodeTlsFiles()
    health_interval: float = Field(5.0, gt=0, description="Seconds between runner health polls.")
    drain_timeout: float = Field(30.0, ge=0, description="Seconds that SIGTERM lets jobs end.")


class Pipeline(Section):
    """A pipeline that a worker offers under a model id."""

    model_id: str
    entry: str = Field(description="module:Class, imported in the slot's child only.")
    settings: Annotated[dict[str, Any], BeforeValidator(carried)] = Field(default_factory=dict)


def _default_pipelines() -> list[Pipeline]:
    return [
        Pipeline(model_id="effects", entry="pipelines.effects:Effects"),
        Pipeline(model_id="passthrough", entry="pipelines.passthrough:Passthrough"),
        Pipeline(model_id="echo", entry="pipelines.echo:Echo"),
    ]


class Worker(Section):
    host: str = Field("127.0.0.1", description="Address of the runner API.")
    port: int = Field(8900, ge=0, le=65535, description="Port; 0 takes a free one.")
    token: str | None = Field(None, description="Bearer token that the runner API needs.")
    slots: int = Field(2, ge=1, le=64, description="Warm child processes; each runs one job.")
    pipelines: list[Pipeline] = Field(default_factory=_default_pipelines)
    bitrate: int = Field(2_500_000, ge=50_000, description="Output bits a second.")
    keyframe_interval: float = Field(2.0, gt=0, description="Seconds between output key frames.")
    watchdog: float = Field(
        3.0, gt=0, description="Seconds a child may stay silent until it is replaced."
    )
    node_tls: NodeTls = Field(
        "pin", description="Certificates of trickle servers: pin the first seen, ask a ca, or off."
    )
    node_ca: NodeCa = None
    reach: ReachMode = Field(
        "auto",
        description="Addresses orchestrators may name: auto (no nearer than they), any, same-host.",
    )
    drain_timeout: float = Field(30.0, ge=0, description="Seconds that SIGTERM lets jobs end.")


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Settings(BaseSettings):
    """The whole tree. ``Settings.load`` is the way to make one."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    gateway: Gateway = Gateway()
    orchestrator: Orchestrator = Orchestrator()
    worker: Worker = Worker()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, YamlConfigSettingsSource(settings_cls))

    @classmethod
    def load(cls, path: Path | None = None, **overrides: Any) -> Settings:
        """Read the file (if any), the environment and the overrides.

        Raises:
            ConfigError: a key that does not exist or stands in the file twice, a value of the
                wrong kind, or a file that cannot be read. The message names each key.
        """
        if path is not None:
            try:
                check_file(path)
            except ValueError as error:
                raise ConfigError(str(error)) from error
        configured = type(
            "Settings",
            (cls,),
            {"model_config": SettingsConfigDict(yaml_file=path), "__module__": cls.__module__},
        )
        try:
            return configured(**overrides)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise ConfigError(in_words(error, known_keys)) from error


def known_keys(section: Sequence[str | int]) -> list[str]:
    """The keys of a section, from the root on; none where there is no such section."""
    model: Any = Settings
    for part in section:
        if isinstance(part, int):  # an entry of a list
            model = next(iter(get_args(model)), None)
            continue
        field = getattr(model, "model_fields", {}).get(part)
        model = None if field is None else field.annotation
    return [".".join((*map(str, section), name)) for name in getattr(model, "model_fields", {})]


def is_loopback(host: str) -> bool:
    return host in LOOPBACK or host.startswith("127.")
