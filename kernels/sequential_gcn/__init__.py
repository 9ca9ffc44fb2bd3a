"""A two-layer graph network that distinguishes labeled from unlabeled rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.graph_propagate import build, check_affinity
from rlmba.kernels.sequential_gcn import reference, spec
from rlmba.kernels.sequential_gcn.reference import Options

__all__ = ["SequentialGcn", "check_options", "sequential_gcn"]

_PAD = 32


class SequentialGcn(NamedTuple):
    """Outputs of a trained graph network.

    ``scores`` [N]: its confidence that a row is labeled, in [0, 1]; ``hidden`` [N, hidden]:
    features of the first layer; ``affinity``: that of the graph; ``logits`` [N]: output of the
    second layer, whose sigmoid gives the scores.
    """

    scores: Any
    hidden: Any
    affinity: str
    logits: Any


def _cpu(
    features: arrays.Float,
    labeled: NDArray[np.bool_],
    seed: int,
    options: Options,
    affinity: str,
) -> tuple[NDArray[Any], NDArray[Any], str, NDArray[Any]]:
    core = dispatch.require_core()
    n, width = features.shape
    graph = build(features, affinity)
    inverse_degrees = graph.inverse_degrees
    x = np.empty(features.shape, dtype=features.dtype)
    core.normalize_rows(features, graph.inverse_norms, x)
    # Rows of x have norm 1, or 0 if all their values are 0.
    norms = (graph.inverse_norms > 0).astype(np.float64)
    propagated = np.zeros((-(-n // _PAD) * _PAD, -(-width // _PAD) * _PAD), dtype=features.dtype)
    core.graph_apply(x, norms, inverse_degrees, graph.shifted, x, propagated[:n, :width])
    start_seed, mask_seed = spec.seeds(seed)
    theta = spec.initial_parameters(start_seed, width, options.hidden)
    scores = np.empty(n, dtype=features.dtype)
    hidden = np.empty((n, options.hidden), dtype=features.dtype)
    core.sequential_gcn(
        x,
        propagated,
        norms,
        inverse_degrees,
        graph.shifted,
        labeled.astype(np.uint8),
        options.epochs,
        spec.drop_below(options.dropout),
        options.learning_rate,
        options.weight_decay,
        options.unlabeled_weight,
        mask_seed,
        theta,
        scores,
        hidden,
    )
    # `theta` now holds the trained parameters. Logits do not saturate as their sigmoid does.
    output_weights, output_bias = theta[-1 - options.hidden : -1], theta[-1]
    # Not `@`: BLAS may sum in an order that depends on the number of threads.
    q = np.einsum("ij,j->i", hidden, output_weights.astype(hidden.dtype))[:, None]
    logits = np.empty_like(q)
    core.graph_apply(x, norms, inverse_degrees, graph.shifted, q, logits)
    return scores, hidden, graph.affinity, logits[:, 0] + output_bias


def check_options(
    *,
    epochs: int,
    hidden: int,
    dropout: float,
    learning_rate: float,
    weight_decay: float,
    unlabeled_weight: float,
    affinity: str,
) -> Options:
    """Check the options of :func:`sequential_gcn`.

    Raises
    ------
    UsageError
        If an option is out of its range; the message names it.
    """
    check_affinity(affinity)
    epochs = arrays.as_count(epochs, "epochs", low=0)
    hidden = arrays.as_count(hidden, "hidden", low=1)
    if not (0 <= dropout < 1 and spec.drop_below(dropout) < spec.LEVELS):
        raise UsageError(f"dropout: expected a number within [0, 1), got {dropout}")
    for name, value in {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "unlabeled_weight": unlabeled_weight,
    }.items():
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name}: expected a finite number >= 0, got {value}")
    return Options(
        epochs=epochs,
        hidden=hidden,
        dropout=float(dropout),
        learning_rate=float(learning_rate),
        weight_decay=float(weight_decay),
        unlabeled_weight=float(unlabeled_weight),
    )


def sequential_gcn(
    features: arrays.ArrayLike,
    labeled: arrays.ArrayLike,
    *,
    rng: Rng,
    epochs: int = 200,
    hidden: int = 128,
    dropout: float = 0.3,
    learning_rate: float = 1e-3,
    weight_decay: float = 5e-4,
    unlabeled_weight: float = 1.2,
    affinity: str = "auto",
    backend: str = "auto",
) -> SequentialGcn:
    """Train a graph network to distinguish labeled from unlabeled rows, and return its outputs.

    The network is h = relu(A X W1 + b1), s = sigmoid(A h w2 + b2), with X the normalized features
    and A their graph (:func:`~rlmba.kernels.graph_propagate`). The loss is -mean(log s) over
    labeled rows minus ``unlabeled_weight`` times mean(log(1 - s)) over the others. It is minimized
    by Adam on all rows at once.

    Parameters
    ----------
    features : array [N, D]
        Finite real numbers, D >= 1.
    labeled : bool array [N]
        Which rows are labeled. At least one row must be labeled and at least one unlabeled.
    rng : int, numpy.random.Generator, torch.Generator or None
        Source of one 64-bit seed for the initial weights and dropout: an int is the seed itself, a
        generator is advanced by one draw, and None takes fresh entropy.
    epochs : int
        Number of Adam steps, >= 0.
    hidden : int
        Units of the first layer, >= 1.
    dropout : float
        Probability of dropping a hidden unit during training, in [0, 1), rounded to a multiple of
        2^-16.
    learning_rate, weight_decay : float
        Options of Adam, >= 0. The decay is added to the gradient.
    unlabeled_weight : float
        Weight of the loss on unlabeled rows, >= 0.
    affinity : {"auto", "cosine", "shifted"}
        See :func:`~rlmba.kernels.graph_propagate`.
    backend : {"auto", "cpu", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    SequentialGcn
        ``scores`` [N], ``hidden`` [N, hidden], which is nonnegative, and ``logits`` [N] of the
        trained network without dropout, in the computation dtype.

    Raises
    ------
    ShapeError
        If the shapes do not agree, ``labeled`` is not bool, or there are no columns.
    UsageError
        If no row or every row is labeled, or an option is out of its range.
    NonFiniteError
        If a feature is NaN or infinite; ``.row`` is the first such row.
    DataError
        If the training diverged.

    Notes
    -----
    A is never built. A X is the same in every epoch and is computed once. An epoch takes two
    products of [N, D] with [D, hidden] and five passes over rows of D numbers: O(N D hidden) time,
    and O(N (2 D + hidden)) memory in addition to the input. The gradient is derived in
    ``csrc/cpu/sequential_gcn.cpp``.

    Randomness is a pure function of the seed, specified in ``kernels/sequential_gcn/spec.py``. Sums
    over rows do not depend on the number of threads. Instruction sets round differently: where the
    processor has bfloat16 matrix tiles, float32 numbers are split in two for them. Training
    amplifies rounding: float32 scores are within 1e-3 of the exact scores after 10 epochs, but only
    within about 0.01 after 200 (torch's own float32: half of that). Pass float64 features for a
    result that is reproducible to 1e-9 everywhere, at about twice the time.

    References
    ----------
    Caramalau, Bhattarai and Kim, "Sequential graph convolutional network for active learning",
    CVPR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.array([[5.0, 0.1], [5.0, 0.2], [0.1, 5.0], [0.2, 5.0]])
    >>> result = sequential_gcn(f, np.array([True, False, False, False]), rng=0, hidden=16)
    >>> bool(result.scores[1] > result.scores[3])
    True
    """
    _, implementation = dispatch.select(
        "sequential_gcn",
        backend,
        arrays.device_of(features),
        {"cpu": _cpu, "reference": reference.sequential_gcn},
    )
    options = check_options(
        epochs=epochs,
        hidden=hidden,
        dropout=dropout,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        unlabeled_weight=unlabeled_weight,
        affinity=affinity,
    )
    f = distances.as_rows(features, "features")
    mask = arrays.to_numpy(labeled, "labeled")
    if mask.dtype != np.bool_ or mask.shape != (len(f),):
        raise ShapeError(
            f"labeled: expected a bool array of shape ({len(f)},), got {mask.dtype} {mask.shape}"
        )
    if not mask.any() or mask.all():
        raise UsageError(
            "labeled: expected at least one labeled and one unlabeled row, "
            f"got {int(mask.sum())} labeled of {len(f)}"
        )
    scores, units, used, logits = implementation(f, mask, seed_from(rng), options, affinity)
    if not all(np.isfinite(a).all() for a in (scores, units, logits)):
        raise DataError(
            f"the training diverged: expected finite scores, got NaN with learning_rate={learning_rate}; "
            "lower it"
        )
    return SequentialGcn(
        arrays.like(scores.astype(f.dtype, copy=False), features),
        arrays.like(units.astype(f.dtype, copy=False), features),
        used,
        arrays.like(logits.astype(f.dtype, copy=False), features),
    )
