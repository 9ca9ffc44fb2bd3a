"""What a data set of media files consists of: which samples, of which class and split, from where."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Catalogue", "Form", "Sample", "Source", "split_checksum"]

Form: TypeAlias = Literal["image", "text", "clip", "frames", "wav"]
"""How a modality's content is stored: an image file; text; a video file, with its sound; a folder of
``frame_<k>.jpg``; a sound file."""


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
        The text itself, of text only.
    """

    form: Form
    path: Path | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as the data set's lists or folders name it.

    Parameters
    ----------
    id : str
        Stable: the same sample has the same id on every machine and in every layout.
    label : int
        Position in the catalogue's classes.
    test : bool
        Whether it belongs to the test split.
    sources : mapping of modality to Source or None
        None where its file is missing.
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
    """Every sample that a root's lists or folders name, missing files included.

    Parameters
    ----------
    name : str
        The data set: "food101", "kineticssound" or "vggsound".
    root : path
        Where it was read.
    layout : str
        Which of the layouts of that data set was found there.
    modalities : tuple of str
        In their fixed order.
    classes : tuple of str
        The published classes, sorted; a label is a position in it.
    samples : sequence of Sample
        Sorted by (test, class, id); ids are distinct.
    published : mapping of split to int
        Number of samples the publication counts, for "train" and "test".
    notes : sequence of str
        What was noticed on reading: lines skipped, files that belong to no sample, ids twice.
    """

    name: str
    root: Path
    layout: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    samples: Sequence[Sample]
    published: Mapping[str, int]
    notes: Sequence[str] = field(default=())


def split_checksum(
    classes: Sequence[str],
    ids: Sequence[str] | NDArray[np.str_],
    labels: Sequence[int] | NDArray[np.int64],
    test: Sequence[bool] | NDArray[np.bool_],
) -> str:
    """Checksum of which samples are in which split and class: BLAKE2b, 128 bits, hexadecimal.

    The order of the samples plays no part: two people who get the same one train and test on the
    same samples.
    """
    lines = sorted(
        f"{'test' if t else 'train'}\t{classes[int(y)]}\t{i}"
        for i, y, t in zip(ids, labels, test, strict=True)
    )
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
