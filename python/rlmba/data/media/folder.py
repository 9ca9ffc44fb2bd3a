"""Check and prepare the folder of a data set that is given by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.data.media.cache import is_cache, verify
from rlmba.data.media.check import check
from rlmba.data.media.outcome import Decode
from rlmba.data.media.prepare import prepare
from rlmba.data.media.report import MediaReport, OnProgress
from rlmba.errors import DataError, UsageError

if TYPE_CHECKING:
    from rlmba.data.media.catalogue import Catalogue
    from rlmba.data.media.content import Recipe

__all__ = ["check_folder", "prepare_folder", "require_usable"]


def check_folder(
    name: str,
    root: Path,
    *,
    layout: str | None = None,
    annotations: Path | None = None,
    tokenizer: str = "",
    workers: int | None = None,
    index: Path | None = None,
    quick: bool = False,
    decode: Decode | None = None,
    progress: OnProgress | None = None,
) -> MediaReport:
    """:func:`~rlmba.data.media.check.check` a folder, or :func:`~rlmba.data.media.cache.verify` a cache.

    Parameters
    ----------
    name : str
        "food101", "kineticssound" or "vggsound".
    root : path
        The data set's folder, or a cache of it.
    layout, annotations
        As :func:`rlmba.data.media.layouts.find_catalogue`; for a folder only.
    tokenizer : str
        A local folder or a hub name; "" for the data set's default.
    workers, index, quick, decode, progress
        As :func:`~rlmba.data.media.check.check`.

    Raises
    ------
    RlmbaError
        As these functions; UsageError if an option does not fit a cache, or the tokenizer cannot be
        loaded.
    """
    if is_cache(root):
        given = {
            "--layout": layout,
            "--annotations": annotations,
            "--tokenizer": tokenizer,
            "--index": index,
            "--quick": quick,
        }
        if unfit := [option for option, value in given.items() if value]:
            raise UsageError(
                f"{root} is a cache, which is always verified as a whole: {', '.join(unfit)} applies only to "
                "a folder of media; drop it, or give the folder of media"
            )
        return verify(root, name=name, workers=workers, progress=progress)
    catalogue, recipe = _open(name, root, layout, annotations, tokenizer)
    return check(
        catalogue,
        recipe,
        workers=workers,
        decode=decode,
        progress=progress,
        index=index,
        quick=quick,
    )


def prepare_folder(
    name: str,
    root: Path,
    cache: Path,
    *,
    layout: str | None = None,
    annotations: Path | None = None,
    tokenizer: str = "",
    workers: int | None = None,
    decode: Decode | None = None,
    progress: OnProgress | None = None,
) -> MediaReport:
    """:func:`~rlmba.data.media.prepare.prepare` a folder; options as for :func:`check_folder`.

    Raises
    ------
    RlmbaError
        As that function; UsageError if the tokenizer cannot be loaded or the folder is a cache.
    """
    if is_cache(root):
        raise UsageError(f"{root} is a cache already: give the folder of media")
    catalogue, recipe = _open(name, root, layout, annotations, tokenizer)
    return prepare(catalogue, recipe, cache, workers=workers, decode=decode, progress=progress)


def require_usable(report: MediaReport) -> None:
    """Raise if no sample of a data set can be used.

    Raises
    ------
    DataError
        If no sample is usable.
    """
    if not report.usable:
        raise DataError(
            f"none of the {len(report.ids):,} samples of {report.name} listed in {report.root} is usable: "
            "give the folder that contains its files"
        )


def _open(
    name: str, root: Path, layout: str | None, annotations: Path | None, tokenizer: str
) -> tuple[Catalogue, Recipe]:
    from rlmba.data.media.layouts import find_catalogue, recipe_of

    recipe = recipe_of(name, tokenizer)
    return find_catalogue(name, root, layout=layout, annotations=annotations), recipe
