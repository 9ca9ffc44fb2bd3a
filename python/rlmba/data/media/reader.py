"""Samples read from their media files as they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from rlmba.data.media.catalogue import Sample
from rlmba.data.media.content import Recipe
from rlmba.data.media.decode import decode_sample

__all__ = ["RawReader"]


class RawReader:
    """Decodes a sample's files at every read: a :class:`~rlmba.data.media.content.Reader`.

    Can be pickled: a worker's copy knows the samples and nothing of what failed elsewhere.

    Parameters
    ----------
    samples : sequence of Sample
        By dataset position.
    recipe : Recipe
        What is taken from the files.

    Attributes
    ----------
    problems : dict of (position, modality) to str
        What could not be read so far in this process, and why. A modality whose file was missing
        from the start is not among them.
    """

    def __init__(self, samples: Sequence[Sample], recipe: Recipe) -> None:
        self.samples = samples
        self.recipe = recipe
        self.problems: dict[tuple[int, str], str] = {}

    def __reduce__(self) -> tuple[type[RawReader], tuple[Sequence[Sample], Recipe]]:
        return RawReader, (self.samples, self.recipe)

    def read(self, position: int) -> Mapping[str, NDArray[Any] | None]:
        """Arrays of a sample by modality, decoded now; None where there is none to be had."""
        sample = self.samples[position]
        contents = decode_sample(sample, self.recipe)
        for modality, content in contents.items():
            if content.array is None and sample.sources[modality] is not None:
                self.problems[int(position), modality] = content.problem
        return {modality: content.array for modality, content in contents.items()}
