"""Load a run's trained network without its data set, from the description in its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import nn

import rlmba
from rlmba import trust
from rlmba.config import RunConfig
from rlmba.data import Modality, MultimodalDataset
from rlmba.errors import CheckpointError, DataError, RunFolderError, UsageError
from rlmba.learner.frozen import ENCODERS, FrozenDataset
from rlmba.models import Encoder, MultimodalClassifier, Standardized, build_classifier
from rlmba.reading.structured import read_versioned
from rlmba.runfolder.code import encoder_code
from rlmba.runfolder.store import checkpoint_folder, read_run
from rlmba.storage import atomic_write_text
from rlmba.training import load_model
from rlmba.types import MULTIMODAL, RoundRecord

__all__ = [
    "EXPORTED",
    "FORMAT",
    "NETWORK",
    "WEIGHTS",
    "Description",
    "Trained",
    "describe_network",
    "network_code",
    "read_document",
    "write_network",
]

FORMAT = 1
"""Version of the format of :data:`NETWORK`."""
NETWORK = "network.json"
"""File in a checkpoint's folder that describes the network."""
WEIGHTS = "model.safetensors"
EXPORTED = "config.json"
"""The same description, with additional keys, in a folder written by `rlmba export`."""


class Description(BaseModel, extra="allow"):
    """Content of the file :data:`NETWORK`, as returned by :func:`describe_network`."""

    format: int
    rlmba: str
    dataset: str
    round: int
    labels: int
    classes: tuple[str, ...]
    modalities: tuple[Modality, ...]
    temperatures: dict[str, float]
    weights: dict[str, float]
    reading: dict[str, Any]
    blueprints: dict[str, dict[str, Any]]
    config: dict[str, Any]
    identity: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and everything that is needed to use it on new samples.

    Parameters
    ----------
    model : MultimodalClassifier
        In evaluation mode, on the CPU, with the fusion weights of its training and evaluation.
    classes : tuple of str
        Class names, in the order of the columns of the outputs.
    modalities : tuple of Modality
        The inputs of the model, in its order.
    temperatures : float64 array [M]
        T_m of the modality heads, fitted on the validation set.
    fused_temperature : float
        Temperature of the fused head.
    weights : float64 array [M]
        AMCB's w for this network, from the validation set (Eq 1-2); they weight the modalities'
        evidence (Eq 3).
    predictor : {"fused", "pooled"}
        How the outputs of the heads become a class.
    config : RunConfig
        The resolved configuration of the run.
    reading : mapping
        How the data set reads samples, so that new ones are read in the same way; empty if the data
        set does not describe it.
    dataset : str
        Name of the data set.
    round, labels : int
        The round that trained the network, and its number of labels.
    document : mapping
        The network's description as JSON, as returned by :func:`describe_network`.
    """

    model: MultimodalClassifier
    classes: tuple[str, ...]
    modalities: tuple[Modality, ...]
    temperatures: NDArray[np.float64]
    fused_temperature: float
    weights: NDArray[np.float64]
    predictor: str
    config: RunConfig
    reading: Mapping[str, Any]
    dataset: str
    round: int
    labels: int
    document: Mapping[str, Any]

    @property
    def head_temperatures(self) -> dict[str, float]:
        """Temperature by head, "mm" first."""
        modal = zip(self.model.names, self.temperatures.tolist(), strict=True)
        return {MULTIMODAL: self.fused_temperature, **dict(modal)}

    @classmethod
    def load(cls, folder: str | Path) -> Trained:
        """Load the network of a run's last complete round, or a network written by `rlmba export`.

        Neither the data set nor published weights are needed.

        Parameters
        ----------
        folder : path
            A run folder, which another process may be writing, or a folder written by `rlmba export`.

        Raises
        ------
        RunFolderError
            If it is neither, or no round is trained yet.
        CheckpointError
            If the checkpoint is missing or damaged, its parts do not belong together, or another
            version of rlmba wrote it.
        TrustError
            If it has encoders of the form module:Class that this user has not allowed for the folder;
            nothing of them was imported.
        """
        folder = Path(folder)
        if (folder / EXPORTED).is_file() and not (folder / "run.json").exists():
            return cls._read(folder, EXPORTED, owner=folder)
        tried = -1
        while True:
            records = read_run(folder).records
            if not records:
                raise RunFolderError(
                    f"{folder}: expected a run with a trained round, found none yet; continue the run first"
                )
            number = records[-1].round
            try:
                checkpoint = checkpoint_folder(folder, number)
                return cls._read(checkpoint, NETWORK, owner=folder)
            except CheckpointError:
                # The process that writes the run removes a checkpoint once the next one is complete.
                if number == tried:
                    raise
                tried = number

    @classmethod
    def _read(cls, folder: Path, name: str, *, owner: Path) -> Trained:
        """Read a checkpoint's folder, whose code is what ``owner`` is allowed to run."""
        said = read_document(folder, name)
        try:
            config = RunConfig.model_validate(said.config)
            trust.require(owner, encoder_code(config.model))
            modalities = said.modalities
            model = build_classifier(
                modalities,
                len(said.classes),
                config.model,
                config.fusion,
                seed=config.seed,
                evidential=config.training.evidential_heads,
                blueprints=said.blueprints,
            )
            if config.model.frozen:
                encoders = [Standardized(cast("Encoder", e)) for e in model.encoders]
                model.encoders = nn.ModuleList(encoders)
            trained = cls(
                model=model,
                classes=said.classes,
                modalities=modalities,
                temperatures=_numbers(said.temperatures, modalities),
                fused_temperature=said.temperatures[MULTIMODAL],
                weights=_numbers(said.weights, modalities),
                predictor=config.predictor,
                config=config,
                reading=said.reading,
                dataset=said.dataset,
                round=said.round,
                labels=said.labels,
                document=said.model_dump(),
            )
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            if isinstance(error, UsageError | DataError):
                raise CheckpointError(
                    f"{folder}: the network cannot be built here: {error}"
                ) from error
            raise CheckpointError(
                f"{folder / name} is damaged ({error!r}); restore it, or train another round"
            ) from error
        also = [folder / ENCODERS] if config.model.frozen and name == NETWORK else []
        load_model(folder / WEIGHTS, model, config=said.identity, also=also)
        model.eval()
        return trained


