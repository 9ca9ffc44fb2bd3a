"""List the samples that can be loaded from a folder of media or a cache, and choose among them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.catalogue import Sample, SampleTable, Source
from rlmba.data.media.content import Reader, Recipe
from rlmba.errors import DataError, RlmbaWarning, UnfitError, UsageError

if TYPE_CHECKING:
    from rlmba.data.media.cache import CacheInfo

__all__ = ["FileFacts", "Listing", "SampleChoice", "choose", "list_cache", "list_files"]

_NAMED = 20
_THREADS = 16


@dataclass(frozen=True)
class SampleChoice:
    """Which samples to load; :func:`rlmba.data.load_food101` explains each field.

    Raises
    ------
    UsageError
        If a field has a value that it cannot have.
    """

    incomplete: str = "drop"
    flagged: str = "keep"
    classes: Sequence[str] | None = None
    observed_classes: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        for option in ("incomplete", "flagged"):
            if getattr(self, option) not in ("drop", "keep"):
                raise UsageError(
                    f'option {option}: expected "drop" or "keep", got {getattr(self, option)!r}'
                )
        if self.limit is not None and (
            not isinstance(self.limit, int) or isinstance(self.limit, bool) or self.limit < 1
        ):
            raise UsageError(f"option limit: expected an integer >= 1 or none, got {self.limit!r}")
        if self.classes is not None and (
            isinstance(self.classes, str)
            or not all(isinstance(c, str) for c in self.classes)
            or len(set(self.classes)) < 2
        ):
            raise UsageError(
                f"option classes: expected a list of two class names or more, got {self.classes!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Listing(SampleTable):
    """Samples that can be loaded, and how to read them.

    Parameters
    ----------
    flagged : bool array [n]
        Whether a sample was found still, short or silent.
    reader : callable
        Takes rows (int64 array) and returns a Reader of these samples in this order.
    content : callable
        Takes rows and returns the checksum of their content, or a function that computes it.
    expected : (int, int) or None
        Published numbers of training and test samples; None for a cache.
    where : str
        The folder to name in advice to run ``rlmba data check``.
    """

    flagged: NDArray[np.bool_]
    reader: Callable[[NDArray[np.int64]], Reader]
    content: Callable[[NDArray[np.int64]], str | Callable[[], str]]
    expected: tuple[int, int] | None
    where: str

    def rows(self, rows: NDArray[np.int64]) -> Listing:
        """The listing of these rows only, in this order."""
        reader, content = self.reader, self.content
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            test=self.test[rows],
            present=self.present[rows],
            flagged=self.flagged[rows],
            reader=lambda r: reader(rows[r]),
            content=lambda r: content(rows[r]),
        )


@dataclass(frozen=True)
class FileFacts:
    """Computes a checksum of the paths and sizes of media files; called once, when it is needed."""

    root: Path
    samples: Sequence[Sample]

    def __call__(self) -> str:
        """BLAKE2b, 128 bits, hexadecimal. Several threads query the file system at once."""
        digest = hashlib.blake2b(digest_size=16)
        on_disk = any(
            s is not None and s.path for each in self.samples for s in each.sources.values()
        )
        # Hashing a text in memory takes less time than handing it to a thread.
        with ThreadPoolExecutor(_THREADS) as pool:
            lines = pool.map(self._line, self.samples) if on_disk else map(self._line, self.samples)
            for line in lines:
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _line(self, sample: Sample) -> str:
        facts = [f"{m}\t{self._fact(s)}" for m, s in sorted(sample.sources.items())]
        return "\n".join([sample.id, *facts, ""])

    def _fact(self, source: Source | None) -> str:
        if source is None:
            return ""
        if source.path is None:
            text = (source.text or "").encode("utf-8", "surrogateescape")
            return hashlib.blake2b(text, digest_size=16).hexdigest()
        path = os.path.relpath(source.path, self.root)
        try:
            if source.form == "frames":
                with os.scandir(source.path) as entries:
                    sizes = sorted((e.name, e.stat().st_size) for e in entries)
                return f"{path}\t{sizes}"
            return f"{path}\t{source.path.stat().st_size}"
        except OSError:
            return f"{path}\tgone"


def list_files(
    name: str,
    root: Path,
    recipe: Recipe,
    *,
    layout: str | None,
    annotations: Any,
    index: Path | None,
) -> Listing:
    """List a folder of media, without the modalities that a check found unreadable."""
    from rlmba.data.media.check import known_outcomes
    from rlmba.data.media.layouts import find_catalogue
    from rlmba.data.media.reader import RawReader

    catalogue = find_catalogue(name, root, layout=layout, annotations=annotations)
    samples, modalities = catalogue.samples, catalogue.modalities
    outcomes = known_outcomes(catalogue, recipe, index)
    present = np.array(
        [[s.sources.get(m) is not None for m in modalities] for s in samples], np.bool_
    )
    flagged = np.zeros(len(samples), np.bool_)
    for row, sample in enumerate(samples):
        outcome = outcomes.get(sample.id)
        if outcome is not None:
            flagged[row] = _is_flagged(outcome.flags)
            for modality in outcome.problems:
                present[row, modalities.index(modality)] = False
    return Listing(
        name=name,
        classes=catalogue.classes,
        modalities=modalities,
        recipe=recipe,
        ids=np.array([s.id for s in samples], np.str_),
        labels=np.array([s.label for s in samples], np.int64),
        test=np.array([s.test for s in samples], np.bool_),
        present=present,
        flagged=flagged,
        reader=lambda rows: RawReader([samples[r] for r in rows.tolist()], recipe),
        content=lambda rows: FileFacts(catalogue.root, [samples[r] for r in rows.tolist()]),
        expected=(catalogue.published["train"], catalogue.published["test"]),
        where=str(root),
    )


def list_cache(info: CacheInfo) -> Listing:
    """List the samples of a cache, and warn if it is not finished."""
    from rlmba.data.media.cache import CacheReader

    if info.waiting:
        warnings.warn(
            f"{info.path}: {info.waiting:,} of {info.planned:,} samples are not prepared yet and are "
            f"left out; `rlmba data prepare {info.name} DIR --cache {info.path}` continues with them",
            RlmbaWarning,
            stacklevel=4,
        )
    return Listing(
        **{f.name: getattr(info, f.name) for f in fields(SampleTable)},
        flagged=np.array([_is_flagged(info.flags.get(i, {})) for i in info.ids.tolist()], np.bool_),
        reader=lambda rows: CacheReader(info.path, info.ids[rows].tolist()),
        content=lambda _: info.fingerprint,
        expected=None,
        where="DIR",
    )


def _is_flagged(flags: Any) -> bool:
    """Whether the content of a clip is odd; a picture that was only converted or rotated is not."""
    return any({"still", "short", "silent"} & set(names) for names in flags.values())


def choose(listing: Listing, choice: SampleChoice) -> Listing:
    """The samples of a choice; labels are renumbered if only some classes are chosen.

    Raises
    ------
    DataError
        If no sample is left.
    UnfitError
        If a class has no training sample.
    UsageError
        If a chosen class is not in the data set.
    """
    enough = np.any if choice.incomplete == "keep" else np.all
    usable: NDArray[np.bool_] = enough(listing.present, axis=1)
    if choice.flagged == "drop":
        usable &= ~listing.flagged
    _warn_of_missing(listing, usable)
    chosen = listing.rows(np.flatnonzero(usable))
    wanted = _wanted_classes(chosen, choice)
    renumber = np.full(len(listing.classes), -1, np.int64)
    renumber[wanted] = np.arange(len(wanted))
    chosen = chosen.rows(np.flatnonzero(renumber[chosen.labels] >= 0))
    if choice.limit is not None:
        chosen = chosen.rows(_first_of_each(chosen, choice.limit))
    if chosen.test.all():
        raise DataError(_nothing_left(listing, choice))
    names = tuple(listing.classes[c] for c in wanted)
    chosen = replace(chosen, classes=names, labels=renumber[chosen.labels])
    counts = np.bincount(chosen.labels[~chosen.test], minlength=len(names))
    lacking = [names[c] for c in np.flatnonzero(counts == 0)]
    if lacking:
        raise UnfitError(
            f"{listing.name}: expected training samples of each of {len(names)} classes, got none of "
            f"{len(lacking)}: {_named(lacking)}. Add samples, choose classes with the "
            "option classes=[...], or load only classes with samples by the option observed_classes=true "
            "(`rlmba run --set dataset_options.observed_classes=true`)",
            {"dataset_options.observed_classes": True} if len(lacking) < len(names) - 1 else {},
        )
    return chosen


def _named(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:_NAMED]))
    return listed + (", ..." if len(names) > _NAMED else "")


def _wanted_classes(listing: Listing, choice: SampleChoice) -> NDArray[np.int64]:
    """Positions in ``listing.classes``, in ascending order."""
    wanted = np.ones(len(listing.classes), np.bool_)
    if choice.classes is not None:
        unknown = sorted(set(choice.classes) - set(listing.classes))
        if unknown:
            raise UsageError(
                f"option classes: {listing.name} has no class {unknown[0]!r}; expected some of "
                f"{', '.join(listing.classes)}"
            )
        wanted = np.isin(listing.classes, list(choice.classes))
    if choice.observed_classes:
        wanted &= np.bincount(listing.labels[~listing.test], minlength=len(wanted)) > 0
    return np.flatnonzero(wanted).astype(np.int64)


def _first_of_each(listing: Listing, limit: int) -> NDArray[np.int64]:
    """Rows of the first ``limit`` ids of each class and split, in ascending order."""
    order = np.lexsort((listing.ids, listing.labels, listing.test))
    group = 2 * listing.labels[order] + listing.test[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    rank = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    return np.sort(order[rank < limit]).astype(np.int64)


def _warn_of_missing(listing: Listing, usable: NDArray[np.bool_]) -> None:
    if listing.expected is None:
        return
    found = (int((usable & ~listing.test).sum()), int((usable & listing.test).sum()))
    if all(f >= e for f, e in zip(found, listing.expected, strict=True)) or not any(found):
        return
    parts = [
        f"{f:,} of {e:,} {split} samples"
        for f, e, split in zip(found, listing.expected, ("training", "test"), strict=True)
    ]
    warnings.warn(
        f"{listing.name}: only {' and '.join(parts)} that were published can be used "
        f"({len(listing.ids):,} are listed, {int((~listing.present.all(axis=1)).sum()):,} of them "
        f"incomplete); `rlmba data check {listing.name} {listing.where}` lists the others",
        RlmbaWarning,
        stacklevel=4,
    )


def _nothing_left(listing: Listing, choice: SampleChoice) -> str:
    lacking = [
        f"{int((~listing.present[:, m]).sum()):,} lack {name}"
        for m, name in enumerate(listing.modalities)
    ]
    requested = [
        f"{option}={value!r}"
        for option, value in vars(choice).items()
        if value != SampleChoice.__dataclass_fields__[option].default
    ]
    return (
        f"{listing.name}: no sample is left to train on: {len(listing.ids):,} listed "
        f"({int((~listing.test).sum()):,} for training), {', '.join(lacking)}, "
        f"{int(listing.flagged.sum()):,} flagged"
        + (f"; chosen by {', '.join(requested)}" if requested else "")
        + f". `rlmba data check {listing.name} {listing.where}` lists what is missing; the option "
        'incomplete="keep" keeps samples that lack a modality'
    )
