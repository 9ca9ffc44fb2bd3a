"""What a user has allowed a folder to do outside the folder itself.

A folder may come from somebody else, and its files may name code to run, a server to send data to, or a
file elsewhere to write. None of this happens before the user has allowed exactly that for that folder, by
creating the folder or with ``rlmba trust``. The permissions are stored in one file of the user's settings by
the folder's real path: a folder that was moved or copied, or that another user opens, must be allowed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rlmba.errors import StorageError, TrustError
from rlmba.markup import command
from rlmba.storage import atomic_write_text, config_folder, locked, make_folder

__all__ = [
    "allow",
    "allowed",
    "file",
    "forget",
    "links_out",
    "outside",
    "require",
    "require_inside",
]

_FORMAT = 1
_REPAIR = "delete it, and allow folders again with `rlmba trust DIR`"
_Folders = dict[str, list[str]]


def file() -> Path:
    """The file that stores the permissions."""
    return config_folder() / "trusted.json"


def allowed() -> dict[str, list[str]]:
    """The allowed acts by the folder's real path.

    Raises
    ------
    TrustError
        If the file is damaged or belongs to another user.
    """
    path = file()
    try:
        owner = path.stat().st_uid
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise TrustError(f"{path} cannot be read ({error}); {_REPAIR}") from error
    if owner not in (os.geteuid(), 0):
        raise TrustError(
            f"{path} belongs to another user (number {owner}), so what it allows does not count for you; set "
            "XDG_CONFIG_HOME to a folder of your own"
        )
    folders = (
        data.get("folders") if isinstance(data, dict) and data.get("format") == _FORMAT else None
    )
    if not isinstance(folders, dict) or not all(
        isinstance(acts, list) and all(isinstance(act, str) for act in acts)
        for acts in folders.values()
    ):
        raise TrustError(
            f"{path}: expected a file written by `rlmba trust`, found something else; {_REPAIR}"
        )
    return folders


def require(folder: Path, acts: Sequence[str]) -> None:
    """Raise unless all of the acts are allowed for a folder.

    Parameters
    ----------
    folder : path
    acts : sequence of str
        What the folder's files ask for, such as "run my_labels:Longest".

    Raises
    ------
    TrustError
        It names the acts that are not allowed, and the command that allows them.
    """
    if not acts:
        return
    known = set(allowed().get(_key(folder), ()))
    lacking = [act for act in acts if act not in known]
    if lacking:
        raise TrustError(
            f"{folder} asks to {'; to '.join(lacking)}; none of this was done, because files of a folder "
            "may come from somebody else. If you want it, allow it for this folder with "
            f"`{command('trust', folder)}`"
        )


def links_out(folder: Path) -> list[str]:
    """The acts of a folder with sub-folders that are links out of it, through which files would be written.

    The folder and its sub-folders are searched, because nothing is written deeper than that.
    """
    inside = folder.resolve()
    found = []
    for entry in _folders(folder):
        for sub in (entry, *([] if entry.is_symlink() else _folders(Path(entry)))):
            if not sub.is_symlink():
                continue
            target = Path(sub).resolve()
            if not target.is_relative_to(inside):
                link = os.path.relpath(sub, folder)
                found.append(f"write through the link {link!r} to {str(target)!r}")
    return found


def outside(folder: Path, place: Path | str) -> str | None:
    """The real path of a place that a folder's files name, or None if it is in the folder.

    Parameters
    ----------
    folder : path
    place : path or str
        Absolute or relative to the folder.

    Examples
    --------
    >>> outside(Path("p"), "labels.csv"), outside(Path("p"), "/etc/labels.csv")
    (None, '/etc/labels.csv')
    """
    try:
        real = os.path.realpath(folder / place)
    except ValueError:  # a NUL byte; opening the path will raise an error
        return str(place)
    return None if Path(real).is_relative_to(folder.resolve()) else real


def require_inside(folder: Path) -> None:
    """Raise unless everything written into a folder stays there, or its links are allowed.

    Raises
    ------
    TrustError
        See :func:`require`.
    """
    require(folder, links_out(folder))


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    """The sub-folders and the links to folders; none if the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if e.is_dir()), key=lambda e: e.name)
    except OSError:
        return []


def allow(folder: Path, acts: Sequence[str]) -> None:
    """Allow these acts for a folder, and no others.

    Raises
    ------
    TrustError
        If the file of permissions is damaged or belongs to another user.
    StorageError
        If the file cannot be written.
    """
    if not acts:
        forget(folder)
        return

    def change(folders: _Folders) -> None:
        folders[_key(folder)] = list(acts)

    _change(change)


def forget(folder: Path) -> list[str]:
    """Remove the permissions of a folder, which need not exist. Returns what was allowed.

    Raises
    ------
    TrustError, StorageError
        As for :func:`allow`.
    """
    before: list[str] = []

    def change(folders: _Folders) -> None:
        before.extend(folders.pop(_key(folder), []))

    if _key(folder) in allowed():
        _change(change)
    return before


def _key(folder: Path) -> str:
    return os.path.realpath(folder)


def _change(change: Callable[[_Folders], None]) -> None:
    path = file()
    try:
        make_folder(path.parent)
        with locked(path.parent, lambda _: StorageError("unused"), wait=True):
            folders = allowed()
            change(folders)
            data = {"format": _FORMAT, "folders": folders}
            atomic_write_text(path, json.dumps(data, indent=1) + "\n")
    except StorageError as error:
        raise StorageError(
            f"{error}\nPermissions are stored in {path}; set XDG_CONFIG_HOME to a writable folder"
        ) from error
