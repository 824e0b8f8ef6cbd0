"""The ``relay`` command. Each command imports what it needs when it runs."""

from __future__ import annotations

import atexit
import gc
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from relay.cli import conformance
from relay.cli.arguments import (
    MEDIA,
    NETWORK,
    CacertOption,
    ConfigOption,
    GatewayPortOption,
    HostOption,
    InsecureOption,
    JsonOption,
    Level,
    LevelOption,
    ModelOption,
    OpenOption,
    ParamsOption,
    PortOption,
    PrintOption,
    SelfSignedOption,
    SetOption,
    SupervisedOption,
    TokenOption,
)

if TYPE_CHECKING:
    from relay.config import Settings
    from relay.errors import RelayError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2

DEMO_PARAMS: Final[dict[str, Any]] = {"effect": "cartoon"}


app = typer.Typer(
    name="relay",
    help="Live video through AI, by a Livepeer network of your own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(conformance.app, rich_help_panel=NETWORK)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"relay {metadata.version('relay-gateway')}")
        raise typer.Exit(OK)


@app.callback()
def _whole(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it, and end."),
    ] = False,
) -> None:
    """Live video through AI, by a Livepeer network of your own."""


def _settings(
    config: Path | None,
    assignments: list[str] | None,
    level: Level | None,
    print_config: bool,
    flags: Mapping[str, Any],
) -> Settings:
    from relay.cli import options, printed

    settings = options.load(
        config, assignments or (), {**flags, "log.level": level.value if level else None}
    )
    if print_config:
        sys.stdout.write(printed.settings_yaml(settings))
        raise typer.Exit(OK)
    return settings


def _gateway_flags(
    host: str | None, port: int | None, opened: bool | None, self_signed: bool | None
) -> dict[str, Any]:
    return {
        "gateway.host": host,
        "gateway.webrtc.host": host,
        "gateway.port": port,
        "gateway.open": opened,
        "gateway.tls.self_signed": self_signed,
    }


def _role(name: str, settings: Settings, as_json: bool) -> NoReturn:
    from relay.cli import nodes, ready, role
    from relay.cli.taken import refuse_taken

    refuse_taken(settings, name)

    def on_ready(told: Mapping[str, Any]) -> str:
        return json.dumps(told) if as_json else ready.role_block(name, settings, told)

    role.leave(role.run(name, nodes.ROLES[name], settings, line=None, on_ready=on_ready))


def _supervised(name: str, fd: int) -> NoReturn:
    """A role under ``relay up``: its settings come by the line, not from the command line."""
    from relay.cli import nodes, role
    from relay.cli.lifeline import ChildLine
    from relay.config import Settings

    line = ChildLine(fd)
    nodes.preload(name)
    settings = Settings.load(None, **line.receive())
    role.leave(role.run(name, nodes.ROLES[name], settings, line=line))


