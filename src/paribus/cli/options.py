"""Arguments and options that several commands share."""

from typing import Annotated

import typer

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A built-in study (see `paribus list`) or a TOML file.")]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, max=1000, help="Seeds per arm; the same as --set seeds=N.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set any field, such as model.layers=6. May be given again."),
]

AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Execute own code that the study names, from the copies in its directory.")
]
