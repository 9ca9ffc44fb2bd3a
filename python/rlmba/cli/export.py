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
        Path | None,
        typer.Option(metavar="FOLDER", help="The folder to write to; it must not exist."),
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(metavar="OWNER/MODEL", help="Also push it to the Hugging Face hub."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a repository that --hub creates public.")
    ] = False,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="Also write labels.parquet: ids and labels of the samples."),
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write model.onnx; needs the extra onnx.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write a trained network for use without the run, as safetensors and optionally ONNX."""
    from rlmba.cli.counter import stages
    from rlmba.cli.screen import say
    from rlmba.errors import UsageError
    from rlmba.project.export import export as write
    from rlmba.project.export import export_to_hub

    with stages():
        if hub is not None:
            made = export_to_hub(
                folder, hub, out=out, private=not public, onnx=onnx, labels=labels, overwrite=force
            )
        elif out is not None:
            made = write(folder, out, onnx=onnx, labels=labels, overwrite=force)
        else:
            raise UsageError("expected --out FOLDER, --hub OWNER/MODEL, or both")
    say("\n".join(made.lines()))
