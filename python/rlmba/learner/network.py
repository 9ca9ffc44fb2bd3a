"""The network of a run, trained and asked by all of the run's processes together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.data import MultimodalDataset
from rlmba.learner.frozen import on_features
from rlmba.models import MultimodalClassifier, build_classifier
from rlmba.training import (
    FitCheckpoint,
    Loader,
    Mesh,
    compile_encoders,
    fit,
    fits_beside,
    labeled_checksum,
    predict,
)
from rlmba.types import PoolOutputs, TrainingDiagnostics

__all__ = ["Network"]


@dataclass
class Network:
    """A model, where it runs, and what reads its samples.

    The main process calls :meth:`fit` and :meth:`predict`; the others, in :meth:`follow`, are told of
    each call and take their share of it.
    """

    config: RunConfig
    mesh: Mesh
    loader: Loader
    model: MultimodalClassifier
    initial_weights: Mapping[str, torch.Tensor]

    @classmethod
    def build(
        cls,
        config: RunConfig,
        dataset: MultimodalDataset,
        mesh: Mesh,
        *,
        seed: int,
        loader: Loader | None = None,
    ) -> Network:
        """The network before round 0, its initial weights decided by ``seed``."""
        model = build_classifier(
            dataset.modalities,
            len(dataset.classes),
            on_features(config.model),
            config.fusion,
            seed=seed,
        )
        mesh.place(model)
        if config.training.compile:
            compile_encoders(model)
        loader = loader or Loader(
            dataset,
            mesh.device,
            workers=config.training.workers,
            prefetch=config.training.prefetch,
        )
        initial = {k: v.clone() for k, v in model.state_dict().items() if k != "fusion_weights"}
        return cls(config, mesh, loader, model, initial)

    def predict(self, positions: NDArray[np.int64], *, keep: bool = False) -> PoolOutputs:
        """What the model says of samples; with ``keep`` on its GPU, where they fit there.

        Parameters
        ----------
        positions : int64 array [N]
            Dataset positions.
        keep : bool
        """
        weights = self.model.fusion_weights.cpu().numpy().astype(np.float64)
        self._tell("predict", positions, weights)
        return self._predict(positions, keep=keep and fits_beside(self.model, len(positions)))

    def fit(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        validation: tuple[NDArray[np.int64], NDArray[np.int64]],
        *,
        seed: int,
        checkpoint: tuple[Path, Mapping[str, Any]] | None = None,
    ) -> TrainingDiagnostics:
        """Train the model, from its initial weights unless the run starts warm.

        Parameters
        ----------
        positions, labels : int64 arrays [L]
            The labeled samples.
        validation : (int64 array [V], int64 array [V])
            Positions and classes of V.
        seed : int
            Decides the order of samples, augmentation and dropout.
        checkpoint : (path, mapping) or None
            File that training is saved to, and what it belongs to.
        """
        self.rewind()
        minutes = self.config.training.checkpoint_minutes
        saved = None
        if checkpoint is not None and minutes is not None:
            path, identity = checkpoint
            samples = labeled_checksum(positions, labels)
            saved = FitCheckpoint(path, minutes, {**identity, "samples": samples, "seed": seed})
        self._tell("fit", positions, labels, validation, seed)
        return self._fit(positions, labels, validation, seed, saved)

    def rewind(self) -> None:
        """Put the initial weights back, where training starts from, unless the run starts warm."""
        if not self.config.training.warm_start:
            self.model.load_state_dict(dict(self.initial_weights), strict=False)

    def share(self) -> None:
        """Give the other processes the weights that this one has loaded."""
        self._tell("share")
        self._share()

    def follow(self) -> Any:
        """Do what the main process tells, until it is done; returns what it leaves with."""
        while True:
            name, arguments = self.mesh.broadcast()
            if name == "done":
                return arguments[0]
            if name == "fit":
                self._fit(*arguments)
            elif name == "share":
                self._share()
            else:
                positions, weights = arguments
                self.model.set_fusion_weights(weights)
                self._predict(positions)

    def done(self, farewell: Any) -> None:
        """Let the other processes go, with something to leave with."""
        self._tell("done", farewell)

    def _share(self) -> None:
        self.mesh.copy_from_main(self.model.state_dict().values())

    def _tell(self, name: str, *arguments: Any) -> None:
        self.mesh.broadcast((name, arguments))

    def _predict(self, positions: NDArray[np.int64], *, keep: bool = False) -> PoolOutputs:
        return predict(
            self.model,
            self.loader,
            positions,
            batch_size=self.config.training.predict_batch_size,
            keep=keep,
            mesh=self.mesh,
            spill_folder=self.config.training.spill_folder,
        )

    def _fit(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        validation: tuple[NDArray[np.int64], NDArray[np.int64]],
        seed: int,
        checkpoint: FitCheckpoint | None = None,
    ) -> TrainingDiagnostics:
        return fit(
            self.model,
            self.loader,
            positions,
            labels,
            self.config.training,
            epochs=self.config.epochs,
            seed=seed,
            mesh=self.mesh,
            validation=validation,
            checkpoint=checkpoint,
        )
