"""The policy z_theta(s_t, x) and its REINFORCE step: Eq 10 to 13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlmba import kernels
from rlmba.errors import CheckpointError, UsageError
from rlmba.method.state import CANDIDATE_FEATURES, STATE_FEATURES

__all__ = ["Draw", "Policy", "PolicyNetwork", "Taken"]


class PolicyNetwork(nn.Module):
    """A small MLP that computes a residual to the standardized score of each candidate.

    The last layer starts at zero, so an untrained policy draws in proportion to exp(q).

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
        """z [K] of a state [S], or of one state per candidate [K, S], and features [K, F].

        Column 0 of the features is the score that the residual is added to.
        """
        k = candidates.shape[0]
        inputs = torch.cat([state.expand(k, -1), candidates], dim=1)
        residual: torch.Tensor = self.last(self.body(inputs)).squeeze(1)
        return candidates[:, 0] + residual


class Draw(NamedTuple):
    """A drawn batch: ``indices`` int64 [b] into the candidates, in drawn order, and ``log_prob``."""

    indices: NDArray[np.int64]
    log_prob: float


class Taken(NamedTuple):
    """A draw to learn from: ``state`` [S] as the network saw it, ``candidates`` [K, F], ``indices`` [b]."""

    state: NDArray[np.float64]
    candidates: NDArray[np.float64]
    indices: NDArray[np.int64]


class Policy:
    """The policy network, its optimizer, and the last draw, which is waiting for its reward.

    Parameters
    ----------
    hidden : int
        Width of the network.
    learning_rate : float
        Adam's learning rate.
    seed : int
        Decides the initial weights of the hidden layers.
    sharpness : float
        Draws follow the Plackett-Luce law of ``sharpness`` z. The paper's value is 1; with larger
        values draws stay closer to the n best by z.
    """

    def __init__(
        self,
        *,
        hidden: int = 32,
        learning_rate: float = 1e-3,
        seed: int = 0,
        sharpness: float = 1.0,
    ) -> None:
        if hidden < 1 or not learning_rate > 0:
            raise UsageError(
                f"policy: expected hidden >= 1 and learning_rate > 0, got {hidden} and {learning_rate}"
            )
        if not (sharpness > 0 and np.isfinite(sharpness)):
            raise UsageError(f"policy: sharpness: expected a number > 0, got {sharpness}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PolicyNetwork(hidden).double()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        self.hidden, self.sharpness = hidden, sharpness
        self._pending: Taken | None = None

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
        keep: bool = True,
    ) -> Draw:
        """Draw n candidates without replacement by the Plackett-Luce law of sharpness z (Eq 10-12).

        With ``keep``, the draw is kept for :meth:`learn`, in place of the draw kept before.
        """
        z = self.scores(state, candidates)
        drawn = kernels.plackett_luce(self.sharpness * z, n, rng=rng)
        if keep:
            self._pending = Taken(state, candidates, drawn.indices)
        return Draw(drawn.indices, float(drawn.log_prob))

    def best(
        self, state: NDArray[np.float64], candidates: NDArray[np.float64], n: int
    ) -> NDArray[np.int64]:
        """Indices of the n candidates of largest z, largest first; ties by their order."""
        return np.argsort(-self.scores(state, candidates), kind="stable")[:n]

    def learn(self, advantage: float) -> float:
        """Take one REINFORCE step, ascending A_t grad log pi of the last draw (Eq 13).

        Returns
        -------
        float
            The l2 norm of the gradient; 0 where there is no draw to learn from or A_t is 0.
        """
        taken, self._pending = self._pending, None
        if taken is None or advantage == 0.0:
            return 0.0
        return self.update([taken], [advantage])[0]

    def update(
        self,
        draws: Sequence[Taken],
        advantages: Sequence[float],
        *,
        entropy: float = 0.0,
        max_grad_norm: float = 10.0,
    ) -> tuple[float, float]:
        """Take one step of Adam that ascends the mean over draws of A log pi + ``entropy`` H.

        Parameters
        ----------
        draws : sequence of Taken [B]
            Made with the current weights, B >= 1.
        advantages : sequence of float [B]
        entropy : float
            Weight of the entropy bonus. H is the exact entropy, in nats, of a draw's first pick; the
            entropy of the whole ordered draw has no closed form.
        max_grad_norm : float
            The l2 norm that a longer gradient is clipped to.

        Returns
        -------
        (float, float)
            The gradient's l2 norm before clipping, and the mean of H over the draws.
        """
        sizes = [len(d.candidates) for d in draws]
        states = torch.from_numpy(np.repeat(np.stack([d.state for d in draws]), sizes, axis=0))
        candidates = torch.from_numpy(np.concatenate([d.candidates for d in draws]))
        self.optimizer.zero_grad(set_to_none=True)
        z = self.network(states, candidates)
        # d(log pi)/dz is known in closed form, so nothing is unrolled over the batch.
        gradient, total = np.empty(len(candidates)), 0.0
        logits = self.sharpness * z.detach().numpy()
        ends = np.cumsum(sizes)
        for draw, advantage, size, end in zip(draws, advantages, sizes, ends, strict=True):
            part = slice(end - size, end)
            by_logits = advantage * kernels.plackett_luce_log_prob(logits[part], draw.indices)[1]
            h, by_entropy = _first_pick(logits[part])
            total += h
            gradient[part] = self.sharpness * (by_logits + entropy * by_entropy)
        z.backward(torch.from_numpy(-gradient / len(draws)))
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), max_norm=max_grad_norm))
        self.optimizer.step()
        return norm, total / len(draws)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Arrays of the weights, of Adam's moments, and of the draw that is waiting for its reward."""
        state = {f"network.{k}": v.numpy().copy() for k, v in self.network.state_dict().items()}
        for i, slot in self.optimizer.state_dict()["state"].items():
            for key, value in slot.items():
                state[f"optimizer.{i}.{key}"] = value.double().numpy().copy()
        if self._pending is not None:
            state |= {f"pending.{k}": v.copy() for k, v in self._pending._asdict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
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
                f"{shapes.get(differing[0])}; use the strategy options that it was saved with"
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
        waits = "pending.state" in state
        self._pending = Taken(*(state[f"pending.{k}"] for k in Taken._fields)) if waits else None


def _first_pick(logits: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Entropy of softmax(logits) in nats, and its gradient with respect to the logits."""
    log_p = logits - logits.max()
    log_p -= np.log(np.exp(log_p).sum())
    p = np.exp(log_p)
    h = -float(p @ log_p)
    return h, -p * (log_p + h)