@app.command(rich_help_panel=NETWORK)
def up(
    host: HostOption = None,
    port: GatewayPortOption = None,
    opened: OpenOption = None,
    self_signed: SelfSignedOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    print_config: PrintOption = False,
    log_level: LevelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start gateway, orchestrator and worker on this machine."""
    settings = _settings(
        config,
        assignments,
        log_level,
        print_config,
        _gateway_flags(host, port, opened, self_signed),
    )
    from relay.cli import up as whole

    raise typer.Exit(whole.run(settings, as_json=as_json))


@app.command(rich_help_panel=NETWORK)
def gateway(
    host: HostOption = None,
    port: PortOption = None,
    opened: OpenOption = None,
    self_signed: SelfSignedOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    print_config: PrintOption = False,
    log_level: LevelOption = None,
    as_json: JsonOption = False,
    supervised: SupervisedOption = None,
) -> None:
    """Run the gateway: studio, WHIP, WHEP and API; it buys from orchestrators."""
    if supervised is not None:
        _supervised("gateway", supervised)
    flags = _gateway_flags(host, port, opened, self_signed)
    _role("gateway", _settings(config, assignments, log_level, print_config, flags), as_json)


@app.command(rich_help_panel=NETWORK)
def orchestrator(
    host: HostOption = None,
    port: PortOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    print_config: PrintOption = False,
    log_level: LevelOption = None,
    as_json: JsonOption = False,
    supervised: SupervisedOption = None,
) -> None:
    """Run an orchestrator: it sells the work of its runners."""
    if supervised is not None:
        _supervised("orchestrator", supervised)
    flags = {"orchestrator.host": host, "orchestrator.port": port}
    _role("orchestrator", _settings(config, assignments, log_level, print_config, flags), as_json)


@app.command(rich_help_panel=NETWORK)
def worker(
    host: HostOption = None,
    port: PortOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    print_config: PrintOption = False,
    log_level: LevelOption = None,
    as_json: JsonOption = False,
    supervised: SupervisedOption = None,
) -> None:
    """Run a worker: decode, pipeline, encode."""
    if supervised is not None:
        _supervised("worker", supervised)
    flags = {"worker.host": host, "worker.port": port}
    _role("worker", _settings(config, assignments, log_level, print_config, flags), as_json)


@app.command(rich_help_panel=MEDIA)
def publish(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Anything FFmpeg reads.")],
    to: Annotated[str, typer.Option(metavar="URL", help="The WHIP address.")],
    token: TokenOption = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Go on while nobody offers it.")] = False,
    model: ModelOption = None,
    params: ParamsOption = None,
    insecure: InsecureOption = False,
    cacert: CacertOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a file by WHIP, at its own pace."""
    chosen = _object(params)
    from relay.cli import publish as publishing

    request = publishing.Request(
        file, to, token, loop, model, chosen, as_json, insecure, cacert, wait
    )
    raise typer.Exit(publishing.run(request))


@app.command(rich_help_panel=MEDIA)
def watch(
    url: Annotated[str, typer.Argument(metavar="URL", help="A stream's WHEP address.")],
    viewers: Annotated[int, typer.Option("--viewers", "-n", min=1, max=5000, help="So many.")] = 1,
    seconds: Annotated[
        float, typer.Option(min=1, max=86400, help="How long, once all have joined.")
    ] = 10.0,
    token: TokenOption = None,
    insecure: InsecureOption = False,
    cacert: CacertOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a stream by WHEP, many at a time, and tell what came."""
    from relay.cli import watch as watching

    trusted = None if cacert is None else str(cacert)
    request = watching.Request(url, viewers, seconds, token, as_json, insecure, trusted)
    raise typer.Exit(watching.run(request))


@app.command(rich_help_panel=MEDIA)
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go.")] = Path("out"),
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Length of the clip.")] = 10.0,
    model: ModelOption = None,
    params: ParamsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a generated clip through a network of its own and show what came back."""
    chosen = _object(params)
    if model is None and chosen is None:
        chosen = DEMO_PARAMS
    from relay.cli import demo as whole

    request = whole.Request(out, seconds, model or "effects", chosen or {}, as_json)
    raise typer.Exit(whole.run(request))


def _object(text: str | None) -> dict[str, Any] | None:
    """The value of ``--params``."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter("--params takes a JSON object")
    return value


@app.command(rich_help_panel=NETWORK)
def streams(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One, with viewers.")] = None,
    gateway: Annotated[
        str, typer.Option(metavar="URL", help="Base address of the gateway.")
    ] = "http://127.0.0.1:9935",
    token: Annotated[str | None, typer.Option(help="The publish key, where one is needed.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again each second.")] = False,
    whole: Annotated[
        bool, typer.Option("--all", help="With NAME: all viewers, not the first 30.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a gateway carries: rates, delay, losses, viewers.

    Of each stream: its [b]state[/b] and [b]model[/b]; [b]in[/b]: what comes from its publisher,
    [b]out[/b]: what goes to viewers;
    [b]delay p50[/b], [b]p95[/b]: how long 50 and 95 in 100 of its pictures take at most from
    their arrival here until they leave, processed; [b]viewers[/b]: how many;
    [b]moved[/b]: how often its work went to another orchestrator or worker since its
    publisher came (with NAME also when, and why).

    Of each viewer: [b]since[/b] when it is connected; [b]packets[/b] sent, and [b]resent[/b];
    [b]key frames asked[/b] for; [b]lost[/b], [b]jitter[/b], [b]round trip[/b]
    as it last told; [b]path[/b]: what the network to it carries, and [b]queue[/b]: how long
    packets wait there, by what it tells (-: nothing);
    [b]pauses[/b]: how often its picture stood still for a path too small;
    [b]process[/b]: which one serves it (0: the gateway itself).
    """
    from relay.cli import streams as showing

    request = showing.Request(gateway, name, token, watch, whole, as_json, insecure)
    raise typer.Exit(showing.run(request))


@app.command(rich_help_panel=NETWORK)
def health(
    url: Annotated[
        str, typer.Argument(help="Such as http://127.0.0.1:9935 or http://127.0.0.1:9935/healthz")
    ],
    token: Annotated[
        str | None, typer.Option(help="The publish key: a gateway then says who it lacks.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token whatever the certificate is.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask a role whether it is well; for health checks."""
    from relay.cli.health import ask, report

    if not as_json:
        print(ask(url, token, insecure=insecure))
        return
    told = report(url, token, insecure=insecure)
    print(json.dumps(told))
    raise typer.Exit(OK if told["well"] else FAILED)


def main() -> None:
    """Run the command; expected failures become one line and an exit code, and for a program
    one JSON line on stdout too."""
    from relay.errors import ConfigError, RelayError

    # Else its end takes up to a second, in which Python looks for what could be freed.
    atexit.register(gc.freeze)
    try:
        app()
    except ConfigError as error:
        _fail(error, USAGE)
    except RelayError as error:
        _fail(error, getattr(error, "exit_code", FAILED))
    except OSError as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        wrong = getattr(end.__context__, "format_message", None)
        if wrong is not None:  # a wrong word, and a person has been told
            _tell_program(getattr(end.__context__, "kind", "usage"), wrong())
        raise


def _fail(error: RelayError | OSError, code: int) -> NoReturn:
    words = str(error) or repr(error)
    _tell_program(getattr(error, "code", "system"), words)
    print(f"error: {words}", file=sys.stderr)
    sys.exit(code)


def _tell_program(code: str, words: str) -> None:
    """As the API's problems do. The word is looked for as it was typed: where another one is
    wrong, nobody has read it."""
    if "--json" in sys.argv[1:]:
        print(json.dumps({"error": words, "code": code}), flush=True)
