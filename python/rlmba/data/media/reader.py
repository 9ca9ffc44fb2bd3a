"""Read samples from their media files when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from rlmba.data.media.catalogue import Sample
from rlmba.data.media.content import Recipe
from rlmba.data.media.decode import decode_sample

__all__ = ["RawReader"]


class RawReader:
    """A :class:`~rlmba.data.media.content.Reader` that decodes a sample's files at every read.

    It can be pickled; a copy in a worker process has the samples but not the recorded problems.

    Parameters
    ----------
    samples : sequence of Sample
        By dataset position.
    recipe : Recipe
        What is taken from the files.

    Attributes
    ----------
    problems : dict of (position, modality) to str
        What could not be read so far in this process, and why. Modalities whose file was missing from
        the start are not included.
    """

    def __init__(self, samples: Sequence[Sample], recipe: Recipe) -> None:
        self.samples = samples
        self.recipe = recipe
        self.problems: dict[tuple[int, str], str] = {}

    def __reduce__(self) -> tuple[type[RawReader], tuple[Sequence[Sample], Recipe]]:
        return RawReader, (self.samples, self.recipe)

    def read(self, position: int) -> Mapping[str, NDArray[Any] | None]:
        """A sample's arrays by modality; None if a modality is missing or unreadable."""
        return {**self.decoded(position), **self.undecoded(position)}

    def undecoded(self, position: int) -> Mapping[str, NDArray[Any]]:  # noqa: ARG002
        """The arrays of a sample that come from no file."""
        return {}

    def decoded(self, position: int) -> Mapping[str, NDArray[Any] | None]:
        """The arrays of a sample that are decoded from its files and texts; see :meth:`read`."""
        sample = self.samples[position]
        contents = decode_sample(sample, self.recipe)
        for modality, content in contents.items():
            if content.array is None and sample.sources[modality] is not None:
                self.problems[int(position), modality] = content.problem
        return {modality: content.array for modality, content in contents.items()}
