"""What every data set offers: samples with stable ids, several modalities, a fixed split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["KINDS", "Batch", "Kind", "Modality", "MultimodalDataset"]

Kind: TypeAlias = Literal[
    "features", "image", "video", "waveform", "spectrogram", "tokens", "sequence"
]

KINDS: tuple[str, ...] = get_args(Kind)
"""Kinds of modality, which decide conversion, augmentation and the default encoder."""


@dataclass(frozen=True)
class Modality:
    """What one modality's tensors look like.

    Parameters
    ----------
    name : str
        Its name, distinct within a data set and not "mm".
    kind : str
        "features" (D,), "image" (C, H, W), "video" (C, T, H, W), "waveform" (T,), "spectrogram"
        (C, F, T), "tokens" (T,) or "sequence" (T, F).
    shape : tuple of int
        Shape of one sample in a batch, as listed for its kind.
    dtype : str
        Of the batch's tensor: "float32", or "int64" for tokens.
    sample_rate : float or None
        Samples per second of a waveform, where known.
    vocabulary : int or None
        Number of distinct token ids of tokens: ids lie below it.
    padding : int
        What stands for "no token" in tokens: 0, or -1 where a tokenizer uses 0 for a token or pads
        with one that means something else as well.
    mean, deviation : tuple of float or None
        Of images and videos that were standardized per channel with these constants, after scaling
        to [0, 1]; None where it was done otherwise. An encoder trained under others can convert.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str = "float32"
    sample_rate: float | None = None
    vocabulary: int | None = None
    padding: int = 0
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


class Batch(NamedTuple):
    """Samples of every modality, in the data set's order of modalities.

    Finished, ``inputs`` maps modality to a tensor ``[n, *shape]``, ready for a model; ``present`` is
    bool [n, M], or None when every sample has every modality. Inputs of absent modalities are
    finite and mean nothing. As :meth:`MultimodalDataset.load` leaves it, ``inputs`` may be in a
    compact form of the data set's own, with ``draws``, the random numbers that decide the
    augmentation :meth:`MultimodalDataset.finish` has yet to apply.
    """

    inputs: Mapping[str, torch.Tensor]
    present: torch.Tensor | None
    draws: Mapping[str, torch.Tensor] | None = None


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
        Stable sample ids by dataset position, distinct.
    labels : int64 array [n]
        True classes by dataset position: only the oracle annotator and evaluation may look. -1 where
        nobody knows; not so in a test split.
    train_positions, test_positions : int64 array
        Dataset positions of the split, rising and disjoint; test may be empty.
    validation_positions : int64 array or None
        Those of ``train_positions`` that are set aside as V, rising; None where V is to be drawn.
    present : bool array [n, M] or None
        Which modalities each sample has; None when all have all.
    in_memory : bool
        Loading a batch is a matter of indexing: not worth processes of its own.
    settled : mapping of str to object
        Options that were worked out from the data, with which it is read the same after it has grown.
    source : MultimodalDataset or None
        The data set whose samples these are features of: what people look at, at the same positions.
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

    @abstractmethod
    def fingerprint(self) -> str:
        """Checksum of ids, labels, split and content: equal only for the same data."""

    @abstractmethod
    def load(
        self,
        positions: NDArray[np.int64],
        *,
        train: bool,
        generator: torch.Generator | None,
        rows: slice | None = None,
    ) -> Batch:
        """Read samples: the part of a batch's work that runs in worker processes.

        Parameters
        ----------
        positions : int64 array [n]
            Dataset positions, in any order, repeats allowed.
        train : bool
            Apply, or draw, the data set's augmentation.
        generator : torch.Generator or None
            Source of the augmentation's randomness; needed, and used, only with ``train``. Its state
            afterwards does not depend on ``rows``.
        rows : slice or None
            Which of ``positions`` to read; None: all. A batch may be read in parts, or each part by
            another process: a sample's augmentation is what it is in the whole batch. So draw for
            all of ``positions`` and take these rows of the draws.

        Returns
        -------
        Batch
            On the CPU, rows in the order of ``positions[rows]``, for :meth:`finish`. ``present`` may
            lack what the data set's own says is there, where a sample turned out not to be readable;
            nothing may be left of it.
        """

    def shown(self, position: int) -> Mapping[str, str | Path]:
        """What a person can look at to label a sample, by modality: a text, or the path of a file.

        Modalities that cannot be shown, or that the sample lacks, are not in it.
        """
        return {} if self.source is None else self.source.shown(position)

    def found(self) -> Sequence[str]:
        """What was found when the data was read, a line each, for whoever brings it."""
        parts = [f"{len(self.train_positions):,} for training"]
        parts += [f"{len(self.test_positions):,} for testing"] if len(self.test_positions) else []
        kinds = ", ".join(
            m.name if m.name == m.kind else f"{m.name} ({m.kind})" for m in self.modalities
        )
        return [f"{len(self):,} samples: {', '.join(parts)}", f"modalities: {kinds}"]

    def reading(self) -> Mapping[str, Any]:
        """What is needed, beside a file, to read new samples as these were read; JSON can hold it."""
        return {} if self.source is None else self.source.reading()

    def finish(self, batch: Batch, device: torch.device) -> Batch:
        """Move what :meth:`load` read to a device and make it ready for a model there.

        Draws no random numbers, so that a batch is the same wherever it is finished, up to
        rounding. Unless a data set says otherwise, moving is all there is to do.
        """
        return Batch(
            {m: x.to(device, non_blocking=True) for m, x in batch.inputs.items()},
            None if batch.present is None else batch.present.to(device, non_blocking=True),
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
