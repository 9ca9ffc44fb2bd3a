"""What a file that cannot be read is reported as: one line, never an error that stops a run."""

from __future__ import annotations

from pathlib import Path

from rlmba.data.media.content import MediaContent

__all__ = ["MISSING", "missing_or_empty", "reason", "unusable"]

MISSING = "missing"
"""MediaProblem of a modality whose file was not found when the data set was read."""

_LENGTH = 160


def unusable(problem: str) -> MediaContent:
    """MediaContent that could not be read, and why."""
    return MediaContent(None, problem)


def reason(error: BaseException) -> str:
    """What an error of a media library says, in one line of at most 160 characters."""
    text = getattr(error, "strerror", None) or str(error)
    line = " ".join(text.split()) or type(error).__name__
    return line if len(line) <= _LENGTH else line[: _LENGTH - 1] + "…"


def missing_or_empty(path: Path) -> str:
    """The problem of a file that is not there, is no file or has no bytes; "" where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        return "no such file" if isinstance(error, FileNotFoundError) else reason(error)
    if path.is_dir():
        return "a folder, not a file"
    return "" if status.st_size else "the file is empty"
