"""The samples of a data set of media files: their ids, classes, splits and files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.content import Recipe

__all__ = ["Catalogue", "Sample", "SampleTable", "Source", "StorageForm", "split_checksum"]

StorageForm: TypeAlias = Literal["image", "text", "clip", "frames", "wav"]
"""How a modality is stored: an image file, text, a video file with its sound, a folder of
``frame_<k>.jpg`` files, or a sound file."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one modality of one sample comes from.

    Parameters
    ----------
    form : str
        How it is stored.
    path : path or None
        The file or folder; None for text that was read with the catalogue.
    text : str or None
        The text itself; None for other modalities.
    """

    form: StorageForm
    path: Path | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that the lists or folders of a data set name.

    Parameters
    ----------
    id : str
        The same on every machine and in every layout.
    label : int
        Position in the catalogue's classes.
    test : bool
        Whether the sample belongs to the test split.
    sources : mapping of modality to Source or None
        None if the file is missing.
    """

    id: str
    label: int
    test: bool
    sources: Mapping[str, Source | None]

    @property
    def complete(self) -> bool:
        """Whether no modality is missing."""
        return all(s is not None for s in self.sources.values())


@dataclass(frozen=True)
class Catalogue:
    """All samples that the lists or folders of a data set name, including those with missing files.

    Parameters
    ----------
    name : str
        The data set: "food101", "kineticssound" or "vggsound".
    root : path
        The folder that was read.
    layout : str
        The layout that was found in the folder.
    modalities : tuple of str
        In their fixed order.
    classes : tuple of str
        The published classes, sorted; a label is a position in it.
    samples : sequence of Sample
        Sorted by (test, class, id); ids are distinct.
    published : mapping of split to int
        The published numbers of samples, for "train" and "test".
    notes : sequence of str
        Remarks about the folder: skipped lines, files that belong to no sample, repeated ids.
    """

    name: str
    root: Path
    layout: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    samples: Sequence[Sample]
    published: Mapping[str, int]
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """Samples that can be loaded, as columns with one entry per sample.

    Parameters
    ----------
    name : str
        The data set.
    classes, modalities : tuple of str
    recipe : Recipe
        How the content is made from the media files.
    ids : str array [n]
    labels : int64 array [n]
    test : bool array [n]
        Whether a sample belongs to the test split.
    present : bool array [n, M]
        Which modalities a sample has.
    """

    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    recipe: Recipe
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_]
    present: NDArray[np.bool_]


def split_checksum(
    classes: Sequence[str],
    ids: Sequence[str] | NDArray[np.str_],
    labels: Sequence[int] | NDArray[np.int64],
    test: Sequence[bool] | NDArray[np.bool_],
) -> str:
    """Checksum of the split and class of every sample: BLAKE2b, 128 bits, hexadecimal.

    It does not depend on the order of the samples. Two people with the same checksum train and test on
    the same samples.
    """
    lines = sorted(
        f"{'test' if t else 'train'}\t{classes[int(y)]}\t{i}"
        for i, y, t in zip(ids, labels, test, strict=True)
    )
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
