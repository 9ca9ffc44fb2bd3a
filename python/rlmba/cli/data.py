"""`rlmba data`: check and prepare data sets of media files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlmba.cli.app import app

if TYPE_CHECKING:
    from rlmba.data.media.report import MediaReport

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data", help="Check and prepare data sets of media files.")

_Name = Annotated[str, typer.Argument(metavar="NAME", help="food101, kineticssound or vggsound.")]
_Layout = Annotated[str | None, typer.Option(help="The layout to read, if the folder has several.")]
_Annotations = Annotated[
    Path | None, typer.Option(help="The list of samples (a CSV file), if it is outside the folder.")
]
_Tokenizer = Annotated[
    str, typer.Option(help="A transformers tokenizer: a local folder or a name on the hub.")
]
_Workers = Annotated[
    int | None, typer.Option(min=1, help="Number of processes. [default: number of cores]")
]
_All = Annotated[
    bool, typer.Option("--all", help="List all classes, not only those with problems.")
]
_Problems = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Write all problems to this file.",
    ),
]


@data.command()
def check(
    name: _Name,
    root: Annotated[
        Path, typer.Argument(metavar="DIR", help="The data set's folder, or a cache made from it.")
    ],
    layout: _Layout = None,
    annotations: _Annotations = None,
    tokenizer: _Tokenizer = "",
    workers: _Workers = None,
    index: Annotated[
        Path | None,
        typer.Option(
            help="File for the results, from which an interrupted check continues. [default: in the user's "
            "cache folder]"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only look for the files; do not read them.")
    ] = False,
    every_class: _All = False,
    problems: _Problems = None,
) -> None:
    """Count found, missing, unreadable and suspicious files of a data set, or verify a cache."""
    from rlmba.data.media.folder import check_folder

    reading: dict[str, Any] = {"layout": layout, "annotations": annotations, "tokenizer": tokenizer}
    call = partial(check_folder, name, root, **reading, index=index, quick=quick, workers=workers)
    _report("checked", call, every_class, problems)


@data.command()
def prepare(
    name: _Name,
    root: Annotated[Path, typer.Argument(metavar="DIR", help="The data set's folder.")],
    cache: Annotated[
        Path, typer.Option(metavar="OUT", help="The cache: a new folder, or one to complete.")
    ],
    layout: _Layout = None,
    annotations: _Annotations = None,
    tokenizer: _Tokenizer = "",
    workers: _Workers = None,
    every_class: _All = False,
    problems: _Problems = None,
) -> None:
    """Decode a data set once, into a cache that can be read at memory speed; resumable."""
    from rlmba.data.media.folder import prepare_folder

    reading: dict[str, Any] = {"layout": layout, "annotations": annotations, "tokenizer": tokenizer}
    call = partial(prepare_folder, name, root, cache, **reading, workers=workers)
    _report("prepared", call, every_class, problems)


@data.command()
def features(
    name: _Name,
    root: Annotated[
        Path, typer.Argument(metavar="DIR", help="The data set's folder, or a cache made from it.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.npz", help="The file to write.")],
    preset: Annotated[
        str | None, typer.Option(help="A preset of settings. [default: the data set's]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting, e.g. model.encoders.image=resnet50."
        ),
    ] = None,
) -> None:
    """Run the configured encoders once over all samples; write a file that `--dataset features` reads."""
    from rlmba.cli.counter import counter
    from rlmba.cli.screen import say
    from rlmba.config import load_config
    from rlmba.learner import write_features
    from rlmba.markup import command

    configured = load_config(
        file=config,
        preset=preset,
        overrides={"dataset": name, "data_root": root},
        settings=settings or [],
    )
    with counter("seen") as progress:
        write_features(configured, out, progress)
    say(f"{out}\n{command('run', '--dataset', 'features', '--data', out)}")


def _report(
    what: str, call: Callable[..., MediaReport], every_class: bool, problems: Path | None
) -> None:
    """Make a report while its progress is shown, and print it."""
    from rlmba.cli.counter import counter
    from rlmba.cli.screen import console, say
    from rlmba.data.media.folder import require_usable

    with counter(what) as progress:
        report = call(progress=progress)
    if problems is not None:
        report.write_problems(problems)
    say("\n".join(report.head()))
    screen = console()
    for table in report.tables(every_class):
        screen.print(table)
    say("\n".join(report.tail(problems)))
    require_usable(report)
