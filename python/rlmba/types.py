"""The four types that carry everything between rooms, and the small ones they are made of.

All hold NumPy arrays and plain numbers (:class:`PoolOutputs` also torch tensors), without a reference to
a model or a data set. M is the number of modalities, C of classes, d the shared feature width, N the
size of the pool, L the size of the labeled set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError

__all__ = [
    "MULTIMODAL",
    "Evaluation",
    "HeadMetrics",
    "LinearHead",
    "PoolOutputs",
    "QueryContext",
    "RoundRecord",
    "Selection",
    "TrainingDiagnostics",
    "require_finite_labeled",
    "simplex_weights",
]

MULTIMODAL = "mm"
"""Name of the fused head wherever heads are named; no modality may have it."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


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
            _require_modalities("PoolOutputs.input_features", self.input_features, self.modalities)
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


def _require_modalities(name: str, found: Mapping[str, Any], modalities: Sequence[str]) -> None:
    if tuple(found) != tuple(modalities):
        raise ShapeError(
            f"{name}: expected an array for each of the modalities {tuple(modalities)} in that order, got "
            f"{tuple(found)}"
        )


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


@dataclass(frozen=True)
class HeadMetrics:
    """Metrics of one head on one set of samples.

    ``top1`` is the micro accuracy and ``top1_macro`` the mean of the accuracies of the classes present,
    both in [0, 1]. ``nll`` is the mean negative log-likelihood in nats, ``ece`` the expected calibration
    error in [0, 1] (L1, equal-width bins).

    ``f1`` in [0, 1] is the mean of F1 over the classes present. ``auroc`` in [0, 1] is the mean area
    under the ROC curve, one class against the rest, over the classes that some but not all samples
    belong to. Both are None where undefined, and in records of versions that did not record them.
    ``per_class`` is the accuracy of each class in the order of the classes, None for a class without
    samples; it is empty where it was not asked for.

    If some samples lack a modality, its head is evaluated on the ``samples`` that have it, and
    ``fused_top1`` is the fused head's Top-1 on the same samples (None if there are none). Both are
    None for a head that is evaluated on every sample, and in records of versions that did not record
    them.
    """

    top1: float
    top1_macro: float
    nll: float
    ece: float
    f1: float | None = None
    auroc: float | None = None
    per_class: tuple[float | None, ...] = ()
    samples: int | None = None
    fused_top1: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Metrics of every head on one set of ``size`` samples: the fused head "mm", then the modalities."""

    heads: Mapping[str, HeadMetrics]
    size: int

    def __post_init__(self) -> None:
        if MULTIMODAL not in self.heads:
            raise DataError(
                f"Evaluation: expected the fused head {MULTIMODAL!r}, got {list(self.heads)}"
            )

    @property
    def mm(self) -> HeadMetrics:
        """The fused head's metrics."""
        return self.heads[MULTIMODAL]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names in their fixed order."""
        return tuple(m for m in self.heads if m != MULTIMODAL)

    def fused_top1(self, modality: str) -> float | None:
        """Top-1 of the fused head on the samples that have ``modality``; None if none has it.

        Compare the Top-1 of the modality's head with this value: samples that have a modality can be
        easier or harder than the others.
        """
        head = self.heads[modality]
        if head.samples is None:
            return self.mm.top1
        return head.fused_top1


@dataclass(frozen=True)
class TrainingDiagnostics:
    """Diagnostics of one training.

    ``loss_slope`` is the change of the mean loss per epoch (least squares over the second half of the
    epochs), ``gradient_norm`` the mean l2 norm of the gradient in the last epoch, ``final_loss`` the
    mean loss of the last epoch, ``steps`` the number of optimizer steps and ``epochs`` that of epochs.
    """

    loss_slope: float = 0.0
    gradient_norm: float = 0.0
    final_loss: float = 0.0
    steps: int = 0
    epochs: int = 0


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
        _require_modalities(name, labeled, pool.modalities)
        size = len(next(iter(labeled.values())))
        for m, a in labeled.items():
            if a.shape != (size, inputs[m].shape[1]):
                raise ShapeError(
                    f"{name}[{m!r}]: expected shape {(size, inputs[m].shape[1])}, as wide as the pool's "
                    f"input features, got {a.shape}; prepare both by one InputSpace"
                )
            require_finite_labeled(f"{name}[{m!r}]", a)
        return labeled if size else None

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


@dataclass(frozen=True)
class RoundRecord:
    """What one round produced: one line of ``rounds.jsonl``, and everything that reports read.

    Round 0 trains on the initial labels and selects nothing. Round t >= 1 queries ``selected`` samples
    with the model of round t - 1, retrains and evaluates.

    By modality, ``weights`` is AMCB's w that scored in this round, ``fusion_weights`` that of the fusion
    in training, ``delta`` Eq 1 after training, and ``contributions`` the normalized mean Shapley values
    on the validation set. ``raw_reward`` is r_t, ``reward`` the same after smoothing
    (``reward.smoothing``). ``seconds`` has ``predict``, ``select``, ``train``, ``validate`` and
    ``policy``; ``select_seconds`` splits ``select`` by stage.
    """

    round: int
    labels: int
    selected: int
    validation: Evaluation
    test: Evaluation | None
    weights: Mapping[str, float]
    fusion_weights: Mapping[str, float]
    delta: Mapping[str, float]
    contributions: Mapping[str, float]
    temperatures: Mapping[str, float]
    training: TrainingDiagnostics
    seconds: Mapping[str, float]
    select_seconds: Mapping[str, float] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    raw_reward: float | None = None
    reward: float | None = None
    advantage: float | None = None
    policy: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, numbers and strings, ready for JSON."""
        return asdict(self)
