"""Mean variance of the class probabilities under a Dirichlet distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, overload

import numpy as np

from rlmba.errors import UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, evidential
from rlmba.kernels.dirichlet_variance import reference

__all__ = ["DirichletVariance", "dirichlet_variance"]


class DirichletVariance(NamedTuple):
    """Variances: ``fused`` [N] of the fused alpha, ``modality`` [N, M] of each modality's alpha."""

    fused: Any
    modality: Any


def _cpu(inputs: evidential.Modalities) -> tuple[arrays.Float, arrays.Float | None]:
    core = dispatch.require_core()
    kernel = (
        core.dirichlet_variance_f32 if inputs.dtype == np.float32 else core.dirichlet_variance_f64
    )
    modality = np.empty((inputs.rows, len(inputs.arrays)), dtype=inputs.dtype)
    fused = None if inputs.weights is None else np.empty(inputs.rows, dtype=inputs.dtype)
    bad = kernel(
        list(inputs.arrays), inputs.code, inputs.temperatures, inputs.weights, modality, fused
    )
    if bad >= 0:
        raise inputs.invalid_row(bad)
    return modality, fused


@overload
def dirichlet_variance(
    x: Sequence[arrays.ArrayLike],
    *,
    kind: str = ...,
    temperature: Any = ...,
    evidence: str = ...,
    weights: Any = ...,
    max_memory: int | None = ...,
    backend: str = ...,
) -> DirichletVariance: ...


@overload
def dirichlet_variance(
    x: arrays.ArrayLike,
    *,
    kind: str = ...,
    temperature: Any = ...,
    evidence: str = ...,
    weights: None = ...,
    max_memory: int | None = ...,
    backend: str = ...,
) -> Any: ...


def dirichlet_variance(
    x: arrays.ArrayLike | Sequence[arrays.ArrayLike],
    *,
    kind: str = "alpha",
    temperature: Any = 1.0,
    evidence: str = "softplus",
    weights: Any = None,
    max_memory: int | None = None,
    backend: str = "auto",
) -> Any:
    """Mean over the classes of Var[p_c] under Dirichlet(alpha) (Eq 4), also of a fused alpha (Eq 3).

    Parameters
    ----------
    x : array [N, C], or a list or tuple of M of them
        One row per sample and one array per modality; C >= 1. Rows may be strided. The computation
        dtype of a sequence is the widest of its dtypes.
    kind : {"alpha", "logits"}
        Whether ``x`` holds alpha (> 0) or logits, from which alpha = 1 + evidence(x / temperature).
    temperature : float or [M] floats
        T_m > 0, for logits.
    evidence : {"softplus", "exp", "relu"}
        softplus(z) = log(1 + exp(z)), exp(z), or max(z, 0).
    weights : [M] or [N, M] floats, optional
        w of Eq 3, for a sequence only: >= 0, and each row sums to 1. Give a missing modality the
        weight 0 and renormalize the others. Uniform by default.
    max_memory : int, optional
        Bytes of GPU memory for copies of rows stored in host memory, which are processed in chunks
        of at least 32 rows. The result does not depend on it. It has no effect on the CPU, where
        nothing is copied.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        See :mod:`rlmba.kernels`. A GPU takes up to 64 modalities and reads half precision without
        conversion.

    Returns
    -------
    array [N] or DirichletVariance
        For one array, its variances. For a sequence, ``fused`` [N] of alpha_f = 1 + sum_m w_m
        (alpha_m - 1) and ``modality`` [N, M] of each alpha_m, computed in one pass over memory.
        Values lie in [0, 1 / (4 C)), are 0 for C = 1, and have the computation dtype.

    Raises
    ------
    ShapeError, UsageError
        If the shapes do not agree, or an option or the [M] weights are invalid.
    NonFiniteError
        If a number is NaN or infinite; ``.row`` is the first invalid row.
    DataError
        If an alpha is not positive, or a row of [N, M] weights is not on the simplex; the message
        names the row.

    Notes
    -----
    The sum over c of Eq 4 is (1 - sum_c p_c^2) / (alpha_0 + 1). It is computed as 2 e2 / (alpha_0^2
    (alpha_0 + 1)) with e2 = sum_{b < c} alpha_b alpha_c. No terms cancel, so the error is relative
    to the result (float32: below 1e-5, typically 4e-7) even for a row that is nearly certain.

    Where exp(x / T) exceeds the range of float64, the variance is 0. The exact value is below
    1e-307.

    Examples
    --------
    >>> import numpy as np
    >>> dirichlet_variance(np.array([[1.0, 1.0], [3.0, 1.0]]))
    array([0.08333333, 0.0375    ])
    """
    single = not isinstance(x, (list, tuple))
    xs: Sequence[Any] = x if isinstance(x, (list, tuple)) else [x]
    if single and weights is not None:
        raise UsageError("weights: expected a sequence of modalities with them, got one array")
    name = dispatch.choose(
        "dirichlet_variance",
        backend,
        evidential.device_of(xs),
        ("cuda", "triton", "cpu", "reference"),
    )
    options = {"single": single, "kind": kind, "evidence": evidence, "temperature": temperature}
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.dirichlet_variance import on_device

        found = on_device.dirichlet_variance(xs, weights, name, max_memory=max_memory, **options)
        return found[0] if single else DirichletVariance(*found)
    inputs = evidential.gather(xs, **options)
    if not single:
        m = len(xs)
        w = np.full(m, 1.0 / m) if weights is None else weights
        inputs = replace(inputs, weights=evidential.simplex_weights(w, inputs.rows, m))
    modality, fused = (_cpu if name == "cpu" else reference.dirichlet_variance)(inputs)
    if single:
        return arrays.like(modality[:, 0], xs[0])
    assert fused is not None
    return DirichletVariance(arrays.like(fused, xs[0]), arrays.like(modality, xs[0]))
