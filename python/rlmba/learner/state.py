"""What a round needs from the one before, besides the model, and its form on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import CheckpointError
from rlmba.reading.structured import read_json
from rlmba.storage import atomic_write_text
from rlmba.types import MULTIMODAL, Evaluation, RoundRecord, TrainingDiagnostics

__all__ = ["RoundState", "read_classes", "read_state", "write_state"]

_FILE = "state.json"
_ADVICE = "restore it or start a new run"


@dataclass(frozen=True)
class RoundState:
    """What a round needs from the one before, besides the model.

    Parameters
    ----------
    weights : float64 array [M]
        AMCB's w for scoring in the coming round.
    fusion_weights : float64 array [M]
        w of the convex fusion in the coming round.
    temperatures, delta : float64 arrays [M]
        T_m and delta_m of the model as it is now.
    fused_temperature : float
        T of its fused head.
    validation : Evaluation or None
        The model's figures on the validation set; None before round 0.
    training : TrainingDiagnostics
        How its training went.
    """

    weights: NDArray[np.float64]
    fusion_weights: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    delta: NDArray[np.float64]
    fused_temperature: float = 1.0
    validation: Evaluation | None = None
    training: TrainingDiagnostics = field(default_factory=TrainingDiagnostics)

    @classmethod
    def start(cls, m: int) -> RoundState:
        """Before round 0: uniform weights, nothing known of M modalities."""
        return cls(np.full(m, 1 / m), np.full(m, 1 / m), np.ones(m), np.zeros(m))


@dataclass(frozen=True)
class _Saved:
    """The file ``state.json`` of a checkpoint."""

    weights: list[float]
    fusion_weights: list[float]
    smoothed_reward: float | None
    classes: list[str] | None = None


def write_state(
    folder: Path, state: RoundState, smoothed_reward: float | None, classes: Sequence[str]
) -> None:
    """Write what the round's record does not hold into its checkpoint's folder.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    saved = {
        "weights": state.weights.tolist(),
        "fusion_weights": state.fusion_weights.tolist(),
        "smoothed_reward": smoothed_reward,
        "classes": list(classes),
    }
    atomic_write_text(folder / _FILE, json.dumps(saved) + "\n")


def read_state(
    folder: Path, record: RoundRecord, modalities: Sequence[str]
) -> tuple[RoundState, float | None]:
    """The state after the round of ``record``, and the smoothed reward.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, or the record is.
    """
    file, saved = folder / _FILE, _read(folder)
    for found in (saved.weights, saved.fusion_weights):
        if len(found) != len(modalities):
            raise CheckpointError(
                f"{file} is damaged: expected a weight of each of {list(modalities)}, found "
                f"{len(found)}; {_ADVICE}"
            )
    state = RoundState(
        weights=np.asarray(saved.weights, dtype=np.float64),
        fusion_weights=np.asarray(saved.fusion_weights, dtype=np.float64),
        temperatures=_by_modality(record.temperatures, modalities),
        delta=_by_modality(record.delta, modalities),
        fused_temperature=record.temperatures.get(MULTIMODAL, 1.0),
        validation=record.validation,
        training=record.training,
    )
    return state, saved.smoothed_reward


def read_classes(folder: Path) -> list[str] | None:
    """Class names of the model in a checkpoint's folder; None where an earlier version wrote it."""
    return _read(folder).classes


def _read(folder: Path) -> _Saved:
    return read_json(folder / _FILE, _Saved, advice=_ADVICE, error=CheckpointError)


def _by_modality(numbers: Mapping[str, float], modalities: Sequence[str]) -> NDArray[Any]:
    if lacking := [m for m in modalities if m not in numbers]:
        raise CheckpointError(
            f"the last line of rounds.jsonl is damaged: expected numbers of {list(modalities)}, "
            f"found none of {lacking}; restore it or start a new run"
        )
    return np.array([numbers[m] for m in modalities])
