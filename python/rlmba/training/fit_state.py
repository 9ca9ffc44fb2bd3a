"""A training that is under way: what it is made of, and its checkpoint on disk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlmba.errors import CheckpointError, DataError
from rlmba.models.classifier import MultimodalClassifier
from rlmba.reading.structured import parse_json
from rlmba.training.checkpoint import load_tensors, save_tensors
from rlmba.training.mesh import Mesh

__all__ = ["FitCheckpoint", "FitState", "Moving"]


@dataclass
class FitState:
    """Figures of a training so far.

    ``step`` steps are done; ``losses`` is the mean loss of each epoch, of the present one as far as
    it has gone; ``norms`` the gradient's norm in each step of the last epoch; ``best`` the lowest
    NLL on V, that of epoch ``best_epoch``.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = -1


@dataclass
class Moving:
    """What training changes beside the figures: weights, optimizer, and states of generators."""

    model: MultimodalClassifier
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    masks: torch.Generator
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def capture(self, mesh: Mesh) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of it, as tensors and as what JSON can hold; complete in the main process only."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        optimizer = self.optimizer.state_dict()
        for number, values in optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in values.items()}
        tensors["masks"] = self.masks.get_state()
        for rank, states in enumerate(mesh.collect(_random_states(mesh.device))):
            tensors |= {f"random.{rank}.{k}": v for k, v in states.items()}
        facts = {"groups": optimizer["param_groups"], "scheduler": self.scheduler.state_dict()}
        return tensors, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], mesh: Mesh) -> None:
        """Set everything to what :meth:`capture` saw, in a process of the same rank."""

        def part(name: str) -> dict[str, Tensor]:
            start = f"{name}."
            return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}

        self.model.load_state_dict(part("model"))
        self.best_weights = part("best")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer").items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": facts["groups"]})
        self.scheduler.load_state_dict(dict(facts["scheduler"]))
        self.masks.set_state(tensors["masks"].cpu())
        # Another number of processes has other draws in its encoders all the same.
        states = part(f"random.{mesh.rank}")
        if states:
            torch.set_rng_state(states["cpu"].cpu())
        if "cuda" in states and mesh.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"].cpu(), mesh.device)


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


@dataclass(frozen=True)
class _Saved:
    """What the file of a training has beside tensors."""

    state: FitState
    groups: list[dict[str, Any]]
    scheduler: dict[str, Any]


class FitCheckpoint:
    """A file that a training is saved to from time to time, and taken up from.

    Parameters
    ----------
    path : path
        Replaced as a whole every time.
    minutes : float
        From one time to the next, on the clock.
    identity : mapping
        JSON-able: what decides the training. A file of another one is not taken up.
    """

    def __init__(self, path: Path, minutes: float, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._seconds = 60 * minutes
        self._identity = dict(identity)
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self._seconds

    def save(
        self, state: FitState, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> None:
        """Write it all.

        Raises
        ------
        StorageError
            If it cannot be written; what was there is unharmed.
        """
        text = json.dumps({"state": asdict(state), **facts}).encode()
        packed = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        save_tensors(self.path, {**tensors, "facts": packed}, config=self._identity)
        self._last = time.monotonic()

    def load(self) -> tuple[FitState, dict[str, Tensor], dict[str, Any]] | None:
        """What was saved last; None where there is nothing of this training."""
        try:
            tensors = load_tensors(self.path, config=self._identity)
            text = bytes(tensors.pop("facts").tolist())
            saved = parse_json(text, _Saved, str(self.path), advice="delete it", finite=False)
        except (CheckpointError, DataError, KeyError, TypeError, ValueError):
            return None
        return saved.state, tensors, {"groups": saved.groups, "scheduler": saved.scheduler}
