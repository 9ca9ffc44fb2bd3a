"""Frozen encoders: their features replace the data set's media."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.config import ModelConfig, RunConfig
from rlmba.data import InMemoryDataset, MultimodalDataset, load_features
from rlmba.learner.randomness import model_seed
from rlmba.learner.settings import load_source
from rlmba.models import Encoder, MultimodalClassifier, Standardized, build_classifier
from rlmba.storage import cache_folder
from rlmba.training import Loader, ProcessGroup, features_name, frozen_features, save_tensors

if TYPE_CHECKING:
    from rlmba.data import Batch

__all__ = ["ENCODERS", "FrozenDataset", "load_data", "on_features", "write_features"]

ENCODERS = "encoders.safetensors"
"""File in a checkpoint's folder with the frozen encoders, which are not part of the trained network."""

Progress = Callable[[int, int], None]


class FrozenDataset(MultimodalDataset):
    """Features of a data set's samples, with the original data set and the encoders.

    Parameters
    ----------
    features : InMemoryDataset
        One modality of features for each modality of ``source``.
    source : MultimodalDataset
        The data set from which the features were computed. It shows samples to annotators and
        describes how new samples are read.
    model : MultimodalClassifier
        The network whose encoders computed the features.

    Attributes
    ----------
    encoders : list of Standardized
        The encoders with the standardization of the features, on the CPU.
    """

    in_memory = True

    def __init__(
        self, features: InMemoryDataset, source: MultimodalDataset, model: MultimodalClassifier
    ) -> None:
        self.name = features.name
        self.classes = features.classes
        self.modalities = features.modalities
        self.ids = features.ids
        self.labels = features.labels
        self.train_positions = features.train_positions
        self.test_positions = features.test_positions
        self.validation_positions = source.validation_positions
        self.present = features.present
        self.source = source
        self._features = features
        known = features.reading()["arrays"]
        self.encoders = [
            Standardized(cast("Encoder", encoder).cpu(), known[m]["mean"], known[m]["deviation"])
            for m, encoder in zip(model.names, model.encoders, strict=True)
        ]

    def fingerprint(self) -> str:
        """See :meth:`rlmba.data.MultimodalDataset.fingerprint`."""
        return self._features.fingerprint()

    def load(
        self,
        positions: NDArray[np.int64],
        *,
        train: bool,
        generator: torch.Generator | None,
        rows: slice | None = None,
    ) -> Batch:
        """See :meth:`rlmba.data.MultimodalDataset.load`."""
        return self._features.load(positions, train=train, generator=generator, rows=rows)

    def save_encoders(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Write :data:`ENCODERS` into a checkpoint's folder.

        The encoders are the same in every round, so the file of another checkpoint is hard-linked if
        there is one.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        path = folder / ENCODERS
        for other in folder.parent.glob(f"round_*/{ENCODERS}"):
            if path.exists():
                return
            try:
                os.link(other, path)
            except OSError:
                break  # this file system has no hard links
        tensors = torch.nn.ModuleList(self.encoders).state_dict()
        save_tensors(path, {f"encoders.{k}": v for k, v in tensors.items()}, config=config)


def load_data(
    config: RunConfig, group: ProcessGroup, progress: Progress | None = None
) -> MultimodalDataset:
    """Load the data set of a run; with ``model.frozen``, the features of its encoders.

    Features are computed once and cached.

    Parameters
    ----------
    config : RunConfig
    group : ProcessGroup
        All its processes call this function with the same configuration and share the computation.
    progress : callable or None
        Called with (samples done, total samples) while features are computed.
    """
    dataset = load_source(config)
    if not config.model.frozen:
        return dataset
    model = _encoders(config, dataset, group)
    folder = config.model.features_folder or cache_folder() / "features"
    path, there = group.broadcast(_kept(folder, model, dataset) if group.is_main else None)
    if not there:
        _compute(config, model, dataset, path, group=group, progress=progress)
    return FrozenDataset(load_features(path), dataset, model)


def write_features(config: RunConfig, path: Path, progress: Progress | None = None) -> None:
    """Write the features that a run with ``model.frozen`` would use, as a ``.npz`` file.

    Raises
    ------
    UsageError
        If an encoder or an option is invalid.
    DataError
        If the data cannot be used.
    StorageError
        If the file cannot be written.
    """
    group = ProcessGroup.open(config.device, config.training.precision)
    dataset = load_source(config)
    model = _encoders(config, dataset, group)
    _compute(config, model, dataset, path, group=group, progress=progress)


def on_features(config: ModelConfig) -> ModelConfig:
    """The configuration of a network over features: frozen encoders are left out."""
    return config.model_copy(update={"encoders": {}}) if config.frozen else config


def _encoders(
    config: RunConfig, dataset: MultimodalDataset, group: ProcessGroup
) -> MultimodalClassifier:
    model = build_classifier(
        dataset.modalities,
        max(2, len(dataset.classes)),  # heads are not used; a project may have no classes yet
        config.model,
        config.fusion,
        seed=model_seed(config.seed),
    )
    group.place(model)
    return model


def _kept(
    folder: Path, model: MultimodalClassifier, dataset: MultimodalDataset
) -> tuple[Path, bool]:
    path = folder / features_name(model, dataset)
    return path, path.is_file()


def _compute(
    config: RunConfig,
    model: MultimodalClassifier,
    dataset: MultimodalDataset,
    path: Path,
    *,
    group: ProcessGroup,
    progress: Progress | None,
) -> None:
    training = config.training
    loader = Loader(dataset, group.device, workers=training.workers, prefetch=training.prefetch)
    with loader:
        frozen_features(
            model,
            loader,
            path,
            batch_size=training.predict_batch_size,
            group=group,
            progress=progress,
        )
