"""Load a run's trained network without its data set, from the description in its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import nn

import rlmba
from rlmba import trust
from rlmba.config import RunConfig, with_earlier_options
from rlmba.data import Modality, MultimodalDataset
from rlmba.errors import CheckpointError, DataError, RunFolderError, UsageError
from rlmba.learner.encoders import EncoderFacts, chosen_encoder
from rlmba.learner.frozen import ENCODERS, FrozenDataset, on_features
from rlmba.learner.frozen_part import OF_ENCODERS, FrozenPart, standardization_in
from rlmba.models import Encoder, MultimodalClassifier, Standardized, build_classifier
from rlmba.packaged_weights import has_packaged_weights
from rlmba.reading.structured import read_versioned
from rlmba.runfolder.code import encoder_code
from rlmba.runfolder.store import checkpoint_folder, read_run
from rlmba.storage import atomic_write_text
from rlmba.training import assign_tensors, load_tensors
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


class FrozenEncoder(BaseModel, extra="allow"):
    """What :data:`NETWORK` says of a frozen encoder.

    Parameters
    ----------
    identity : str
        :func:`rlmba.training.encoder_identity`.
    width : int
        Number of its features.
    packaged : bool
        Whether its weights are those of an installed package, and not in the checkpoint.
    """

    identity: str = Field(pattern="^[0-9a-f]{24}$")
    width: int = Field(ge=1)
    packaged: bool = False


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
    frozen: dict[str, FrozenEncoder] = {}
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
    frozen : FrozenPart or None
        The frozen encoders, if ``model`` was loaded without them.
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
    frozen: FrozenPart | None = None

    @property
    def head_temperatures(self) -> dict[str, float]:
        """Temperature by head, "mm" first."""
        modal = zip(self.model.names, self.temperatures.tolist(), strict=True)
        return {MULTIMODAL: self.fused_temperature, **dict(modal)}

    @classmethod
    def load(cls, folder: str | Path, *, without_frozen: bool = False) -> Trained:
        """Load the network of a run's last complete round, or a network written by `rlmba export`.

        The data set is not needed, and neither are published weights, except for the packages of
        :mod:`rlmba.packaged_weights` if a run's encoders are frozen.

        Parameters
        ----------
        folder : path
            A run folder, which another process may be writing, or a folder written by `rlmba export`.
        without_frozen : bool
            Leave out frozen encoders, whose features may be stored: the model takes their standardized
            features, and ``frozen`` describes them. No effect on other networks, and those written by
            versions that did not describe their encoders.

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
            return cls._read(folder, EXPORTED, owner=folder, without_frozen=without_frozen)
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
                return cls._read(checkpoint, NETWORK, owner=folder, without_frozen=without_frozen)
            except CheckpointError:
                # The process that writes the run removes a checkpoint once the next one is complete.
                if number == tried:
                    raise
                tried = number

    @classmethod
    def _read(cls, folder: Path, name: str, *, owner: Path, without_frozen: bool) -> Trained:
        """Read a checkpoint's folder, whose code is what ``owner`` is allowed to run."""
        said = read_document(folder, name)
        packaged: set[str] = set()
        frozen: dict[str, FrozenEncoder] = {}
        try:
            config = RunConfig.model_validate(with_earlier_options(said.config))
            trust.require(owner, encoder_code(config.model))
            modalities = said.modalities
            if config.model.frozen and name == NETWORK:
                packaged = {m for m, e in said.frozen.items() if e.packaged}
            if stray := [
                m for m in packaged if not has_packaged_weights(*chosen_encoder(config.model, m))
            ]:
                raise ValueError(f"no package has the weights of the encoder of {stray[0]!r}")
            if config.model.frozen and without_frozen:
                frozen = said.frozen
            model = build_classifier(
                [Modality(m.name, "features", (frozen[m.name].width,)) for m in modalities]
                if frozen
                else modalities,
                len(said.classes),
                on_features(config.model) if frozen else config.model,
                config.fusion,
                seed=config.seed,
                evidential=config.training.evidential_heads,
                blueprints=None
                if frozen
                else {m: b for m, b in said.blueprints.items() if m not in packaged},
            )
            if config.model.frozen and not frozen:
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
        tensors = load_tensors(folder / WEIGHTS, config=said.identity)
        if config.model.frozen and name == NETWORK:
            tensors |= load_tensors(folder / ENCODERS, config=said.identity)
        if frozen:
            facts = {
                m.name: EncoderFacts(e.identity, e.width, said.blueprints[m.name])
                for m in modalities
                for e in [frozen[m.name]]
            }
            part = FrozenPart(
                facts,
                standardization_in(folder, tensors, facts),
                lambda: cls._read(folder, name, owner=owner, without_frozen=False),
            )
            trained = replace(trained, frozen=part)
            tensors = {n: t for n, t in tensors.items() if not n.startswith(OF_ENCODERS)}
        else:
            own = model.state_dict()
            places = [i for i, m in enumerate(modalities) if m.name in packaged]
            known = tuple(f"{OF_ENCODERS}{i}.encoder." for i in places)
            tensors = {n: t for n, t in own.items() if n.startswith(known)} | tensors
        assign_tensors(folder / WEIGHTS, model, tensors)
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
        "frozen": {} if behind is None else behind.facts(),
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
        said = with_earlier_options(read_document(folder, EXPORTED).config)
        return encoder_code(RunConfig.model_validate(said).model)
    except ValueError as error:
        raise CheckpointError(f"{folder / EXPORTED} is damaged ({error}); restore it") from error


def _numbers(by_name: Mapping[str, float], modalities: tuple[Modality, ...]) -> NDArray[np.float64]:
    return np.array([by_name[m.name] for m in modalities], dtype=np.float64)
