"""Input features of a data set: what the encoders read, reduced to few numbers per modality."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rlmba.data import Modality, MultimodalDataset
from rlmba.method.completing import completed_features
from rlmba.method.input_space import InputSpace
from rlmba.progress import announce
from rlmba.training import Loader, worker_deaths
from rlmba.training.arrays import empty_arrays
from rlmba.training.predict import requests_of

__all__ = ["InputFeatures", "input_features", "prepared", "reduced"]

_VALUES = 1024
"""Values to which a raster or sequence is reduced before PCA, unless it has more channels."""
_BUCKETS = 2048
_BANDS, _FRAMES = 32, 32
_WINDOW = 512
_BATCH = 256

_known: weakref.WeakKeyDictionary[MultimodalDataset, tuple[int, InputFeatures]] = (
    weakref.WeakKeyDictionary()
)


@dataclass(frozen=True, eq=False)
class InputFeatures:
    """Input features of samples, in the order of ``positions``.

    Parameters
    ----------
    positions : int64 array [n]
        Dataset positions of the samples.
    features : mapping of modality to float32 array [n, d_m]
        Unit rows in the :class:`~rlmba.method.input_space.InputSpace` of the training samples. A missing
        modality is taken from the nearest training sample that has it.
    present : bool array [n, M]
        Which modalities could be read.
    """

    positions: NDArray[np.int64]
    features: Mapping[str, NDArray[np.float32]]
    present: NDArray[np.bool_]

    def at(self, positions: NDArray[np.int64]) -> InputFeatures:
        """The input features of the samples at these dataset positions, in this order."""
        order = np.argsort(self.positions)
        rows = order[np.searchsorted(self.positions, positions, sorter=order)]
        return self.rows(rows)

    def rows(self, rows: NDArray[np.int64]) -> InputFeatures:
        """The input features in these rows, in this order."""
        features = {m: a[rows] for m, a in self.features.items()}
        return InputFeatures(self.positions[rows], features, self.present[rows])

    @property
    def readable(self) -> NDArray[np.int64]:
        """Rows of the samples with at least one modality, ascending."""
        return np.flatnonzero(self.present.any(axis=1))


def input_features(
    dataset: MultimodalDataset, loader: Loader, *, spill_folder: Path | None = None
) -> InputFeatures:
    """Input features of all training samples; computed once for a data set in a process.

    Features, such as those of frozen encoders, are used as they are. Images, videos, spectrograms and
    sequences are averaged over a grid of cells to at most 1,024 values, or one per channel if there are
    more channels. Waveforms become the logarithms of energies in up to 32 frequency bands and 32
    intervals, relative to the recording's mean. Tokens become TF-IDF values of at most 2,048 ids or
    hashes of ids. All are then prepared by :class:`~rlmba.method.input_space.InputSpace`.

    Parameters
    ----------
    dataset : MultimodalDataset
        Its samples are read once, in order, without augmentation.
    loader : Loader
        Of the same data set.
    spill_folder : path or None
        Folder for reduced arrays that exceed half of the free memory.

    Raises
    ------
    WorkerError
        If a process that loads data dies.
    StorageError
        If there is not enough disk space for the arrays.
    """
    size, known = _known.get(dataset, (-1, None))
    if known is None or size != len(dataset):
        known = _computed(dataset, loader, spill_folder)
        _known[dataset] = len(dataset), known
    return known


def prepared(
    positions: NDArray[np.int64],
    arrays: Mapping[str, NDArray[np.float32]],
    present: NDArray[np.bool_],
) -> InputFeatures:
    """Input features from arrays [n, d_m]: fit an input space on them, map them into it, complete them."""
    there = None if present.all() else present
    features = InputSpace.fit(arrays, present=there).prepare(arrays, present=there)
    return InputFeatures(positions, completed_features(features, there), present)


def _computed(
    dataset: MultimodalDataset, loader: Loader, spill_folder: Path | None
) -> InputFeatures:
    positions = dataset.train_positions
    n = len(positions)
    present = np.ones((n, len(dataset.modalities)), np.bool_)
    if dataset.present is not None:
        present &= dataset.present[positions]
    arrays: dict[str, NDArray[np.float32]] = {}
    done = 0
    with torch.inference_mode(), worker_deaths(loader):
        for batch in loader.stream(requests_of(positions, _BATCH)):
            parts = {m.name: reduced(m, batch.inputs[m.name]).cpu() for m in dataset.modalities}
            if not arrays:
                shapes = {m: (n, part.shape[1]) for m, part in parts.items()}
                arrays = empty_arrays(shapes, folder=spill_folder)
            rows = slice(done, done + len(next(iter(parts.values()))))
            for m, part in parts.items():
                arrays[m][rows] = part.numpy()
            if batch.present is not None:
                present[rows] &= batch.present.cpu().numpy()
            done = rows.stop
            announce("reading the pool", done, n)
    announce("comparing the samples of the pool")
    for column, modality in enumerate(dataset.modalities):
        if modality.kind == "tokens":
            _weigh(arrays[modality.name], present[:, column])
    return prepared(positions, arrays, present)


def reduced(modality: Modality, x: Tensor) -> Tensor:
    """Reduce a modality's batch [n, *shape] to float32 values [n, d]; tokens to counts."""
    if modality.kind == "tokens":
        return _counts(modality, x)
    x = x.float()
    if modality.kind == "waveform":
        return _band_energies(x)
    if modality.kind == "sequence":
        x = x.transpose(1, 2)
    if modality.kind != "features":
        x = _cells(x)
    return x.flatten(1)


