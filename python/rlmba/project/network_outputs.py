"""Outputs of a trained network for the samples of a data set, for a limited number at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import trust
from rlmba.config import RunConfig
from rlmba.data import InMemoryDataset, MultimodalDataset
from rlmba.learner.stored_features import StoredFeatures
from rlmba.learner.trained import Trained
from rlmba.project.folder import folders_kept
from rlmba.training import Loader, ProcessGroup, predict
from rlmba.types import PoolOutputs

__all__ = ["CHUNK", "NetworkOutputs", "allowed_features_folder", "chunk_of"]

CHUNK = 8192
"""Number of samples whose outputs are in memory at a time; more if the batch size is larger."""

Progress = Callable[[int, int], None]


def chunk_of(batch_size: int) -> int:
    """Number of samples that are computed at a time: a multiple of the batch size."""
    return max(CHUNK // batch_size, 1) * batch_size


class NetworkOutputs:
    """Computes outputs for samples of a data set. Use as a context manager, which ends its processes.

    If the network was loaded without its frozen encoders, their features are read from the store. Features
    that are not stored are computed and added to it. If the store cannot be used, a warning is given.

    Parameters
    ----------
    trained : Trained
    dataset : MultimodalDataset
        From :func:`rlmba.project.predict.read_new`.
    device : str or None
        "auto", "cpu" or a torch device; None: the run's own setting.
    batch_size : int or None
        Samples per forward pass; None: the run's own setting.
    features_folder : path or None
        Folder of the stored features; None: the user's cache folder.

    Attributes
    ----------
    dataset : MultimodalDataset
    step : int
        Number of samples to ask for at a time.

    Raises
    ------
    UsageError
        If the device cannot be used.
    """

    def __init__(
        self,
        trained: Trained,
        dataset: MultimodalDataset,
        *,
        device: str | None = None,
        batch_size: int | None = None,
        features_folder: Path | None = None,
    ) -> None:
        training = trained.config.training
        self._trained, self.dataset = trained, dataset
        self._group = ProcessGroup(
            trained.config.device if device is None else device, training.precision
        )
        self._group.place(trained.model)
        self._batch_size = batch_size or training.predict_batch_size
        self.step = chunk_of(self._batch_size)
        self._loader = Loader(
            dataset, self._group.device, workers=training.workers, prefetch=training.prefetch
        )
        self._stored: StoredFeatures | None = None
        if trained.frozen is not None:
            model = trained.config.model.model_copy(update={"features_folder": features_folder})
            self._stored = StoredFeatures(
                trained.config.model_copy(update={"model": model}),
                dataset,
                trained.frozen,
                self._loader,
                self._group,
                batch_size=self._batch_size,
                required=False,
            )

    def __enter__(self) -> NetworkOutputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that load data."""
        self._loader.close()

    def of(self, positions: NDArray[np.int64], progress: Progress | None = None) -> PoolOutputs:
        """Outputs for samples.

        Parameters
        ----------
        positions : int64 array [n]
            Distinct dataset positions. To limit the memory, pass at most :attr:`step` of them.
        progress : callable or None
            Called with (samples done, total samples).

        Raises
        ------
        WorkerError
            If a process that loads data dies.
        """
        model, group, size = self._trained.model, self._group, self._batch_size
        if self._stored is None:
            return predict(
                model, self._loader, positions, batch_size=size, group=group, progress=progress
            )
        chunk = self._standardized(self._stored, positions, progress)
        rows = np.arange(len(positions), dtype=np.int64)
        outputs = predict(model, Loader(chunk, group.device), rows, batch_size=size, group=group)
        if progress is not None:
            progress(len(positions), len(positions))
        return outputs

    def _standardized(
        self,
        stored: StoredFeatures,
        positions: NDArray[np.int64],
        progress: Progress | None,
    ) -> InMemoryDataset:
        """The features of samples as a data set, standardized as in the training of the network."""
        assert self._trained.frozen is not None
        features, present = stored.read(positions, progress)
        arrays: dict[str, Any] = {
            m: {
                "kind": "features",
                "scale": 1.0,
                "mean": mean.tolist(),
                "deviation": deviation.tolist(),
                "channels_last": False,
                "shape": [len(mean)],
                "vocabulary": None,
            }
            for m, (mean, deviation) in self._trained.frozen.standardization.items()
        }
        n = len(positions)
        return InMemoryDataset(
            self.dataset.name,
            features,
            kinds=dict.fromkeys(features, "features"),
            labels=np.full(n, -1),
            classes=self._trained.classes,
            ids=self.dataset.ids[positions],
            split=np.zeros(n, np.int64),
            present=present,
            partial=True,
            reading={"arrays": arrays},
        )


def allowed_features_folder(config: RunConfig, folder: Path) -> Path | None:
    """The feature folder that a run's configuration names; None if this user has not allowed it."""
    place = config.model.features_folder
    acts = folders_kept({"features": place}, folder)
    if not acts or set(acts) <= set(trust.allowed().get(os.path.realpath(folder), ())):
        return place
    return None
