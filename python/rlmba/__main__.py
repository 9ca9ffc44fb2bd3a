"""``python -m rlmba`` is the command ``rlmba``."""

# No `from __future__`: nothing may be imported before the current folder is off the path.
import os
import sys


def _forget_current_folder() -> None:
    """Take off the path what `python -m` has put first.

    A file there, in a folder that came from somebody else, would be imported in the place of any module
    of its name. The script `rlmba` does not search it either.
    """
    if getattr(sys.flags, "safe_path", False) or not sys.path:
        return
    try:
        current = os.getcwd()  # noqa: PTH109 - pathlib is not loaded yet
    except OSError:  # the folder is gone
        current = ""
    if sys.path[0] in ("", current):
        del sys.path[0]


_forget_current_folder()

from rlmba.cli import main  # noqa: E402

sys.exit(main())
