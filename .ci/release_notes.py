"""Print the section of CHANGELOG.md for a version: ``python .ci/release_notes.py 1.2.3``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def notes(text: str, version: str) -> str:
    """Return the section of a version, without its heading.

    Parameters
    ----------
    text : str
        A changelog in the format of Keep a Changelog.
    version : str
        The version, as in the heading ``## [1.2.3] - 2026-01-31``, or ``Unreleased``.

    Raises
    ------
    SystemExit
        If there is no such section, or it is empty.
    """
    parts = re.split(r"^## \[(.+?)\].*\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    section = sections.get(version, "").strip()
    if not section:
        raise SystemExit(
            f"{CHANGELOG.name}: expected a section '## [{version}] - YYYY-MM-DD' with the changes of "
            f"this version, found sections {', '.join(sections)}; rename the section [Unreleased] to it"
        )
    return section


if __name__ == "__main__":
    print(notes(CHANGELOG.read_text(encoding="utf-8"), sys.argv[1]))
