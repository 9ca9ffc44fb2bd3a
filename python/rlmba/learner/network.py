"""The network of this package, trained and evaluated by all processes of a run together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.data import MultimodalDataset
from rlmba.learner.frozen import FrozenDataset, on_features
from rlmba.learner.inputs import InputFeatures, input_features
from rlmba.learner.randomness import model_seed
from rlmba.learner.trained import WEIGHTS, describe_network, write_network
from rlmba.method.spreading import spread_classes
from rlmba.models import MultimodalClassifier, build_classifier
from rlmba.training import (
    FitCheckpoint,
    Loader,
    ProcessGroup,
    SoftLabels,
    compile_encoders,
    dropout_logits,
    fit,
    fits_on_gpu,
    labeled_checksum,
    load_model,
    predict,
    save_model,
)
from rlmba.types import LinearHead, PoolOutputs, RoundRecord, TrainingDiagnostics

__all__ = ["Network", "build_network"]

_SOFT_SAMPLES = 20_000
"""Maximum number of samples without labels that ``training.semi_supervised`` uses."""


@dataclass
class Network:
    """A :class:`~rlmba.learner.model.Model`: a multimodal classifier, its device, and its data loader.

    The main process calls :meth:`fit` and :meth:`predict`; the other processes run :meth:`follow`, which
    receives each call and does their share of the work.
    """

    config: RunConfig
    dataset: MultimodalDataset
    group: ProcessGroup
    loader: Loader
    model: MultimodalClassifier
    initial_weights: Mapping[str, torch.Tensor]
    announce: Callable[[str, int, int], None] | None = None
    """Called in the main process with "predict" or "train", and the samples or steps done of a total."""
    fixed_fusion: ClassVar[bool] = False

    @classmethod
    def build(
        cls,
        config: RunConfig,
        dataset: MultimodalDataset,
        group: ProcessGroup,
        *,
        seed: int,
        loader: Loader | None = None,
    ) -> Network:
        """The network before round 0, its initial weights decided by ``seed``."""
        model, initial = _new_classifier(config, dataset, group, seed)
        loader = loader or Loader(
            dataset,
            group.device,
            workers=config.training.workers,
            prefetch=config.training.prefetch,
        )
        return cls(config, dataset, group, loader, model, initial)

    def set_classes(self, classes: Sequence[str]) -> None:
        """Start again from initial weights, with an output for each of the data set's classes."""
        del classes  # the data set has them
        self.model, self.initial_weights = _new_classifier(
            self.config, self.dataset, self.group, model_seed(self.config.seed)
        )

    def predict(self, positions: NDArray[np.int64], *, keep_on_device: bool = False) -> PoolOutputs:
        """Features and logits of samples; with ``keep_on_device``, on the model's GPU where they fit.

        Parameters
        ----------
        positions : int64 array [N]
            Dataset positions.
        keep_on_device : bool
        """
        self._tell("predict", positions, self.fusion_weights)
        keep = keep_on_device and fits_on_gpu(self.model, len(positions))
        return self._predict(positions, keep_on_device=keep)

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
        soft = None
        if self.config.training.semi_supervised:
            soft = self._soft_labels(positions, labels, validation[0])
        minutes = self.config.training.checkpoint_minutes
        saved = None
        if checkpoint is not None and minutes is not None:
            path, identity = checkpoint
            samples = labeled_checksum(positions, labels)
            belongs = {**identity, "samples": samples, "seed": seed}
            if soft is not None:
                belongs["soft"] = soft.checksum()
            saved = FitCheckpoint(path, minutes, belongs)
        self._tell("fit", positions, labels, validation, seed, soft)
        return self._fit(positions, labels, validation, seed, soft, checkpoint=saved)

    def _soft_labels(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        validation: NDArray[np.int64],
    ) -> SoftLabels:
        """Guessed classes of the other training samples; of many, of evenly spaced ones."""
        others = np.setdiff1d(self.dataset.train_positions, np.concatenate([positions, validation]))
        if len(others) > _SOFT_SAMPLES:
            others = others[np.arange(_SOFT_SAMPLES) * len(others) // _SOFT_SAMPLES]
        inputs = self.input_features(np.concatenate([positions, others]))
        known = np.concatenate([labels, np.full(len(others), -1)])
        readable = inputs.readable
        joined = np.concatenate([a[readable] for a in inputs.features.values()], axis=1)
        if not (known[readable] >= 0).any():
            return SoftLabels(others[:0], np.empty((0, self.model.n_classes), np.float32))
        classes = spread_classes(joined, known[readable], self.model.n_classes)
        wanted = known[readable] < 0
        return SoftLabels(inputs.positions[readable][wanted], classes[wanted])

    def rewind(self) -> None:
        """Put the initial weights back, where training starts from, unless the run starts warm."""
        if not self.config.training.warm_start:
            self.model.load_state_dict(dict(self.initial_weights), strict=False)

    def copy_weights(self, other: Network) -> None:
        """Take the weights of another network of the same form."""
        self.model.load_state_dict(other.model.state_dict())

    def share(self) -> None:
        """Give the other processes the weights that this one has loaded."""
        self._tell("share")
        self._share()

    def input_features(self, positions: NDArray[np.int64]) -> InputFeatures:
        """What the encoders read, reduced: :func:`rlmba.learner.inputs.input_features`."""
        folder = self.config.training.spill_folder
        return input_features(self.dataset, self.loader, spill_folder=folder).at(positions)

    def dropout_logits(self, outputs: PoolOutputs, passes: int, *, seed: int) -> Any:
        """See :func:`rlmba.training.dropout_logits`."""
        return dropout_logits(
            self.model,
            outputs.fused_features,
            passes,
            batch_size=self.config.training.predict_batch_size,
            seed=seed,
        )

    def head(self) -> LinearHead | None:
        """Weight [C, D] and bias [C] of the fused head, if there is one."""
        head = self.model.fused_head
        if head is None:
            return None
        return LinearHead(head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy())

    @property
    def fusion_weights(self) -> NDArray[np.float64]:
        """w of the convex fusion [M]."""
        return self.model.fusion_weights.cpu().numpy().astype(np.float64)

    def set_fusion_weights(self, weights: NDArray[np.float64]) -> None:
        """Fuse with these weights from now on."""
        self.model.set_fusion_weights(weights)

    def save(
        self,
        folder: Path,
        *,
        config: RunConfig,
        identity: Mapping[str, Any],
        weights: Mapping[str, float],
        record: RoundRecord,
    ) -> None:
        """Write the weights, and what :class:`~rlmba.learner.Trained` needs to use them alone.

        Raises
        ------
        StorageError
            If a file cannot be written.
        """
        save_model(folder / WEIGHTS, self.model, config=identity)
        if isinstance(self.dataset, FrozenDataset):
            self.dataset.save_encoders(folder, identity)
        document = describe_network(
            self.model,
            self.dataset,
            config=config,
            identity=identity,
            weights=weights,
            record=record,
        )
        write_network(folder, document)

    def restore(self, folder: Path, *, identity: Mapping[str, Any]) -> bool:
        """Load the weights, in every process.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged or of another configuration.
        """
        load_model(folder / WEIGHTS, self.model, config=identity)
        self.share()
        return True

    def follow(self) -> Any:
        """Serve the main process's calls until it sends :meth:`release`; returns what that carried."""
        while True:
            name, arguments = self.group.broadcast()
            if name == "release":
                return arguments[0]
            if name == "fit":
                self._fit(*arguments)
            elif name == "share":
                self._share()
            else:
                positions, weights = arguments
                self.model.set_fusion_weights(weights)
                self._predict(positions)

    def release(self, result: Any) -> None:
        """End :meth:`follow` in the other processes, which return ``result``."""
        self._tell("release", result)

    def _share(self) -> None:
        self.group.copy_from_main(self.model.state_dict().values())

    def _tell(self, name: str, *arguments: Any) -> None:
        self.group.broadcast((name, arguments))

    def _progress(self, stage: str) -> Callable[[int, int], None] | None:
        return None if self.announce is None else partial(self.announce, stage)

    def _predict(
        self, positions: NDArray[np.int64], *, keep_on_device: bool = False
    ) -> PoolOutputs:
        return predict(
            self.model,
            self.loader,
            positions,
            batch_size=self.config.training.predict_batch_size,
            keep_on_device=keep_on_device,
            progress=self._progress("predict"),
            group=self.group,
            spill_folder=self.config.training.spill_folder,
        )

    def _fit(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        validation: tuple[NDArray[np.int64], NDArray[np.int64]],
        seed: int,
        soft: SoftLabels | None,
        *,
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
            progress=self._progress("train"),
            group=self.group,
            validation=validation,
            checkpoint=checkpoint,
            soft=soft,
        )


def build_network(
    config: RunConfig, dataset: MultimodalDataset, group: ProcessGroup, loader: Loader | None = None
) -> Network:
    """The network of a resolved configuration, in any process of the run.

    ``loader`` is a loader of the same data set to share; None makes a new one.
    """
    return Network.build(config, dataset, group, seed=model_seed(config.seed), loader=loader)


def _new_classifier(
    config: RunConfig, dataset: MultimodalDataset, group: ProcessGroup, seed: int
) -> tuple[MultimodalClassifier, Mapping[str, torch.Tensor]]:
    """A classifier with initial weights, and a copy of them."""
    model = build_classifier(
        dataset.modalities,
        max(2, len(dataset.classes)),  # a project may know no class yet
        on_features(config.model),
        config.fusion,
        seed=seed,
        evidential=config.training.evidential_heads,
    )
    group.place(model)
    if config.training.compile:
        compile_encoders(model)
    initial = {k: v.clone() for k, v in model.state_dict().items() if k != "fusion_weights"}
    return model, initial
