"""What the words of the command line may be: the options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

NETWORK: Final = "Run"
MEDIA: Final = "Media"
SETTINGS: Final = "Settings"
ADDRESS: Final = "Address"


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML file.", rich_help_panel=SETTINGS),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One key, such as worker.slots=4; also RELAY_WORKER__SLOTS=4.",
        rich_help_panel=SETTINGS,
    ),
]
PrintOption = Annotated[
    bool,
    typer.Option(
        "--print-config",
        help="Print every key as it is in force, secrets masked, and end.",
        rich_help_panel=SETTINGS,
    ),
]
LevelOption = Annotated[
    Level | None,
    typer.Option("--log-level", help="How much to log.", rich_help_panel=SETTINGS),
]
GatewayPortOption = Annotated[
    int | None,
    typer.Option(
        "--port", help="The gateway's HTTP port; 0 takes a free one.", rich_help_panel=ADDRESS
    ),
]
HostOption = Annotated[
    str | None, typer.Option("--host", help="Address to listen on.", rich_help_panel=ADDRESS)
]
PortOption = Annotated[
    int | None, typer.Option("--port", help="Port; 0 takes a free one.", rich_help_panel=ADDRESS)
]
OpenOption = Annotated[
    bool | None,
    typer.Option(
        "--open", help="Let anyone publish, also on a public address.", rich_help_panel=ADDRESS
    ),
]
SelfSignedOption = Annotated[
    bool | None,
    typer.Option(
        "--self-signed", help="HTTPS by a certificate made here.", rich_help_panel=ADDRESS
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(help="The model, such as effects.", rich_help_panel=MEDIA)
]
ParamsOption = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Its parameters.", rich_help_panel=MEDIA),
]
TokenOption = Annotated[
    str | None,
    typer.Option(help="Bearer token: the gateway's publish key.", rich_help_panel=ADDRESS),
]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure", help="Take any certificate of an https gateway.", rich_help_panel=ADDRESS
    ),
]
CacertOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Trust these certificates (PEM).", rich_help_panel=ADDRESS),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON line for a program.")]
SupervisedOption = Annotated[int | None, typer.Option("--supervised", hidden=True)]
