"""What a query strategy is given in addition to the pool, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.types.metrics import Evaluation, TrainingDiagnostics
from rlmba.types.pool import PoolOutputs, require_modalities

__all__ = [
    "LinearHead",
    "QueryContext",
    "Selection",
    "require_finite_labeled",
    "simplex_weights",
]

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The fused head: logits = features @ weight.T + bias.

    Parameters
    ----------
    weight : float array [C, D]
    bias : float array [C]

    Raises
    ------
    ShapeError
        If shapes disagree.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ShapeError(
                "LinearHead: expected weight [C, D] and bias [C], "
                f"got {self.weight.shape} and {self.bias.shape}"
            )


@dataclass(frozen=True, eq=False)
class QueryContext:
    """What a strategy may use in addition to the pool. Everything but ``rng`` has a neutral default.

    Parameters
    ----------
    rng : numpy.random.Generator
        The only source of randomness of a query.
    round : int
        Round number t; the first query is round 1.
    weights : float array [M] or None
        AMCB weights w (Eq 2), on the simplex, in the pool's order of modalities; None: uniform.
    temperatures : float array [M] or None
        T_m of each modality head; None: 1.
    fused_temperature : float
        T > 0 of the fused head.
    contributions : float array [M] or None
        delta_m (Eq 1); None: 0.
    labeled_features : float array [L, D] or None
        Fused features of the labeled samples under the current model.
    labels : int64 array [L] or None
        Their classes.
    labeled_modalities : mapping of modality to float array [L, d] or None
        Their features f_m(x), as in :class:`PoolOutputs`. Strategies complete ``labeled_features``
        with them; without them, every labeled sample is treated as complete.
    labeled_present : bool array [L, M] or None
        Which modalities they have; None: all.
    labeled_input_features : mapping of modality to float array [L, d_m] or None
        Their input features, from the same :class:`~rlmba.method.input_space.InputSpace` as the pool's
        and completed in the same way.
    head : LinearHead or None
        The fused head that computes ``fused_logits``: C as in the pool, D the width of its fused
        features.
    fusion_weights : float array [M] or None
        w of the model's convex fusion, which equals AMCB's w only if the fusion is ``amcb``. Not used
        if features are concatenated. None: uniform.
    validation : Evaluation or None
        Metrics of the current model on the validation set.
    training : TrainingDiagnostics
        Diagnostics of the last training.
    """

    rng: np.random.Generator
    round: int = 1
    weights: NDArray[np.float64] | None = None
    temperatures: NDArray[np.float64] | None = None
    fused_temperature: float = 1.0
    contributions: NDArray[np.float64] | None = None
    labeled_features: NDArray[Any] | None = None
    labels: NDArray[np.int64] | None = None
    labeled_modalities: Mapping[str, NDArray[Any]] | None = None
    labeled_present: NDArray[np.bool_] | None = None
    labeled_input_features: Mapping[str, NDArray[Any]] | None = None
    head: LinearHead | None = None
    fusion_weights: NDArray[np.float64] | None = None
    validation: Evaluation | None = None
    training: TrainingDiagnostics = field(default_factory=TrainingDiagnostics)

    @property
    def n_labeled(self) -> int:
        """L, the number of labeled samples, of whichever of their arrays were given; 0 without any."""
        arrays = (self.labels, self.labeled_features, *(self.labeled_input_features or {}).values())
        return next((len(a) for a in arrays if a is not None), 0)

    def weights_for(self, pool: PoolOutputs) -> NDArray[np.float64]:
        """Weights [M] for this pool, uniform if none were given.

        Raises
        ------
        UsageError
            If they are not a point of the simplex with one entry per modality.
        """
        return simplex_weights(self.weights, pool.modalities, "QueryContext.weights")

    def temperatures_for(self, pool: PoolOutputs) -> NDArray[np.float64]:
        """Temperatures [M] for this pool, 1 if none were given.

        Raises
        ------
        UsageError
            If one is not positive or their number is not M.
        """
        m = len(pool.modalities)
        if self.temperatures is None:
            return np.ones(m)
        t = np.asarray(self.temperatures, dtype=np.float64)
        if t.shape != (m,) or not np.isfinite(t).all() or (t <= 0).any():
            raise UsageError(f"QueryContext.temperatures: expected {m} numbers > 0, got {t}")
        return t

    def fusion_weights_for(self, pool: PoolOutputs) -> NDArray[np.float64]:
        """w of the convex fusion [M], uniform if none were given.

        Raises
        ------
        ShapeError
            If they are not M finite numbers.
        """
        m = len(pool.modalities)
        if self.fusion_weights is None:
            return np.full(m, 1.0 / m)
        w = np.asarray(self.fusion_weights, dtype=np.float64)
        if w.shape != (m,) or not np.isfinite(w).all():
            raise ShapeError(
                f"QueryContext.fusion_weights: expected {m} numbers for {pool.modalities}, got {w}"
            )
        return w

    def labeled_for(self, pool: PoolOutputs) -> NDArray[Any] | None:
        """Features of the labeled samples [L, D], L >= 1, as wide as the pool's; None without samples.

        Raises
        ------
        ShapeError
            If their width differs from that of the pool's fused features.
        DataError
            If they contain NaN or infinity.
        """
        labeled, width = self.labeled_features, pool.fused_features.shape[1]
        if labeled is None:
            return None
        if labeled.ndim != 2 or labeled.shape[1] != width:
            raise ShapeError(
                f"QueryContext.labeled_features: expected [L, {width}], as wide as the pool's fused "
                f"features, got shape {labeled.shape}; take both from the same model and fusion"
            )
        require_finite_labeled("QueryContext.labeled_features", labeled)
        return labeled if len(labeled) else None

    def labeled_inputs_for(self, pool: PoolOutputs) -> Mapping[str, NDArray[Any]] | None:
        """Input features of the labeled samples, L >= 1, as wide as the pool's; None without samples.

        Raises
        ------
        ShapeError
            If they are not [L, d_m] for the pool's modalities and widths.
        DataError
            If they contain NaN or infinity.
        """
        labeled, inputs = self.labeled_input_features, pool.input_features
        if labeled is None or inputs is None:
            return None
        name = "QueryContext.labeled_input_features"
        _require_as_pool(name, labeled, inputs, "prepare both by one InputSpace")
        for m, a in labeled.items():
            require_finite_labeled(f"{name}[{m!r}]", a)
        return labeled if len(next(iter(labeled.values()))) else None

    def labeled_modalities_for(self, pool: PoolOutputs) -> Mapping[str, NDArray[Any]] | None:
        """Features of the labeled samples by modality, as wide as the pool's; None if none were given.

        They are in the pool's order of modalities, and may contain NaN or infinity.

        Raises
        ------
        ShapeError
            If they are not [L, d] for the pool's modalities and widths, L differs from that of the fused
            features, or ``labeled_present`` is not [L, M].
        """
        labeled = self.labeled_modalities
        if labeled is None:
            return None
        if set(labeled) == set(pool.modalities):
            labeled = {m: labeled[m] for m in pool.modalities}
        name, fused = "QueryContext.labeled_modalities", self.labeled_features
        size = _require_as_pool(
            name,
            labeled,
            pool.features,
            "take both from the same model",
            size=None if fused is None else len(fused),
        )
        shape = (size, len(pool.modalities))
        if self.labeled_present is not None and self.labeled_present.shape != shape:
            raise ShapeError(
                f"QueryContext.labeled_present: expected shape {shape}, a row for each labeled sample and "
                f"a column for each modality, got {self.labeled_present.shape}"
            )
        return labeled

    def head_for(self, pool: PoolOutputs) -> LinearHead:
        """The fused head, checked to have as many classes as this pool's logits.

        Raises
        ------
        UsageError
            If none was given.
        ShapeError
            If it has another number of classes.
        """
        if self.head is None:
            raise UsageError(
                "QueryContext.head: expected the fused head behind fused_logits, got none; pass "
                "LinearHead(weight [C, D], bias [C])"
            )
        if len(self.head.bias) != pool.n_classes:
            raise ShapeError(
                f"QueryContext.head: expected {pool.n_classes} classes, as in the pool's logits, "
                f"got weight {self.head.weight.shape}"
            )
        return self.head


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen samples: positions into the pool that was passed, in the order they were chosen.

    Parameters
    ----------
    positions : int64 array [n]
        Distinct, within 0..N-1.
    scores : float array [n]
        The strategy's value for each chosen sample; larger is better.
    seconds : mapping of stage to float
        Wall time per stage.
    backends : mapping of kernel name to backend
        Which backend ran each kernel that was used.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.float64]
    seconds: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    backends: Mapping[str, str] = field(default_factory=lambda: _EMPTY)

    def __len__(self) -> int:
        return len(self.positions)


def simplex_weights(
    weights: NDArray[Any] | None, modalities: Sequence[str], owner: str
) -> NDArray[np.float64]:
    """Weights [M] of modalities as float64, checked; uniform if they are None.

    Parameters
    ----------
    weights : float array [M] or None
    modalities : sequence of str
    owner : str
        What messages call the weights.

    Raises
    ------
    UsageError
        If they are not M numbers >= 0 with sum 1 (within 1e-6).
    """
    m = len(modalities)
    if weights is None:
        return np.full(m, 1.0 / m)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (m,) or not np.isfinite(w).all() or (w < 0).any() or abs(w.sum() - 1) > 1e-6:
        raise UsageError(
            f"{owner}: expected {m} numbers >= 0 with sum 1 for {tuple(modalities)}, got {w}; divide them "
            "by their sum"
        )
    return w


def _require_as_pool(
    name: str,
    labeled: Mapping[str, NDArray[Any]],
    pool: Mapping[str, NDArray[Any]],
    remedy: str,
    *,
    size: int | None = None,
) -> int:
    """Raise unless labeled samples have the pool's modalities and widths; return their number.

    ``size`` is their expected number; None: that of the first modality.
    """
    require_modalities(name, labeled, tuple(pool))
    size = len(next(iter(labeled.values()))) if size is None else size
    for m, a in labeled.items():
        if a.shape != (size, pool[m].shape[1]):
            raise ShapeError(
                f"{name}[{m!r}]: expected shape {(size, pool[m].shape[1])}, one row for each labeled "
                f"sample, as wide as the pool's, got {tuple(a.shape)}; {remedy}"
            )
    return size


def require_finite_labeled(name: str, array: Any) -> None:
    """Raise unless an array or tensor [L, D] of labeled samples, ``name`` in the message, is finite.

    Raises
    ------
    DataError
        If a row contains NaN or infinity; it names the first one.
    """
    finite = array.isfinite() if hasattr(array, "isfinite") else np.isfinite(array)
    rows = finite.all(1)
    if not bool(rows.all()):
        row = int(np.argmin(np.asarray(rows.cpu() if hasattr(rows, "cpu") else rows)))
        raise DataError(
            f"{name}: expected finite numbers, row {row} contains NaN or infinity; drop or repair that "
            "labeled sample"
        )
