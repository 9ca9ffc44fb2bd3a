"""Acquisition score from modality uncertainties and distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, evidential
from rlmba.kernels.fused_score import reference

__all__ = ["FusedScore", "fused_score"]


class FusedScore(NamedTuple):
    """The score of Eq 6 and its components.

    ``score`` q [N]; ``uncertainty`` u_m [N, M] and ``difficulty`` U [N] (Eq 4);
    ``normalized_uncertainty`` u~_m [N, M] and ``normalized_distance`` d~ [N], in [0, 1].
    """

    score: Any
    uncertainty: Any
    difficulty: Any
    normalized_uncertainty: Any
    normalized_distance: Any


def _cpu(inputs: evidential.Modalities, distances: arrays.Float | None, beta: float) -> FusedScore:
    core = dispatch.require_core()
    kernel = core.fused_score_f32 if inputs.dtype == np.float32 else core.fused_score_f64
    n, m = inputs.rows, len(inputs.arrays)
    result = FusedScore(*(np.empty(s, dtype=inputs.dtype) for s in (n, (n, m), n, (n, m), n)))
    bad = kernel(
        list(inputs.arrays),
        inputs.code,
        inputs.temperatures,
        inputs.weights,
        inputs.present,
        distances,
        beta,
        *result,
    )
    if bad >= 0:
        raise inputs.invalid_row(bad)
    return result


def _distances(value: arrays.ArrayLike, inputs: evidential.Modalities) -> arrays.Float:
    d = arrays.as_float(value, "distances", ndim=1)
    if d.shape != (inputs.rows,):
        raise ShapeError(f"distances: expected shape ({inputs.rows},), got {d.shape}")
    arrays.require_finite(d, "distances")
    return np.ascontiguousarray(arrays.cast(d, inputs.dtype, "distances"))


def _weights(value: Any, m: int) -> NDArray[np.float64]:
    if isinstance(value, arrays.SupportsDLPack) and arrays.device_of(value) == "cuda":
        from rlmba.kernels.common import device

        value = device.tensor(value).cpu()
    w = evidential.numbers(value, "weights")
    if w.shape != (m,):
        raise ShapeError(f"weights: expected shape ({m},), got {w.shape}")
    return w


def fused_score(
    x: Sequence[arrays.ArrayLike],
    weights: Any,
    *,
    distances: arrays.ArrayLike | None = None,
    beta: float = 1.0,
    kind: str = "logits",
    temperature: Any = 1.0,
    evidence: str = "softplus",
    present: arrays.ArrayLike | None = None,
    max_memory: int | None = None,
    backend: str = "auto",
) -> FusedScore:
    """The score q = sum_m w_m u~_m + beta d~ (Eq 6) of N samples with M modalities.

    Equivalent to :func:`~rlmba.kernels.dirichlet_variance` followed by
    :func:`~rlmba.kernels.minmax`, but each logit is read once, with at most a second pass over [N,
    M].

    Parameters
    ----------
    x : list or tuple of M arrays [N, C]
        Logits (or alpha) of each modality's head; see :func:`~rlmba.kernels.dirichlet_variance`.
    weights : [M] floats
        w (Eq 2): >= 0, sum 1.
    distances : array [N], optional
        d (Eq 5), finite, in any unit, since it is min-max normalized. d~ is 0 by default. Converted
        to the dtype of ``x``.
    beta : float
        Factor of d~, finite.
    kind, temperature, evidence
        As in :func:`~rlmba.kernels.dirichlet_variance`.
    present : bool array [N, M], optional
        Which modalities a sample has; all by default. The row of a missing modality is not read and
        may hold anything. Its u and u~ are 0, it is left out of the normalization of its column,
        and its weight is 0. The sample's other weights are renormalized, or made uniform if all of
        them are 0.
    max_memory : int, optional
        As in :func:`~rlmba.kernels.dirichlet_variance`.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    FusedScore
        Arrays of the kind of ``x[0]``, in the computation dtype. A constant column normalizes to 0.

    Raises
    ------
    ShapeError, UsageError
        If the shapes do not agree, or the weights or an option are invalid.
    NonFiniteError
        If a number that is read is NaN or infinite; ``.row`` is the first row that is not valid.
    DataError
        If a row has no modality, or an alpha is not positive; the message names the row.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[4.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> sound = np.array([[0.0, 0.0], [0.0, 5.0], [0.0, 2.0]])
    >>> fused_score([image, sound], [0.5, 0.5]).score.round(3)
    array([0.5  , 0.5  , 0.634])
    """
    if not isinstance(x, (list, tuple)):
        raise UsageError(f"x: expected a list or tuple of arrays [N, C], got {type(x).__name__}")
    name = dispatch.choose(
        "fused_score",
        backend,
        evidential.device_of(x),
        ("cuda", "triton", "cpu", "reference"),
    )
    options = {"kind": kind, "evidence": evidence, "temperature": temperature}
    if not isinstance(beta, (int, float, np.number)) or not math.isfinite(beta):
        raise UsageError(f"beta: expected a finite number, got {beta!r}")
    w = _weights(weights, len(x))
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.fused_score import on_device

        found = on_device.fused_score(
            x,
            w,
            name,
            distances=distances,
            beta=float(beta),
            present=present,
            max_memory=max_memory,
            **options,
        )
        return FusedScore(*found)
    inputs = evidential.gather(x, single=False, **options)
    n, m = inputs.rows, len(x)
    inputs = replace(
        inputs,
        weights=evidential.simplex_weights(w, n, m),
        present=None if present is None else evidential.presence(present, n, m),
    )
    d = None if distances is None else _distances(distances, inputs)
    result = (_cpu if name == "cpu" else reference.fused_score)(inputs, d, float(beta))
    return FusedScore(*(arrays.like(a, x[0]) for a in result))
