"""Parameters of the commands that apply a trained network to samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["BatchSize", "Device", "NetworkFolder"]

NetworkFolder: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The folder of a run, a project, or an exported network."),
]
Device: TypeAlias = Annotated[
    str | None, typer.Option(help="auto, cpu or a torch device. [default: the run's]")
]
BatchSize: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Samples per forward pass. [default: the run's]")
]
