"""`rlmba export`: write a trained network to a separate folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a run or a project.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder to write to; it must not exist.")
    ],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write model.onnx; needs the extra onnx.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write a trained network for use without the run, as safetensors and optionally ONNX."""
    from rlmba.cli.counter import stages
    from rlmba.cli.screen import say
    from rlmba.project.export import export as write

    with stages():
        made = write(folder, out, onnx=onnx, overwrite=force)
    say("\n".join(made.lines()))
