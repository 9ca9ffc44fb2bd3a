"""Read folders of Food101, KineticsSound and VGGSound in the layouts that are in use.

A reader lists the samples and the paths of their media. It opens no image, clip or sound, and downloads
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from rlmba.data.media.catalogue import Catalogue
from rlmba.data.media.content import Recipe
from rlmba.data.media.layouts import food101, kineticssound, vggsound
from rlmba.data.media.layouts.common import published_classes
from rlmba.errors import DataError, UsageError

__all__ = ["LAYOUTS", "NAMES", "find_catalogue", "published_classes", "recipe_of"]

NAMES = ("food101", "kineticssound", "vggsound")
"""The data sets whose folders can be read."""

LAYOUTS = MappingProxyType(
    {
        "food101": food101.LAYOUTS,
        "kineticssound": kineticssound.LAYOUTS,
        "vggsound": vggsound.LAYOUTS,
    }
)
"""A description of each layout of each data set, by name, in the order in which they are tried."""

_READERS: dict[str, Callable[[Path, str | None, tuple[Path, ...]], Catalogue]] = {
    "food101": food101.read,
    "kineticssound": kineticssound.read,
    "vggsound": vggsound.read,
}

_RECIPES = {
    "food101": Recipe(tokenizer="bert-base-uncased"),
    "kineticssound": Recipe(),
    "vggsound": Recipe(),
}


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise UsageError(f"expected a data set of {', '.join(NAMES)}, got {name!r}")


def find_catalogue(
    name: str,
    root: Path | str,
    *,
    layout: str | None = None,
    annotations: Path | str | Iterable[Path | str] | None = None,
) -> Catalogue:
    """List the samples of a data set in a folder with any of its layouts.

    Parameters
    ----------
    name : str
        One of NAMES.
    root : path
        The folder.
    layout : str, optional
        The layout to read, one of LAYOUTS[name]; by default the one that is found. If there are
        several, it is the first (food101) or the one with most complete samples (the others).
    annotations : path or several, optional
        Lists that are not in the folder: title CSVs for food101, Kinetics CSVs for kineticssound, or
        ``vggsound.csv``.

    Returns
    -------
    Catalogue
        Every sample that lists or folders name, with None for missing files. A source says where a file
        was found, and not that it can be decoded. Samples of unpublished classes are left out, and if
        an id occurs twice, only the first in the catalogue's order stays; the notes count both. Ids are
        the same in every layout: ``<class>_<n>`` in food101, ``<YouTube id>_<start>_<end>`` in
        kineticssound and ``<YouTube id>_<start>`` in vggsound, with six digits for seconds. The result
        does not depend on the order of directories.

    Raises
    ------
    UsageError
        If the name or layout is unknown.
    DataError
        If the folder does not exist or has no such layout (the message says what was looked for), a
        list cannot be read, or there is no sample.
    """
    _check_name(name)
    if layout is not None and layout not in LAYOUTS[name]:
        raise UsageError(
            f"layout of {name}: expected one of {', '.join(LAYOUTS[name])}, got {layout!r}"
        )
    root = Path(root).expanduser()
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        raise DataError(f"{root}: expected the folder of {name}, got {got}; check the path")
    if annotations is None:
        lists: tuple[Path, ...] = ()
    elif isinstance(annotations, (str, Path)):
        lists = (Path(annotations).expanduser(),)
    else:
        lists = tuple(Path(p).expanduser() for p in annotations)
    return _READERS[name](root, layout, lists)


def recipe_of(name: str, tokenizer: str = "") -> Recipe:
    """The recipe of a data set, as in the RL-MBA and BMMAL papers.

    Parameters
    ----------
    name : str
        One of NAMES.
    tokenizer : str
        A local folder or a hub name, for food101 only; "bert-base-uncased" by default.

    Raises
    ------
    UsageError
        If the name is unknown, or a tokenizer is given for a data set without text.
    """
    _check_name(name)
    recipe = _RECIPES[name]
    if not tokenizer:
        return recipe
    if not recipe.tokenizer:
        raise UsageError(f"{name} has no text: expected no tokenizer, got {tokenizer!r}; drop it")
    return replace(recipe, tokenizer=tokenizer)