def describe_network(
    model: MultimodalClassifier,
    dataset: MultimodalDataset,
    *,
    config: RunConfig,
    identity: Mapping[str, Any],
    weights: Mapping[str, float],
    record: RoundRecord,
) -> dict[str, Any]:
    """Everything that :meth:`Trained.load` needs besides the weights, as values for JSON.

    Parameters
    ----------
    model : MultimodalClassifier
        As trained in the round of ``record``.
    dataset : MultimodalDataset
        The training data. If they are features of frozen encoders, the description includes the
        encoders, so that the described network takes the original inputs.
    config : RunConfig
        Resolved.
    identity : mapping
        The identity of the configuration, which is also stored in the file of weights.
    weights : mapping of modality to float
        AMCB's w after the round.
    record : RoundRecord
        The record of the round.
    """
    behind = dataset if isinstance(dataset, FrozenDataset) else None
    source = dataset if behind is None or behind.source is None else behind.source
    blueprints = (
        {
            n: cast("Encoder", e).blueprint()
            for n, e in zip(model.names, model.encoders, strict=True)
        }
        if behind is None
        else behind.blueprints
    )
    return {
        "format": FORMAT,
        "rlmba": rlmba.__version__,
        "dataset": source.name,
        "round": record.round,
        "labels": record.labels,
        "classes": list(dataset.classes),
        "modalities": [asdict(m) for m in source.modalities],
        "fusion": model.fusion,
        "fusion_weights": dict(zip(model.names, model.fusion_weights.tolist(), strict=True)),
        "predictor": config.predictor,
        "temperatures": dict(record.temperatures),
        "weights": dict(weights),
        "reading": dict(dataset.reading()),
        "blueprints": {n: dict(b) for n, b in blueprints.items()},
        "config": config.model_dump(mode="json"),
        "identity": dict(identity),
    }


def write_network(folder: Path, document: Mapping[str, Any]) -> None:
    """Write a checkpoint's :data:`NETWORK`.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    atomic_write_text(folder / NETWORK, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_document(folder: Path, name: str) -> Description:
    """Read the description that :func:`describe_network` returned.

    Parameters
    ----------
    folder : path
        A checkpoint's folder, or a folder written by `rlmba export`.
    name : str
        :data:`NETWORK` or :data:`EXPORTED`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or in another format.
    """
    path = folder / name
    if not path.is_file():
        if (folder / WEIGHTS).is_file():
            raise CheckpointError(
                f"{path} is missing: an earlier version of rlmba wrote this checkpoint without a "
                "description of its network; train another round with this version"
            )
        raise CheckpointError(
            f"{folder}: expected a checkpoint, found none; restore it, or start a new run"
        )
    return read_versioned(
        path,
        Description,
        FORMAT,
        what="network",
        advice="restore it, or train another round",
        foreign="give a run folder or an exported one",
        error=CheckpointError,
    )


def network_code(folder: Path) -> list[str]:
    """What loading an exported network asks to run, as :mod:`rlmba.trust` keeps it.

    Raises
    ------
    CheckpointError
        As :func:`read_document`, and if the network's configuration is damaged.
    """
    try:
        return encoder_code(RunConfig.model_validate(read_document(folder, EXPORTED).config).model)
    except ValueError as error:
        raise CheckpointError(f"{folder / EXPORTED} is damaged ({error}); restore it") from error


def _numbers(by_name: Mapping[str, float], modalities: tuple[Modality, ...]) -> NDArray[np.float64]:
    return np.array([by_name[m.name] for m in modalities], dtype=np.float64)
