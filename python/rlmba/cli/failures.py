"""Error messages and exit codes of the command line."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from rlmba.cli.option_hints import command_of, option_hint, options_of
from rlmba.errors import PluginError, RlmbaError, UnfitError, UsageError
from rlmba.plugins import fault_of

__all__ = ["Failure", "InterruptedRunError", "describe"]

_FULL = {errno.ENOSPC, errno.EDQUOT}


class InterruptedRunError(Exception):
    """Carries a KeyboardInterrupt through the command parser, which would swallow it."""


@dataclass(frozen=True)
class Failure:
    """A message for standard error, and an exit code."""

    message: str
    code: int


def describe(error: BaseException, arguments: Sequence[str]) -> Failure:
    """Turn any exception of a command into one message and an exit code.

    Parameters
    ----------
    error : BaseException
        What the command raised.
    arguments : sequence of str
        The command line without the program name, for the hint on how to resume.
    """
    if isinstance(error, (InterruptedRunError, KeyboardInterrupt)):
        return Failure(f"interrupted{_resume(arguments)}", 130)
    if isinstance(error, PluginError) and _out_of_memory(error.__cause__):
        return Failure(f"error: out of memory; {_smaller(arguments)}", 1)
    if isinstance(error, RlmbaError):
        lines = (str(error) or type(error).__name__).splitlines()
        lines += filter(None, [option_hint(str(error), arguments), _fitting(error, arguments)])
        return Failure(
            "error: " + "\n       ".join(lines), 2 if isinstance(error, UsageError) else 1
        )
    if isinstance(error, OSError):
        return Failure(f"error: {_storage(error, arguments)}", 1)
    if _out_of_memory(error):
        return Failure(f"error: out of memory; {_smaller(arguments)}", 1)
    text = " ".join(str(error).split())
    return Failure(
        f"error: unexpected {type(error).__name__}{': ' * bool(text)}{text}\n"
        f"       {_blame(error)}; the same command with --debug shows where it happened.",
        1,
    )


def _fitting(error: RlmbaError, arguments: Sequence[str]) -> str:
    """The same command with settings that fit the data; "" if the error has none."""
    if not isinstance(error, UnfitError) or not error.settings or arguments[:1] != ["run"]:
        return ""
    return f"This command fits the data: rlmba {shlex.join([*arguments, *error.flags])}"


def _blame(error: BaseException) -> str:
    whose = fault_of(error)
    return f"This is a bug in {whose}, not in rlmba" if whose else "This is a bug in rlmba"


def _storage(error: OSError, arguments: Sequence[str]) -> str:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in _FULL:
        return (
            f"no space left on the disk{where}; files written before are unharmed. "
            f"Free some space{_resume(arguments) or ', then repeat the command'}"
        )
    return f"{error.strerror or ' '.join(str(error).split())}{where}"


def _out_of_memory(error: BaseException | None) -> bool:
    # torch raises a subclass of RuntimeError on a GPU, and RuntimeError itself on a CPU.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _smaller(arguments: Sequence[str]) -> str:
    has = options_of().get(command_of(arguments), frozenset())
    if "--dry-run" in has:
        return "`--dry-run` prints how much is needed"
    if "--workers" in has:
        return f"use fewer --workers{_resume(arguments)}"
    if "--batch-size" in has:
        return "use a smaller --batch-size"
    fewer = "use fewer --jobs, " if "--jobs" in has else ""
    return (
        f"{fewer}lower training.predict_batch_size or training.minibatch_size "
        f"{'with --set' if '--set' in has else 'in config.yaml of the folder'}, or use a smaller "
        f"pool{_resume(arguments)}"
    )


def _resume(arguments: Sequence[str]) -> str:
    if command_of(arguments) in ("data check", "data prepare", "outputs"):
        return "; the same command continues from there"
    if not arguments or arguments[0] not in ("run", "compare", "train-policy"):
        return ""
    has_folder = arguments[0] == "compare" or any(
        a == "--output" or a.startswith("--output=") for a in arguments
    )
    again = [a for a in arguments if a != "--resume"]
    if not has_folder:
        again += ["--output", "DIR"]
    hint = "" if has_folder else " (DIR: the run folder named above)"
    return f"; continue with: rlmba {shlex.join([*again, '--resume'])}{hint}"