def _cells(x: Tensor) -> Tensor:
    """Average [n, C, ...] over a grid so that C times its cells is at most 1,024, but at least C.

    Each axis is reduced by the same factor, up to rounding.
    """
    channels, sides = x.shape[1], x.shape[2:]
    share = (_VALUES / (channels * int(np.prod(sides)))) ** (1 / len(sides))
    if share >= 1:
        return x
    grid = [max(1, int(side * share)) for side in sides]
    pool = (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    )[len(sides) - 1]
    return pool(x, grid)  # type: ignore[arg-type]


def _band_energies(x: Tensor) -> Tensor:
    """Log energies of frequency bands over time, relative to each recording's mean energy."""
    window = min(_WINDOW, x.shape[1])
    if window < _BANDS:
        return x
    frames = x.unfold(1, window, window // 2) * torch.hann_window(window, device=x.device)
    energy = torch.fft.rfft(frames).abs().square()
    energy = functional.adaptive_avg_pool1d(energy.transpose(1, 2), min(_FRAMES, energy.shape[1]))
    edges = np.unique(np.geomspace(1, energy.shape[1], _BANDS + 1).round().astype(int))
    bands = [energy[:, a:b].mean(dim=1) for a, b in itertools.pairwise(edges)]
    values = torch.stack(bands, dim=1)
    mean = values.mean(dim=(1, 2), keepdim=True)
    return torch.log(values / mean.clamp_min(1e-20) + 1e-4).flatten(1)


def _counts(modality: Modality, ids: Tensor) -> Tensor:
    vocabulary = modality.vocabulary
    here = (ids != modality.padding).float()
    if vocabulary is not None and vocabulary <= _BUCKETS:
        buckets, width = ids.clamp_min(0), vocabulary
    else:
        buckets, width = (ids * 2654435761 % 2**32) % _BUCKETS, _BUCKETS
    counts = torch.zeros((len(ids), width), device=ids.device)
    return counts.scatter_add_(1, buckets, here)


def _weigh(counts: NDArray[np.float32], present: NDArray[np.bool_]) -> None:
    """Replace counts [n, d] by TF-IDF with logarithmic counts and unit rows, in place."""
    having = np.flatnonzero(present)
    found = np.zeros(counts.shape[1])
    blocks = [having[i : i + 4096] for i in range(0, len(having), 4096)]
    for rows in blocks:
        found += (counts[rows] > 0).sum(axis=0)
    idf = np.log((1 + len(having)) / (1 + found)) + 1
    for rows in blocks:
        values = np.log1p(counts[rows]) * idf
        norm = np.linalg.norm(values, axis=1, keepdims=True)
        counts[rows] = values / np.where(norm > 0, norm, 1)
