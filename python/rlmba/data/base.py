"""The interface of a data set: samples with stable ids, several modalities and a fixed split."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rlmba.data.checks import check_ids, check_labels, check_names, check_present, check_split

if TYPE_CHECKING:
    import torch

__all__ = ["KINDS", "Batch", "Kind", "Modality", "MultimodalDataset"]

Kind: TypeAlias = Literal[
    "features", "image", "video", "waveform", "spectrogram", "tokens", "sequence"
]

KINDS: tuple[str, ...] = get_args(Kind)
"""Kinds of modality. The kind decides conversion, augmentation and the default encoder."""


@dataclass(frozen=True)
class Modality:
    """The form of one modality's tensors.

    Parameters
    ----------
    name : str
        Distinct within a data set, and not "mm".
    kind : str
        "features" (D,), "image" (C, H, W), "video" (C, T, H, W), "waveform" (T,), "spectrogram"
        (C, F, T), "tokens" (T,) or "sequence" (T, F).
    shape : tuple of int
        Shape of one sample in a batch, as listed for its kind.
    dtype : str
        Type of the batch's tensor: "float32", or "int64" for tokens.
    sample_rate : float or None
        Samples per second of a waveform, if known.
    vocabulary : int or None
        For tokens: all ids are smaller than this number.
    padding : int
        For tokens: the value that means "no token". It is 0, or -1 if the tokenizer uses 0 for a token,
        or pads with a token that also has another meaning.
    tokenizer : str or None
        For tokens: name of the tokenizer that made the ids, if known.
    mean, deviation : tuple of float or None
        For images and videos that were scaled to [0, 1] and then standardized per channel with these
        constants; otherwise None. An encoder that expects other constants can convert.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str = "float32"
    sample_rate: float | None = None
    vocabulary: int | None = None
    padding: int = 0
    tokenizer: str | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


class Batch(NamedTuple):
    """Samples of every modality, in the data set's order of modalities.

    In a finished batch, ``inputs`` maps each modality to a tensor ``[n, *shape]`` for the model, and
    ``present`` is bool [n, M], or None if every sample has every modality. Inputs of missing modalities
    are finite but arbitrary. In a batch from :meth:`MultimodalDataset.load`, ``inputs`` may have a
    compact form that only the data set knows, and ``draws`` are the random numbers for the augmentation
    that :meth:`MultimodalDataset.finish` still has to apply. ``ready`` tells that
    :meth:`MultimodalDataset.transform` has done so.
    """

    inputs: Mapping[str, torch.Tensor]
    present: torch.Tensor | None
    draws: Mapping[str, torch.Tensor] | None = None
    ready: bool = False


