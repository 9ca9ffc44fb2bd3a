"""Data sets of media: worker processes crop samples; whole batches are augmented there or on a GPU."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.data.base import Batch, MultimodalDataset
from rlmba.data.media.content import Reader, Recipe
from rlmba.data.media.transforms import Form, form_of
from rlmba.errors import RlmbaWarning, UsageError

__all__ = ["MediaDataset"]

_UNREADABLE = "unreadable"
"""Key of a batch's inputs under which :meth:`MediaDataset.load` reports unreadable modalities."""

_LISTED = 5


class MediaDataset(MultimodalDataset):
    """Texts, images, videos and sounds from a :class:`~rlmba.data.media.content.Reader`.

    A sample that cannot be read during training is not an error: its inputs are zeros, the batch marks
    the modality as missing, and :attr:`problems` counts it.

    Parameters
    ----------
    name : str
        Name of the data set.
    reader : Reader
        Returns samples by dataset position. It must be picklable for worker processes.
    ids : sequence of str
        Distinct sample ids, by dataset position.
    labels : integer array [n]
        Positions into ``classes``.
    classes : sequence of str
        Class names, two or more.
    test : bool array [n]
        Which samples belong to the test split.
    modalities : sequence of str
        Some of "text", "image", "video", "audio" and the names in ``forms``, in the desired order.
    recipe : Recipe
        The recipe of the reader's arrays.
    present : bool array [n, M] or None
        Which modalities each sample has; the others are never read. None: all.
    vocabulary : int or None
        Number of token ids of the tokenizer; required for text.
    content : str, or callable that returns str
        A checksum of the media, which is part of the fingerprint. A callable is called once, when it
        is needed.
    forms : mapping of modality to Form
        Forms that replace the recipe's, or that belong to other modalities.
    partial : bool
        Whether labels may be unknown (-1), and classes fewer than two.

    Attributes
    ----------
    problems : dict of int to set of str
        By dataset position, modalities that should be there but could not be read, in batches that were
        finished in this process.

    Raises
    ------
    DataError
        If ids, labels, split or presence cannot be used.
    UsageError
        If a modality is unknown, or the recipe takes too little for it.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        *,
        ids: Sequence[str] | NDArray[Any],
        labels: NDArray[Any],
        classes: Sequence[str],
        test: NDArray[np.bool_],
        modalities: Sequence[str],
        recipe: Recipe,
        present: NDArray[np.bool_] | None = None,
        vocabulary: int | None = None,
        content: str | Callable[[], str] = "",
        forms: Mapping[str, Form] | None = None,
        partial: bool = False,
    ) -> None:
        self.name = name
        self.reader = reader
        self.recipe = recipe
        self._set_samples(
            ids=ids,
            labels=labels,
            classes=classes,
            test=test,
            modalities=modalities,
            present=present,
            partial=partial,
        )
        self._forms = [
            (forms or {}).get(m) or form_of(m, recipe, vocabulary=vocabulary) for m in modalities
        ]
        self.modalities = tuple(form.modality for form in self._forms)
        self.problems: dict[int, set[str]] = {}
        self._content = content

    def fingerprint(self) -> str:
        """Checksum (BLAKE2b, 128 bits, hexadecimal) of samples, labels, split, recipe and content."""
        return self._checksum

    @cached_property
    def _checksum(self) -> str:
        content = self._content if isinstance(self._content, str) else self._content()
        words = [self.name, *self.classes, "", *(m.name for m in self.modalities), ""]
        words += [self.recipe.signature(), content, *self.ids.tolist()]
        digest = hashlib.blake2b("\0".join(words).encode(), digest_size=16)
        for array in (self.labels, self.train_positions, self.present):
            digest.update(b"\0" if array is None else np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def load(
        self,
        positions: NDArray[np.int64],
        *,
        train: bool,
        generator: torch.Generator | None,
        rows: slice | None = None,
    ) -> Batch:
        """Crop what a batch needs from the reader's arrays; see :meth:`MultimodalDataset.load`.

        ``inputs`` are uint8 image [n, 3, 224, 224] and video [n, T, 3, 112, 112], int16 audio
        [n, samples] and int64 text [n, tokens]. With ``train``, ``draws`` has an entry
        "<modality>.<name>" [n, ...] for each random number that :meth:`finish` needs per sample.
        """
        if train and generator is None:
            raise UsageError(
                "augmentation: expected a torch.Generator with train=True, got None; pass one"
            )
        whole, part = len(positions), slice(None) if rows is None else rows
        mine = positions[part]
        buffers = [form.buffer(len(mine)) for form in self._forms]
        places: list[NDArray[np.float64] | None] = [None] * len(buffers)
        draws: dict[str, torch.Tensor] = {}
        if train and generator is not None:
            for column, form in enumerate(self._forms):
                drawn = torch.rand(whole, form.places, generator=generator, dtype=torch.float64)
                places[column] = drawn[part].numpy()
                own = form.draw(whole, generator)
                draws.update({f"{form.modality.name}.{key}": x[part] for key, x in own.items()})
        present, missed = self._fill(mine, buffers, places)
        inputs = {
            form.modality.name: form.compact(buffer)
            for form, buffer in zip(self._forms, buffers, strict=True)
        }
        if missed:
            inputs[_UNREADABLE] = torch.tensor(missed)
        marks = None if present is None else torch.from_numpy(present)
        return Batch(inputs, marks, draws if train else None)

    def _fill(
        self,
        positions: NDArray[np.int64],
        buffers: Sequence[NDArray[Any]],
        places: Sequence[NDArray[np.float64] | None],
    ) -> tuple[NDArray[np.bool_] | None, list[tuple[int, int]]]:
        """Read samples into the buffers; returns presence and the (position, column) of failures."""
        present = np.ones((len(positions), len(self._forms)), np.bool_)
        if self.present is not None:
            present = self.present[positions]
        missed = []
        for row, position in enumerate(positions.tolist()):
            arrays = self.reader.read(position)
            for column, form in enumerate(self._forms):
                if not present[row, column]:
                    continue
                array = arrays.get(form.modality.name)
                if array is None:
                    present[row, column] = False
                    missed.append((position, column))
                    continue
                place = places[column]
                form.take(array, None if place is None else place[row], buffers[column][row])
        return (None if self.present is None and not missed else present), missed

    def transform(self, batch: Batch, device: torch.device) -> Batch:
        """Augment, standardize and transform; see :meth:`MultimodalDataset.transform`.

        ``inputs`` become float32 image [n, 3, 224, 224], video [n, 3, T, 112, 112] and audio
        [n, 1, 257, frames], and int64 text.
        """
        inputs = dict(batch.inputs)
        for form in self._forms:
            name = form.modality.name
            compact = inputs[name].to(device, non_blocking=True)
            inputs[name] = form.finish(compact, _own_draws(batch.draws, name))
        return Batch(inputs, batch.present, ready=True)

    def finish(self, batch: Batch, device: torch.device) -> Batch:
        """Note what could not be read; see :meth:`MultimodalDataset.finish`."""
        inputs = dict(batch.inputs)
        missed = inputs.pop(_UNREADABLE, None)
        if missed is not None:
            self._note(missed)
        return super().finish(batch._replace(inputs=inputs), device)

    def _note(self, missed: torch.Tensor) -> None:
        first = not self.problems
        for position, column in missed.tolist():
            name = self.modalities[column].name
            self.problems.setdefault(position, set()).add(name)
        if first:
            warnings.warn(
                f"{self.summary()}; they count as missing, and the run continues. {self._remedy()}",
                RlmbaWarning,
                stacklevel=3,
            )

    def _remedy(self) -> str:
        """The advice in the first warning about unreadable samples."""
        return f"`rlmba data check {self.name} DIR` says what is wrong with them"

    def summary(self) -> str:
        """One line with the number of samples that could not be read so far, and the first of them."""
        if not self.problems:
            return f"data set {self.name!r}: all samples so far could be read"
        listed = [
            f"{str(self.ids[p])!r} ({', '.join(sorted(self.problems[p]))})"
            for p in sorted(self.problems)[:_LISTED]
        ]
        more = ", ..." if len(self.problems) > _LISTED else ""
        return (
            f"data set {self.name!r}: {len(self.problems)} of {len(self)} samples could not be read: "
            + ", ".join(listed)
            + more
        )


def _own_draws(
    draws: Mapping[str, torch.Tensor] | None, modality: str
) -> dict[str, torch.Tensor] | None:
    if draws is None:
        return None
    start = f"{modality}."
    return {key[len(start) :]: x for key, x in draws.items() if key.startswith(start)}
