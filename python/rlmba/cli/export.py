"""``rlmba export``: a trained network in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or a project.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write model.onnx as well; needs the extra onnx.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what was exported there before.")
    ] = False,
) -> None:
    """Write a trained network so that it can be used without the run: safetensors, perhaps ONNX."""
    from rlmba.cli.screen import say
    from rlmba.project.export import export as write

    say("\n".join(write(folder, out, onnx=onnx, overwrite=force).lines()))