class MultimodalDataset(ABC):
    """Samples of several modalities, addressed by dataset position 0..n-1.

    Attributes
    ----------
    name : str
        Name of the data set, as registered or given.
    classes : tuple of str
        Class names; a label is a position in it.
    modalities : tuple of Modality
        In their fixed order.
    ids : str array [n]
        Distinct, stable sample ids by dataset position.
    labels : int64 array [n]
        True classes by dataset position; only the oracle annotator and evaluation may read them. -1 if
        the class is unknown, which test samples may not have.
    train_positions, test_positions : int64 array
        Dataset positions of the splits, ascending and disjoint. The test split may be empty.
    validation_positions : int64 array or None
        The part of ``train_positions`` that is the validation set, ascending; None if the validation
        set is to be drawn.
    present : bool array [n, M] or None
        Which modalities each sample has; None if all samples have all modalities.
    in_memory : bool
        Whether loading a batch is only indexing, so that worker processes would not pay.
    settled : mapping of str to object
        Options that were derived from the data. If they are passed explicitly, the data is read in the
        same way after rows have been added.
    source : MultimodalDataset or None
        For a data set of features: the original data set, with the same positions, that people are
        shown.
    """

    name: str
    classes: tuple[str, ...]
    modalities: tuple[Modality, ...]
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    train_positions: NDArray[np.int64]
    test_positions: NDArray[np.int64]
    validation_positions: NDArray[np.int64] | None = None
    present: NDArray[np.bool_] | None
    in_memory: bool = False
    settled: Mapping[str, Any] = MappingProxyType({})
    source: MultimodalDataset | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def _set_samples(
        self,
        *,
        ids: Sequence[str] | NDArray[Any],
        labels: NDArray[Any],
        classes: Sequence[str],
        test: NDArray[Any],
        modalities: Sequence[str],
        present: NDArray[Any] | None,
        partial: bool,
    ) -> None:
        """Check and set the attributes that describe the samples.

        Parameters
        ----------
        ids, labels, classes, present
            As the attributes.
        test : integer or boolean array [n]
            0 for training samples, 1 for test samples.
        modalities : sequence of str
            Names, in the order of the columns of ``present``.
        partial : bool
            Whether labels may be unknown (-1), and classes fewer than two.

        Raises
        ------
        DataError
            If one of them cannot be used.
        """
        self.ids = check_ids(ids)
        check_names(modalities)
        self.classes = tuple(str(c) for c in classes)
        self.labels = check_labels(labels, self.classes, self.ids, partial=partial)
        train = check_split(test, len(self.ids))
        self.train_positions = np.flatnonzero(train).astype(np.int64)
        self.test_positions = np.flatnonzero(~train).astype(np.int64)
        self.present = check_present(present, self.ids, tuple(modalities))

    @abstractmethod
    def fingerprint(self) -> str:
        """Checksum of ids, labels, split and content, which is equal only for equal data."""

    def sample_keys(self) -> Mapping[str, Sequence[bytes]]:
        """Checksums by modality and dataset position, equal only where :meth:`load` returns equal inputs.

        Features of frozen encoders are stored under them. A data set that can tell samples from each other
        by content overrides this, so that features are kept when samples are added.
        """
        whole = self.fingerprint()
        return {
            m.name: [
                hashlib.blake2b(f"{whole}\0{m.name}\0{i}".encode(), digest_size=16).digest()
                for i in self.ids.tolist()
            ]
            for m in self.modalities
        }

    @abstractmethod
    def load(
        self,
        positions: NDArray[np.int64],
        *,
        train: bool,
        generator: torch.Generator | None,
        rows: slice | None = None,
    ) -> Batch:
        """Read samples. This part of the work on a batch runs in worker processes.

        Parameters
        ----------
        positions : int64 array [n]
            Dataset positions, in any order; repeats are allowed.
        train : bool
            Whether to apply the data set's augmentation, or to draw its random numbers.
        generator : torch.Generator or None
            Randomness of the augmentation; required and used only with ``train``. Its final state does
            not depend on ``rows``.
        rows : slice or None
            The part of ``positions`` to read; None: all. Several processes may read parts of a batch,
            and each sample must be augmented as in the whole batch. So draw random numbers for all
            ``positions`` and use those of the requested rows.

        Returns
        -------
        Batch
            A batch on the CPU for :meth:`finish`, rows in the order of ``positions[rows]``. Its
            ``present`` is False for a modality that turned out to be unreadable, even for all
            modalities of a sample.
        """

    def shown(self, position: int) -> Mapping[str, str | Path]:
        """What a person is shown to label a sample: a text or the path of a file, by modality.

        Modalities that cannot be shown, or that the sample lacks, are left out.
        """
        return {} if self.source is None else self.source.shown(position)

    def text(self, position: int, modality: str) -> str | None:
        """The text that the network reads in a sample, whether people are shown it or not.

        None if the modality is no text, or the sample lacks it. By default, it is what people are shown.
        """
        if self.source is not None:
            return self.source.text(position, modality)
        shown = self.shown(position).get(modality)
        return shown if isinstance(shown, str) else None

    def found(self) -> Sequence[str]:
        """What was found when the data was read, one line each, for the user."""
        parts = [f"{len(self.train_positions):,} for training"]
        parts += [f"{len(self.test_positions):,} for testing"] if len(self.test_positions) else []
        kinds = ", ".join(
            m.name if m.name == m.kind else f"{m.name} ({m.kind})" for m in self.modalities
        )
        return [f"{len(self):,} samples: {', '.join(parts)}", f"modalities: {kinds}"]

    def reading(self) -> Mapping[str, Any]:
        """What is needed to read new samples in the same way as these; it can be stored as JSON."""
        return {} if self.source is None else self.source.reading()

    def transform(self, batch: Batch, device: torch.device) -> Batch:
        """Make the model's inputs from those of :meth:`load`, on a device, and apply the augmentation.

        This is the part of :meth:`finish` that takes time. If the model is on the CPU, worker processes
        call it after :meth:`load`. It draws no random numbers, so that the result is the same on every
        device, up to rounding. By default there is nothing to do.
        """
        del device
        return batch._replace(ready=True)

    def finish(self, batch: Batch, device: torch.device) -> Batch:
        """Move a batch to a device and make it ready for the model; always in the main process.

        :meth:`transform` is called unless a worker process has done so.
        """
        made = batch if batch.ready else self.transform(batch, device)
        return Batch(
            {m: x.to(device, non_blocking=True) for m, x in made.inputs.items()},
            None if made.present is None else made.present.to(device, non_blocking=True),
        )

    def batch(
        self,
        positions: NDArray[np.int64],
        *,
        train: bool,
        generator: torch.Generator | None,
    ) -> Batch:
        """:meth:`load` and :meth:`finish` on the CPU."""
        import torch

        loaded = self.load(positions, train=train, generator=generator)
        return self.finish(loaded, torch.device("cpu"))
