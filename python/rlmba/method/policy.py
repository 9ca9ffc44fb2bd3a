"""The policy z_theta(s_t, x) and its REINFORCE step: Eq 10 to 13."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlmba import kernels
from rlmba.errors import CheckpointError, UsageError
from rlmba.method.state import CANDIDATE_FEATURES, STATE_FEATURES

__all__ = ["Draw", "Policy", "PolicyNetwork"]


class PolicyNetwork(nn.Module):
    """A small MLP giving each candidate a residual over its standardized score.

    The last layer starts at zero, so that an untrained policy draws in proportion to exp(q).

    Parameters
    ----------
    hidden : int
        Width of the two hidden layers.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(len(STATE_FEATURES) + len(CANDIDATE_FEATURES), hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
        )
        self.last = nn.Linear(hidden, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, state: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """z [K] of a state [S] and candidates' features [K, F], whose column 0 is standardized q."""
        k = candidates.shape[0]
        inputs = torch.cat([state.expand(k, -1), candidates], dim=1)
        residual: torch.Tensor = self.last(self.body(inputs)).squeeze(1)
        return candidates[:, 0] + residual


class Draw(NamedTuple):
    """A batch drawn: ``indices`` int64 [b] into the candidates in drawn order, ``log_prob``."""

    indices: NDArray[np.int64]
    log_prob: float


class Policy:
    """The network, its optimizer and the draw that waits for its reward.

    Parameters
    ----------
    hidden : int
        Width of the network.
    learning_rate : float
        Adam's rate.
    seed : int
        Initial weights of the hidden layers.
    """

    def __init__(self, *, hidden: int = 32, learning_rate: float = 1e-3, seed: int = 0) -> None:
        if hidden < 1 or not learning_rate > 0:
            raise UsageError(
                f"policy: expected hidden >= 1 and learning_rate > 0, got {hidden} and {learning_rate}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PolicyNetwork(hidden).double()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        self._pending: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def scores(
        self, state: NDArray[np.float64], candidates: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """z [K] without gradient, for a state [S] and candidates' features [K, F]."""
        with torch.no_grad():
            z: NDArray[np.float64] = self.network(
                torch.from_numpy(state), torch.from_numpy(candidates)
            ).numpy()
        return z

    def draw(
        self,
        state: NDArray[np.float64],
        candidates: NDArray[np.float64],
        n: int,
        *,
        rng: np.random.Generator,
    ) -> Draw:
        """Draw n candidates without replacement by the Plackett-Luce law of z (Eq 10-12).

        The draw is kept until :meth:`learn` or the next draw.
        """
        z = self.scores(state, candidates)
        drawn = kernels.plackett_luce(z, n, rng=rng)
        self._pending = (
            torch.from_numpy(state),
            torch.from_numpy(candidates),
            torch.from_numpy(np.asarray(drawn.gradient, dtype=np.float64)),
        )
        return Draw(drawn.indices, float(drawn.log_prob))

    def learn(self, advantage: float) -> float:
        """One REINFORCE step, ascending A_t grad log pi of the last draw (Eq 13).

        Returns
        -------
        float
            l2 norm of the gradient taken; 0 where there is no draw to learn from or A_t is 0.
        """
        if self._pending is None or advantage == 0.0:
            self._pending = None
            return 0.0
        state, candidates, gradient = self._pending
        self._pending = None
        self.optimizer.zero_grad(set_to_none=True)
        z = self.network(state, candidates)
        # d(log pi)/dz is known in closed form from the draw, so nothing is unrolled over the batch.
        z.backward(-advantage * gradient)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), max_norm=10.0))
        self.optimizer.step()
        return norm

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Weights and Adam's moments as arrays."""
        state = {f"network.{k}": v.numpy().copy() for k, v in self.network.state_dict().items()}
        for i, slot in self.optimizer.state_dict()["state"].items():
            for key, value in slot.items():
                state[f"optimizer.{i}.{key}"] = np.asarray(value, dtype=np.float64)
        return state

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If a weight is missing, unknown or of another shape.
        """
        own = self.network.state_dict()
        given = {
            k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")
        }
        shapes = {k: tuple(v.shape) for k, v in own.items()}
        found = {k: tuple(v.shape) for k, v in given.items()}
        if shapes != found:
            differing = sorted(k for k in {**shapes, **found} if shapes.get(k) != found.get(k))
            raise CheckpointError(
                f"policy checkpoint does not fit: {differing[0]} is {found.get(differing[0])}, expected "
                f"{shapes.get(differing[0])}; use the strategy options it was made with"
            )
        self.network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in given.items()})
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                dtype = torch.float32 if name == "step" else torch.float64
                slots.setdefault(int(index), {})[name] = torch.tensor(value, dtype=dtype)
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = slots
        self.optimizer.load_state_dict(optimizer)
