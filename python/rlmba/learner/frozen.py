"""Frozen encoders: their features replace the data set's media."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.config import ModelConfig, RunConfig
from rlmba.data import InMemoryDataset, MultimodalDataset
from rlmba.data.features import save_features, split_of
from rlmba.learner.encoders import FrozenEncoders, chosen_encoder
from rlmba.learner.settings import load_source
from rlmba.learner.stored_features import StoredFeatures
from rlmba.packaged_weights import has_packaged_weights
from rlmba.storage import make_folder
from rlmba.training import Loader, ProcessGroup, save_tensors

if TYPE_CHECKING:
    from rlmba.data import Batch
    from rlmba.models import Blueprint

__all__ = ["ENCODERS", "FrozenDataset", "load_data", "on_features", "write_features"]

ENCODERS = "encoders.safetensors"
"""File in a checkpoint's folder that :meth:`FrozenDataset.save_encoders` writes."""

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
    encoders : FrozenEncoders
        The encoders that computed the features; they are built only if they are needed.
    config : ModelConfig
        It names the encoders.
    """

    in_memory = True

    def __init__(
        self,
        features: InMemoryDataset,
        source: MultimodalDataset,
        encoders: FrozenEncoders,
        config: ModelConfig,
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
        self._encoders = encoders
        self._config = config

    def facts(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint says of the encoders by modality: identity, width, whether a package has them."""
        return {
            m: {"identity": e.identity, "width": e.width, "packaged": self._packaged(m)}
            for m, e in self._encoders.facts.items()
        }

    @property
    def blueprints(self) -> Mapping[str, Blueprint]:
        """:meth:`~rlmba.models.Encoder.blueprint` of each modality's encoder."""
        return self._encoders.blueprints

    def _packaged(self, modality: str) -> bool:
        return has_packaged_weights(*chosen_encoder(self._config, modality))

    def _standardization(self) -> dict[str, tuple[Any, Any]]:
        known = self._features.reading()["arrays"]
        return {
            m.name: (known[m.name]["mean"], known[m.name]["deviation"]) for m in self.modalities
        }

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

        It has the standardization of the features, and the encoders without those whose weights a package
        has. If the file of another checkpoint has the same standardization, it is hard-linked.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        path = folder / ENCODERS
        for other in folder.parent.glob(f"round_*/{ENCODERS}"):
            if path.exists():
                return
            if not self._standardized_alike(other):
                continue
            try:
                os.link(other, path)
            except OSError:
                break  # this file system has no hard links
        if path.exists():
            return
        tensors = {}
        for i, (modality, known) in enumerate(self._standardization().items()):
            for name, values in zip(("mean", "deviation"), known, strict=True):
                tensors[f"encoders.{i}.{name}"] = torch.tensor(values, dtype=torch.float32).reshape(
                    -1
                )
            if not self._packaged(modality):
                weights = self._encoders.built()[modality].state_dict()
                tensors |= {f"encoders.{i}.encoder.{n}": t for n, t in weights.items()}
        save_tensors(path, tensors, config=config)

    def _standardized_alike(self, path: Path) -> bool:
        """Whether a file of encoders has the standardization of these features; rows may have been added."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                return all(
                    torch.equal(
                        file.get_tensor(f"encoders.{i}.{name}"),
                        torch.as_tensor(values, dtype=torch.float32).reshape(-1),
                    )
                    for i, known in enumerate(self._standardization().values())
                    for name, values in zip(("mean", "deviation"), known, strict=True)
                )
        except (SafetensorError, OSError):
            return False


def load_data(
    config: RunConfig,
    group: ProcessGroup,
    progress: Progress | None = None,
    *,
    source: MultimodalDataset | None = None,
) -> MultimodalDataset:
    """Load the data set of a run; with ``model.frozen``, the features of its encoders.

    Features are computed once for every sample and encoder, and stored.

    Parameters
    ----------
    config : RunConfig
    group : ProcessGroup
        All its processes call this function with the same configuration and share the computation.
    progress : callable or None
        Called with (samples done, total samples) while features are computed.
    source : MultimodalDataset or None
        The data set without features; None: it is loaded.
    """
    dataset = load_source(config) if source is None else source
    if not config.model.frozen:
        return dataset
    encoders = FrozenEncoders(config, dataset, group)
    arrays, present = _features(config, encoders, dataset, group, progress)
    unlabeled = bool((dataset.labels < 0).any()) or len(dataset.classes) < 2
    features = InMemoryDataset(
        dataset.name,
        arrays,
        kinds=dict.fromkeys(arrays, "features"),
        labels=dataset.labels,
        classes=dataset.classes,
        ids=dataset.ids,
        split=split_of(dataset),
        present=present,
        partial=unlabeled,
    )
    return FrozenDataset(features, dataset, encoders, config.model)


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
    encoders = FrozenEncoders(config, dataset, group)
    arrays, present = _features(config, encoders, dataset, group, progress)
    make_folder(path.parent)
    save_features(path, dataset, arrays, None if present.all() else present)


def on_features(config: ModelConfig) -> ModelConfig:
    """The configuration of a network over features: frozen encoders are left out."""
    return config.model_copy(update={"encoders": {}}) if config.frozen else config


def _features(
    config: RunConfig,
    encoders: FrozenEncoders,
    dataset: MultimodalDataset,
    group: ProcessGroup,
    progress: Progress | None,
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """Features by modality [n, D] and their presence [n, M] of all samples."""
    training = config.training
    workers, prefetch = training.workers, training.prefetch
    with Loader(dataset, group.device, workers=workers, prefetch=prefetch) as loader:
        stored = StoredFeatures(
            config, dataset, encoders, loader, group, batch_size=training.predict_batch_size
        )
        return stored.read(np.arange(len(dataset), dtype=np.int64), progress)
