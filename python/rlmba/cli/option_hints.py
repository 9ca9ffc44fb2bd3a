"""Hints on options that an error message names but the current command does not have.

Messages come from code that many commands share, and name the option of the most common command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

__all__ = ["command_of", "option_hint", "options_of"]

_COMMANDS = re.compile(r"`rlmba [^`]*`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")

_SETTINGS = {
    "--host": "project.annotator_options.host",
    "--port": "project.annotator_options.port",
    "--annotator-option": "project.annotator_options",
    "--strategy": "strategy",
    "--data-root": "data_root",
    "--index": "dataset_options.index",
    "--layout": "dataset_options.layout",
}


@cache
def options_of() -> dict[str, frozenset[str]]:
    """The options of each command; subcommands are named like "data check"."""
    from typer.main import get_command

    from rlmba.cli.app import application

    def walk(command: Any, name: str) -> dict[str, frozenset[str]]:
        if inner := getattr(command, "commands", None):
            return {k: v for n, c in inner.items() for k, v in walk(c, f"{name} {n}").items()}
        opts = [o for p in command.params for o in getattr(p, "opts", ()) if o.startswith("--")]
        return {name.strip(): frozenset(opts)}

    return walk(get_command(application()), "")


def command_of(arguments: Sequence[str]) -> str:
    """The command of a command line, named as in :func:`options_of`; "" if there is none."""
    given = [*arguments[:2], "", ""]
    return next((c for c in options_of() if c in (given[0], f"{given[0]} {given[1]}")), "")


def option_hint(message: str, arguments: Sequence[str]) -> str:
    """Say how to set the options of a message for the current command; "" if it has all of them.

    Parameters
    ----------
    message : str
        Options within quoted commands, such as ```rlmba run --seed 1```, belong to those commands.
    arguments : sequence of str
        The command line without the program name.
    """
    every, command = options_of(), command_of(arguments)
    if not command:
        return ""
    known = frozenset().union(*every.values())
    named = dict.fromkeys(_OPTION.findall(_COMMANDS.sub("", message)))
    lines = []
    for option in (o for o in named if o in known and o not in every[command]):
        setting = _SETTINGS.get(option, "the setting" if option == "--set" else "")
        if not setting:
            continue
        how = (
            f"give --set {setting}=..."
            if "--set" in every[command]
            else f"write {setting} into config.yaml of the folder"
        )
        lines.append(f"`rlmba {command}` has no {option}: {how}")
    return "; ".join(lines)
