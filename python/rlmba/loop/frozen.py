"""Frozen encoders: their features take the place of the data set's media."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlmba.config import ModelConfig, RunConfig
from rlmba.data import MultimodalDataset, load_dataset
from rlmba.data.features import FeaturesOf
from rlmba.loop.randomness import model_seed
from rlmba.models import MultimodalClassifier, build_classifier
from rlmba.storage import cache_folder
from rlmba.training import Loader, Mesh, features_name, frozen_features

__all__ = ["load_data", "on_features", "write_features"]

Progress = Callable[[int, int], None]


def load_data(config: RunConfig, mesh: Mesh, progress: Progress | None = None) -> MultimodalDataset:
    """The data set of a run; with ``model.frozen`` its encoders' features, computed once and kept.

    Parameters
    ----------
    config : RunConfig
    mesh : Mesh
        All processes call alike and share the computation.
    progress : callable or None
        Called with (samples done, samples in all) while features are computed.
    """
    dataset = _load(config)
    if not config.model.frozen:
        return dataset
    model = _encoders(config, dataset, mesh)
    folder = config.model.features_folder or cache_folder() / "features"
    path, there = mesh.broadcast(_kept(folder, model, dataset) if mesh.main else None)
    if not there:
        _compute(config, model, dataset, path, mesh=mesh, progress=progress)
    return FeaturesOf(dataset, path)


def write_features(config: RunConfig, path: Path, progress: Progress | None = None) -> None:
    """Write the features that a run with ``model.frozen`` would be given, as a ``.npz``.

    Raises
    ------
    UsageError
        If an encoder or an option is wrong.
    DataError
        If the data cannot be used.
    StorageError
        If the file cannot be written.
    """
    mesh = Mesh.open(config.device, config.training.precision)
    dataset = _load(config)
    model = _encoders(config, dataset, mesh)
    _compute(config, model, dataset, path, mesh=mesh, progress=progress)


def on_features(config: ModelConfig) -> ModelConfig:
    """The network over features: what the encoders did is done."""
    return config.model_copy(update={"encoders": {}}) if config.frozen else config


def _load(config: RunConfig) -> MultimodalDataset:
    return load_dataset(
        config.dataset, data=config.data, data_root=config.data_root, options=config.dataset_options
    )


def _encoders(config: RunConfig, dataset: MultimodalDataset, mesh: Mesh) -> MultimodalClassifier:
    model = build_classifier(
        dataset.modalities,
        len(dataset.classes),
        config.model,
        config.fusion,
        seed=model_seed(config.seed),
    )
    mesh.place(model)
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
    mesh: Mesh,
    progress: Progress | None,
) -> None:
    training = config.training
    loader = Loader(dataset, mesh.device, workers=training.workers, prefetch=training.prefetch)
    with loader:
        frozen_features(
            model,
            loader,
            path,
            batch_size=training.predict_batch_size,
            mesh=mesh,
            progress=progress,
        )
