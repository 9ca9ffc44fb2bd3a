"""The data sets ``food101``, ``kineticssound`` and ``vggsound``: from folders of media, or from a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rlmba.data.media.listing import Listing, SampleChoice, choose, list_cache, list_files
from rlmba.errors import UsageError
from rlmba.reading.options import takes_options_of

if TYPE_CHECKING:
    from rlmba.data.media.dataset import MediaDataset

__all__ = ["load_food101", "load_kineticssound", "load_vggsound"]

Paths: TypeAlias = str | Path | Sequence[str | Path]


def _list(
    name: str,
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
) -> Listing:
    """The samples to load, with the options of :func:`load_food101`."""
    from rlmba.data.media.cache import is_cache, read_cache_info
    from rlmba.data.media.layouts import recipe_of
    from rlmba.data.media.tokens import with_vocabulary

    choice = SampleChoice(incomplete, flagged, classes, observed_classes, limit)
    if cache is None and not is_cache(root):
        recipe = with_vocabulary(recipe_of(name, tokenizer or ""))
        index = None if index is None else Path(index)
        listing = list_files(
            name, Path(root), recipe, layout=layout, annotations=annotations, index=index
        )
        return choose(listing, choice)
    prepared = Path(root if cache is None else cache)
    if (layout, annotations, index) != (None, None, None):
        raise UsageError(
            f"{name}: the options layout, annotations and index are for a folder of media, but {prepared} is "
            "a cache; drop them, or prepare another cache with them"
        )
    info = read_cache_info(prepared, name=name)
    if tokenizer not in (None, info.recipe.tokenizer):
        raise UsageError(
            f"{name}: the cache {prepared} was made with the tokenizer {info.recipe.tokenizer!r}, got "
            f"{tokenizer!r}; drop the option, or prepare another cache with it"
        )
    return choose(list_cache(info), choice)


@takes_options_of(_list)
def load_food101(root: str | Path, **options: Any) -> MediaDataset:
    """UPMC Food-101: texts and images of recipes for 101 dishes.

    Parameters
    ----------
    root : path
        The folder of images and texts, or a cache of it.
    cache : path, optional
        A cache made by ``rlmba data prepare``, finished or not. Samples, lists and media come from it,
        and ``root`` is not read.
    layout : str, optional
        The layout of the folder; by default the one that is found.
    annotations : path or several, optional
        Lists of samples that are not in the folder.
    tokenizer : str, optional
        A local folder or hub name of a transformers tokenizer, or "words", which needs no files; by
        default "bert-base-uncased". A cache holds token ids: it needs no tokenizer, and if one is named,
        the cache must have been made with it.
    incomplete : {"drop", "keep"}, default "drop"
        What to do with samples that lack a modality. The papers drop them.
    flagged : {"drop", "keep"}, default "keep"
        What to do with samples that a check or preparation found still, short or silent.
    classes : sequence of str, optional
        Load only these classes, two or more. Labels count them in the order of the published list. By
        default all published classes are loaded.
    observed_classes : bool, default False
        Load only classes that have a training sample, instead of raising an error for the others.
    limit : int, optional
        Load at most this many samples of each class and split, the first by id. It is meant for trials.
    index : path, optional
        The results of ``rlmba data check``, if they are not in their default place. Samples that it
        found unreadable count as missing, unless their files have changed since.

    Returns
    -------
    MediaDataset
        Modalities "text" and "image".

    Raises
    ------
    DataError
        If the folder is not this data set, no sample is left, or a class has no training sample.
    UsageError
        If an option is invalid, or the tokenizer cannot be loaded.
    """
    return _load(_list("food101", root, **options))


@takes_options_of(_list, without=("tokenizer",))
def load_kineticssound(root: str | Path, **options: Any) -> MediaDataset:
    """KineticsSound: clips of 31 actions that can be seen and heard.

    Options and errors are those of :func:`load_food101`, without ``tokenizer``. The modalities are
    "video" and "audio".
    """
    return _load(_list("kineticssound", root, **options))


@takes_options_of(_list, without=("tokenizer",))
def load_vggsound(root: str | Path, **options: Any) -> MediaDataset:
    """VGGSound: clips of 309 sounds whose source can be seen.

    Options and errors are those of :func:`load_food101`, without ``tokenizer``. The modalities are
    "video" and "audio".
    """
    return _load(_list("vggsound", root, **options))


def _load(listing: Listing) -> MediaDataset:
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
