"""The application that subcommands register with."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rlmba.cli.failures import InterruptedRunError

__all__ = ["app", "application"]

# In the order of `rlmba --help`. Each is a module of this package that registers itself with `app`.
COMMANDS = (
    "run",
    "init",
    "next",
    "collect",
    "status",
    "loop",
    "trust",
    "compare",
    "label",
    "label_studio",
    "report",
    "train_policy",
    "predict",
    "outputs",
    "export",
    "select",
    "bench",
    "data",
    "datasets",
    "strategies",
    "encoders",
    "doctor",
)


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise InterruptedRunError from interrupt


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def application() -> typer.Typer:
    """Return the application with every subcommand registered."""
    for name in COMMANDS:
        importlib.import_module(f"rlmba.cli.{name}")
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from rlmba import __version__

        typer.echo(f"rlmba {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; valid anywhere.")
    ] = False,
) -> None:
    """Modality-balanced, difficulty-aware multimodal active learning."""
