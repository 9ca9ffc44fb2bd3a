"""The command line: one file a subcommand, no logic, heavy imports inside functions.

Exit codes: 0 done, 1 data, storage or an unexpected error, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from rlmba.cli import failures, option_hints
from rlmba.cli.screen import say
from rlmba.errors import RlmbaWarning
from rlmba.markup import visible

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises.

    Every error is one message on standard error. ``--debug``, anywhere before ``--``, adds the
    traceback.
    """
    if argv is None:
        # Processes started from here search the current folder for modules as little as this one does.
        os.environ["PYTHONSAFEPATH"] = "1"
        # Threads that spin for long while they wait multiply the CPU time if other programs need the
        # cores. Threads that sleep at once are slow to wake between small operations.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        gc.set_threshold(50_000)  # imports create many objects that stay
    arguments, debug = _take_debug(list(sys.argv[1:] if argv is None else argv))
    _shorten_warnings(arguments)
    _print_anything()
    try:
        return _invoke(arguments)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        failure = failures.describe(error, arguments)
        if _speaks():
            say(failure.message, stderr=True)
        if isinstance(error, OSError):
            _drop_output()
        return failure.code


def _print_anything() -> None:
    """What the terminal's encoding cannot print is escaped instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _invoke(arguments: list[str]) -> int:
    from rlmba.cli.app import application

    code = 0
    try:
        application()(args=arguments, prog_name="rlmba")
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    sys.stdout.flush()
    return code


def _speaks() -> bool:
    """Of processes launched together, one reports the error that ends them all."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    from rlmba.training import reports_error

    return reports_error()


def _drop_output() -> None:
    """Keep the interpreter from flushing again, and complaining again, when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [a for a in arguments[:end] if a != "--debug"]
    return kept + arguments[end:], len(kept) < end


def _shorten_warnings(arguments: Sequence[str]) -> None:
    """Print the package's own warnings as one line without the line of code that raised them."""
    default = warnings.formatwarning

    def formatted(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if issubclass(category, RlmbaWarning):
            told = option_hints.option_hint(str(message), arguments)
            return visible(f"warning: {message}{'; ' * bool(told)}{told}\n")
        return default(message, category, filename, lineno, line)

    warnings.formatwarning = formatted
