"""`rlmba init`: start a project with your own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rlmba.cli.app import app
from rlmba.cli.names import names


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The project's folder, new or empty.")
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="A CSV, JSON Lines or Parquet file with columns such as id, image, text; or a folder of "
            "images, sounds or videos."
        ),
    ] = None,
    huggingface: Annotated[
        str | None,
        typer.Option(
            help="A folder that the library `datasets` saved or reads, or a name on the hub."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names, comma-separated. [default: those that occur in the labels]"
        ),
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="browser, file, labelstudio or oracle. [default: browser]")
    ] = None,
    annotator_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the annotator."),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained", help="End with an error unless there are pretrained encoders."
        ),
    ] = False,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Train encoders from the labels alone; needs hundreds of labels."
        ),
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Encoding of text files that are not UTF-8, e.g. gb18030. [default: found from the files]"
        ),
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column that people see and the network does not read; repeat for several.",
        ),
    ] = None,
    hide: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column that people do not see; repeat for several."),
    ] = None,
    tracking: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,...", help="Experiment trackers: tensorboard, mlflow, wandb, trackio."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. batch_size=20."),
    ] = None,
) -> None:
    """Start a project: read your data, and create the folder in which labels are collected."""
    from rlmba.cli.counter import stages
    from rlmba.cli.people import next_step
    from rlmba.cli.screen import say
    from rlmba.config import parse_settings
    from rlmba.errors import UsageError
    from rlmba.learner import configure
    from rlmba.markup import command
    from rlmba.project.encoders import (
        ChosenEncoder,
        chosen_encoders,
        encoder_lines,
        require_pretrained,
        sound_settings,
    )
    from rlmba.project.starting import overrides, start

    if pretrained and from_scratch:
        raise UsageError("--pretrained and --from-scratch exclude each other; give one of them")
    chosen: dict[str, Any] = overrides(
        manifest=manifest,
        huggingface=huggingface,
        classes=None if classes is None else [c.strip() for c in classes.split(",")],
        annotator=annotator,
        annotator_options=parse_settings(annotator_option or []),
    )
    if encoding is not None:
        chosen["dataset_options.encoding"] = encoding
    if show:
        chosen["dataset_options.shown_columns"] = show
    if hide:
        chosen["dataset_options.hidden_columns"] = hide
    if tracking:
        chosen["tracking"] = names(tracking)
    config = configure(chosen, settings=settings or [])
    found, lines = sound_settings(config)
    encoders: list[ChosenEncoder] = []
    with stages():
        if not from_scratch:
            more, encoders = chosen_encoders(config)
            found |= more
        config = configure({**chosen, **found}, settings=settings or [])
        if pretrained:
            require_pretrained(encoders)
        started = start(folder, config)
    for line in (*started.lines, *lines, *encoder_lines(encoders)):
        say(line)
    say(str(folder / "config.yaml"))
    next_step(command("next", folder), command("loop", folder))
