"""The state of a training in progress, and its checkpoint on disk."""

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
from rlmba.training.processes import ProcessGroup

__all__ = ["FitCheckpoint", "FitState", "Moving"]


@dataclass
class FitState:
    """Progress of a training.

    ``step`` is the number of completed steps. ``losses`` has the mean loss of each epoch, for the
    current one so far. ``norms`` has the gradient norm of each step of the last epoch. ``best`` is
    the lowest NLL on the validation set, reached in epoch ``best_epoch``.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = -1


@dataclass
class Moving:
    """What training changes besides its progress: weights, optimizer and generator states."""

    model: MultimodalClassifier
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    masks: torch.Generator
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def capture(self, group: ProcessGroup) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return it as tensors and JSON-serializable values; complete only in the main process."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        optimizer = self.optimizer.state_dict()
        for number, values in optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in values.items()}
        tensors["masks"] = self.masks.get_state()
        for rank, states in enumerate(group.collect(_random_states(group.device))):
            tensors |= {f"random.{rank}.{k}": v for k, v in states.items()}
        facts = {"groups": optimizer["param_groups"], "scheduler": self.scheduler.state_dict()}
        return tensors, facts

    def restore(
        self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], group: ProcessGroup
    ) -> None:
        """Restore the state that :meth:`capture` returned in a process of the same rank."""

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
        # The encoders' random numbers still depend on the number of processes.
        states = part(f"random.{group.rank}")
        if states:
            torch.set_rng_state(states["cpu"].cpu())
        if "cuda" in states and group.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"].cpu(), group.device)


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


@dataclass(frozen=True)
class _Saved:
    """Content of a training's file besides tensors."""

    state: FitState
    groups: list[dict[str, Any]]
    scheduler: dict[str, Any]


class FitCheckpoint:
    """A file to which a training is saved periodically, and from which it continues.

    Parameters
    ----------
    path : path
        Replaced atomically each time.
    minutes : float
        Wall-clock minutes between two saves.
    identity : mapping
        JSON-serializable values that determine the training. A file of another training is ignored.
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
        """Write the state.

        Raises
        ------
        StorageError
            If it cannot be written; an existing file is unchanged.
        """
        text = json.dumps({"state": asdict(state), **facts}).encode()
        packed = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        save_tensors(self.path, {**tensors, "facts": packed}, config=self._identity)
        self._last = time.monotonic()

    def load(self) -> tuple[FitState, dict[str, Tensor], dict[str, Any]] | None:
        """Read the last saved state; None if this training has none."""
        try:
            tensors = load_tensors(self.path, config=self._identity)
            text = bytes(tensors.pop("facts").tolist())
            saved = parse_json(text, _Saved, str(self.path), advice="delete it", finite=False)
        except (CheckpointError, DataError, KeyError, TypeError, ValueError):
            return None
        return saved.state, tensors, {"groups": saved.groups, "scheduler": saved.scheduler}
