"""The outputs of a model for a pool of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError

__all__ = [
    "PoolOutputs",
    "require_modalities",
]


@dataclass(frozen=True, eq=False)
class PoolOutputs:
    """The model's outputs for N samples, in pool order. Position i is row i of every array.

    Features and logits are NumPy arrays, or torch tensors on one device. Strategies compute on that
    device, so outputs on a GPU need not be copied to host memory.

    Parameters
    ----------
    ids : str array [N]
        Stable sample ids, distinct.
    features : mapping of modality to float array [N, d]
        Projected features f_m(x). Its order is the order of the modalities.
    logits : mapping of modality to float array [N, C]
        Logits of each modality's own head, not divided by a temperature.
    fused_features : float array [N, D]
        f(x): D = d for convex fusion, M d for concatenation.
    fused_logits : float array [N, C]
        Logits of the fused head.
    present : bool array [N, M] or None
        Which modalities each sample has; None if every sample has all of them. Rows of an absent
        modality in ``features`` and ``logits`` are finite but have no meaning.
    dropout_logits : float array [K, N, C] or None
        Fused logits of K stochastic passes through the head, if a strategy asked for them.
    input_features : mapping of modality to float array [N, d_m] or None
        What the encoders read, as unit rows: see :class:`rlmba.method.input_space.InputSpace`. Absent
        modalities are completed (:func:`rlmba.method.completing.completed_features`). None if no
        strategy asked for them.
    evidence : {"softplus", "exp", "relu"} or None
        The function e by which the modality heads were trained to output Dirichlet evidence, alpha_m
        = 1 + e(logits). None: they were trained by cross-entropy.

    Raises
    ------
    ShapeError
        If shapes disagree.
    DataError
        If ids repeat.
    """

    ids: NDArray[np.str_]
    features: Mapping[str, NDArray[Any]]
    logits: Mapping[str, NDArray[Any]]
    fused_features: NDArray[Any]
    fused_logits: NDArray[Any]
    present: NDArray[np.bool_] | None = None
    dropout_logits: NDArray[Any] | None = None
    input_features: Mapping[str, NDArray[Any]] | None = None
    evidence: str | None = None

    def __post_init__(self) -> None:
        n, c = len(self.ids), self.fused_logits.shape[-1]
        if tuple(self.features) != tuple(self.logits) or not self.features:
            raise ShapeError(
                "PoolOutputs: expected features and logits of the same modalities in the same order, "
                f"got {tuple(self.features)} and {tuple(self.logits)}"
            )
        expected: list[tuple[str, NDArray[Any], tuple[int, ...]]] = [
            ("fused_logits", self.fused_logits, (n, c))
        ]
        expected += [("fused_features", self.fused_features, (n, self.fused_features.shape[-1]))]
        expected += [(f"logits[{m!r}]", a, (n, c)) for m, a in self.logits.items()]
        expected += [(f"features[{m!r}]", a, (n, a.shape[-1])) for m, a in self.features.items()]
        if self.present is not None:
            expected.append(("present", self.present, (n, len(self.features))))
        if self.dropout_logits is not None:
            expected.append(
                ("dropout_logits", self.dropout_logits, (len(self.dropout_logits), n, c))
            )
        if self.input_features is not None:
            require_modalities("PoolOutputs.input_features", self.input_features, self.modalities)
            expected += [
                (f"input_features[{m!r}]", a, (n, a.shape[-1]))
                for m, a in self.input_features.items()
            ]
        for name, array, shape in expected:
            if array.shape != shape:
                raise ShapeError(f"PoolOutputs.{name}: expected shape {shape}, got {array.shape}")
        if len(np.unique(self.ids)) != n:
            values, counts = np.unique(self.ids, return_counts=True)
            raise DataError(
                f"PoolOutputs.ids: expected distinct ids, {values[counts > 1][0]!r} repeats"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names in their fixed order."""
        return tuple(self.features)

    @property
    def n_classes(self) -> int:
        """C, the number of classes."""
        return int(self.fused_logits.shape[-1])

    def take(self, positions: NDArray[np.int64]) -> PoolOutputs:
        """The outputs of the samples at ``positions`` (copies), in that order."""
        return replace(
            self,
            **self._mapped(lambda a: a[positions] if a.ndim == 2 else a[:, positions]),
            ids=self.ids[positions],
            present=None if self.present is None else self.present[positions],
        )

    @property
    def readable(self) -> NDArray[np.int64] | None:
        """Positions of the samples with at least one modality, ascending; None if all have one."""
        if self.present is None or self.present.any(axis=1).all():
            return None
        return np.flatnonzero(self.present.any(axis=1))

    def on(self, device: Any) -> PoolOutputs:
        """These outputs as torch tensors on a torch device (or its name)."""
        import torch

        def tensor(a: Any) -> Any:
            if isinstance(a, np.ndarray) and a.size and not any(a.strides):  # one repeated number
                one = torch.from_numpy(a.reshape(-1)[:1].copy()).to(device)
                return one.expand(a.shape)
            return torch.as_tensor(a, device=device)

        return replace(self, **self._mapped(tensor))

    def host(self) -> PoolOutputs:
        """These outputs as NumPy arrays; the object itself if they are NumPy arrays already."""
        logits: Any = self.fused_logits
        if isinstance(logits, np.ndarray):
            return self
        return replace(self, **self._mapped(lambda a: a.cpu().numpy()))

    def _mapped(self, function: Callable[[Any], Any]) -> dict[str, Any]:
        """The features and logits, each array mapped by ``function``."""
        dropout, inputs = self.dropout_logits, self.input_features
        return {
            "features": {m: function(a) for m, a in self.features.items()},
            "logits": {m: function(a) for m, a in self.logits.items()},
            "fused_features": function(self.fused_features),
            "fused_logits": function(self.fused_logits),
            "dropout_logits": None if dropout is None else function(dropout),
            "input_features": None
            if inputs is None
            else {m: function(a) for m, a in inputs.items()},
        }


def require_modalities(name: str, found: Mapping[str, Any], modalities: Sequence[str]) -> None:
    """Raise unless a mapping has exactly these modalities in this order.

    Raises
    ------
    ShapeError
        If it has others; ``name`` is that of the mapping in the message.
    """
    if tuple(found) != tuple(modalities):
        raise ShapeError(
            f"{name}: expected an array for each of the modalities {tuple(modalities)} in that order, got "
            f"{tuple(found)}"
        )
