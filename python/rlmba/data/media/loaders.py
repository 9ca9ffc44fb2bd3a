"""``food101``, ``kineticssound`` and ``vggsound``: from folders that people have, or from a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from rlmba.data.media.listing import Choice, Listing, choose, list_cache, list_files
from rlmba.errors import UsageError

if TYPE_CHECKING:
    from rlmba.data.media.dataset import MediaDataset

__all__ = ["load_food101", "load_kineticssound", "load_vggsound"]

Paths: TypeAlias = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class _Files:
    """Where a loader was told to look."""

    root: str | Path
    cache: str | Path | None
    layout: str | None
    annotations: Paths | None
    index: str | Path | None

    def prepared(self, name: str) -> Path | None:
        """The cache to read from, if any."""
        from rlmba.data.media.cache import is_cache

        if self.cache is None and not is_cache(self.root):
            return None
        found = Path(self.root if self.cache is None else self.cache)
        if (self.layout, self.annotations, self.index) != (None, None, None):
            raise UsageError(
                f"{name}: layout, annotations and index are for a folder of media, got the cache "
                f"{found}; drop them, or prepare another cache with them"
            )
        return found


def load_food101(
    root: str | Path,
    *,
    cache: str | Path | None = None,
    layout: str | None = None,
    annotations: Paths | None = None,
    tokenizer: str | None = None,
    incomplete: Literal["drop", "keep"] = "drop",
    flagged: Literal["drop", "keep"] = "keep",
    classes: Sequence[str] | None = None,
    observed_classes: bool = False,
    limit: int | None = None,
    index: str | Path | None = None,
) -> MediaDataset:
    """UPMC Food-101: recipes' texts and images of 101 dishes.

    Parameters
    ----------
    root : path
        The folder of images and texts, or a cache of it.
    cache : path, optional
        A cache made by ``rlmba data prepare``: samples, lists and media come from there, finished
        or not, and ``root`` is not read.
    layout : str, optional
        Which of the layouts the folder has; by default the one found.
    annotations : path or several, optional
        Lists that lie elsewhere than in the folder.
    tokenizer : str, optional
        A local folder or hub name of a transformers tokenizer, or "words", which needs no files. By
        default "bert-base-uncased". A cache holds token ids: it needs none, and must have been made
        with the one that is named.
    incomplete : {"drop", "keep"}
        What becomes of samples that lack a modality; the papers leave them out.
    flagged : {"drop", "keep"}
        What becomes of samples found still, short or silent when they were checked or prepared.
    classes : sequence of str, optional
        Only these classes, two or more; labels count them in the order of the published list. By
        default all that were published.
    observed_classes : bool
        Only classes that have a training sample here, instead of an error where one has none.
    limit : int, optional
        At most so many samples of each class and split, the first by id: for a trial.
    index : path, optional
        What ``rlmba data check`` wrote, where it is not in its usual place: samples it found
        unreadable count as missing, unless their files have changed since.

    Returns
    -------
    MediaDataset
        Modalities "text" and "image".

    Raises
    ------
    DataError
        If the folder is not that data set, no sample is left, or a class has none to train on.
    UsageError
        If an option is wrong, or the tokenizer is neither here nor within reach.
    """
    choice = Choice(incomplete, flagged, classes, observed_classes, limit)
    files = _Files(root, cache, layout, annotations, index)
    return _load("food101", files, choice, tokenizer)


def load_kineticssound(
    root: str | Path,
    *,
    cache: str | Path | None = None,
    layout: str | None = None,
    annotations: Paths | None = None,
    incomplete: Literal["drop", "keep"] = "drop",
    flagged: Literal["drop", "keep"] = "keep",
    classes: Sequence[str] | None = None,
    observed_classes: bool = False,
    limit: int | None = None,
    index: str | Path | None = None,
) -> MediaDataset:
    """KineticsSound: clips of 31 actions that can be seen and heard.

    Options and errors are those of :func:`load_food101`, without a tokenizer; modalities are "video"
    and "audio".
    """
    choice = Choice(incomplete, flagged, classes, observed_classes, limit)
    files = _Files(root, cache, layout, annotations, index)
    return _load("kineticssound", files, choice)


def load_vggsound(
    root: str | Path,
    *,
    cache: str | Path | None = None,
    layout: str | None = None,
    annotations: Paths | None = None,
    incomplete: Literal["drop", "keep"] = "drop",
    flagged: Literal["drop", "keep"] = "keep",
    classes: Sequence[str] | None = None,
    observed_classes: bool = False,
    limit: int | None = None,
    index: str | Path | None = None,
) -> MediaDataset:
    """VGGSound: clips of 309 sounds whose source can be seen.

    Options and errors are those of :func:`load_food101`, without a tokenizer; modalities are "video"
    and "audio".
    """
    choice = Choice(incomplete, flagged, classes, observed_classes, limit)
    files = _Files(root, cache, layout, annotations, index)
    return _load("vggsound", files, choice)


def _load(name: str, files: _Files, choice: Choice, tokenizer: str | None = None) -> MediaDataset:
    from rlmba.data.media.cache import read_cache_info
    from rlmba.data.media.layouts import recipe_of
    from rlmba.data.media.tokens import with_vocabulary

    prepared = files.prepared(name)
    if prepared is not None:
        info = read_cache_info(prepared, name=name)
        made_with = info.recipe.tokenizer
        if tokenizer not in (None, made_with):
            raise UsageError(
                f"{name}: the cache {prepared} was made with the tokenizer {made_with!r}, got {tokenizer!r}; "
                "leave the option out, or prepare another cache with it"
            )
        return _dataset(choose(list_cache(info), choice))
    listing = list_files(
        name,
        Path(files.root),
        with_vocabulary(recipe_of(name, tokenizer or "")),
        layout=files.layout,
        annotations=files.annotations,
        index=None if files.index is None else Path(files.index),
    )
    return _dataset(choose(listing, choice))


def _dataset(listing: Listing) -> MediaDataset:
    import numpy as np

    from rlmba.data.media.dataset import MediaDataset

    every = np.arange(len(listing.ids))
    return MediaDataset(
        listing.name,
        listing.reader(every),
        ids=listing.ids,
        labels=listing.labels,
        classes=listing.classes,
        test=listing.test,
        modalities=listing.modalities,
        recipe=listing.recipe,
        present=listing.present,
        vocabulary=listing.recipe.vocabulary or None,
        content=listing.content(every),
    )
