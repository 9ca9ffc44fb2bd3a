"""Report files that cannot be read: in one line, never by an error that stops a run."""

from __future__ import annotations

from pathlib import Path

from rlmba.data.media.content import MediaContent

__all__ = ["MISSING", "missing_or_empty", "reason", "unusable"]

MISSING = "missing"
"""The problem of a modality whose file was not found when the data set was read."""

_LENGTH = 160


def unusable(problem: str) -> MediaContent:
    """The content of a modality that could not be read, with the reason."""
    return MediaContent(None, problem)


def reason(error: BaseException) -> str:
    """The message of a media library's error, in one line of at most 160 characters."""
    text = getattr(error, "strerror", None) or str(error)
    line = " ".join(text.split()) or type(error).__name__
    return line if len(line) <= _LENGTH else line[: _LENGTH - 1] + "…"


def missing_or_empty(path: Path) -> str:
    """Why a file cannot be used: it does not exist, is not a file or is empty; "" if it can."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        return "no such file" if isinstance(error, FileNotFoundError) else reason(error)
    if path.is_dir():
        return "a folder, not a file"
    return "" if status.st_size else "the file is empty"
