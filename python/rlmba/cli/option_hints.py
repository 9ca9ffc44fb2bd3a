"""Options that a message names and the command that prints it does not have.

Messages come from rooms that many commands share, and name the option of the command that is used most.
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
    """Options by command; groups have one entry for each of their commands, as in "data check"."""
    from typer.main import get_command

    from rlmba.cli.app import application

    def walk(command: Any, name: str) -> dict[str, frozenset[str]]:
        if inner := getattr(command, "commands", None):
            return {k: v for n, c in inner.items() for k, v in walk(c, f"{name} {n}").items()}
        opts = [o for p in command.params for o in getattr(p, "opts", ()) if o.startswith("--")]
        return {name.strip(): frozenset(opts)}

    return walk(get_command(application()), "")


def command_of(arguments: Sequence[str]) -> str:
    """The command of a command line, as in :func:`options_of`; "" where there is none."""
    given = [*arguments[:2], "", ""]
    return next((c for c in options_of() if c in (given[0], f"{given[0]} {given[1]}")), "")


def option_hint(message: str, arguments: Sequence[str]) -> str:
    """What a message's options are for the command that prints it; "" where it has them all.

    Parameters
    ----------
    message : str
        Options in commands that it quotes, as in ```rlmba run --seed 1```, are those commands' own.
    arguments : sequence of str
        The command line without the program's name.
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
