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
    """Of the fused alpha, ``fused`` [N], and of each modality's own, ``modality`` [N, M]."""

    fused: Any
    modality: Any


def _cpu(given: evidential.Modalities) -> tuple[arrays.Float, arrays.Float | None]:
    core = dispatch.require_core()
    kernel = (
        core.dirichlet_variance_f32 if given.dtype == np.float32 else core.dirichlet_variance_f64
    )
    modality = np.empty((given.rows, len(given.arrays)), dtype=given.dtype)
    fused = None if given.weights is None else np.empty(given.rows, dtype=given.dtype)
    bad = kernel(list(given.arrays), given.code, given.temperatures, given.weights, modality, fused)
    if bad >= 0:
        raise given.invalid_row(bad)
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
        One row a sample, one array a modality; C >= 1. Rows may be strided. Arrays of a sequence are
        computed with in the widest of their dtypes.
    kind : {"alpha", "logits"}
        Whether ``x`` holds alpha (> 0) or logits, of which alpha = 1 + evidence(x / temperature).
    temperature : float or [M] floats
        T_m > 0, for logits.
    evidence : {"softplus", "exp", "relu"}
        softplus(z) = log(1 + exp(z)), exp(z), or max(z, 0).
    weights : [M] or [N, M] floats, optional
        w of Eq 3, for a sequence only: >= 0, each row with sum 1 (a modality that a sample lacks has
        weight 0, the rest renormalized). Uniform if not given.
    max_memory : int, optional
        Bytes of GPU memory for copies of rows that lie in host memory, at least 32 rows; they pass through
        it in chunks. The result does not depend on it. On the CPU nothing is copied and it has no effect.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        See :mod:`rlmba.kernels`. A GPU takes up to 64 modalities, and reads half precision as it is.

    Returns
    -------
    array [N] or DirichletVariance
        For one array its variances; for a sequence ``fused`` [N], of alpha_f = 1 + sum_m w_m
        (alpha_m - 1), and ``modality`` [N, M], of each alpha_m, all out of one pass over memory. They
        lie in [0, 1 / (4 C)), are 0 for C = 1, and have the dtype computed with.

    Raises
    ------
    ShapeError, UsageError
        If the arrays, options or [M] weights do not fit.
    NonFiniteError
        If a number is NaN or infinite; ``.row`` is the first row that is not valid.
    DataError
        If an alpha is not positive, or a row of [N, M] weights is not on the simplex; names the row.

    Notes
    -----
    The sum over c of Eq 4 is (1 - sum_c p_c^2) / (alpha_0 + 1). It is computed as 2 e2 / (alpha_0^2
    (alpha_0 + 1)), e2 = sum_{b < c} alpha_b alpha_c, in which nothing cancels: the error is relative to
    the result (float32: below 1e-5, typically 4e-7), also for a row that is nearly certain.

    Evidence saturates: where exp(x / T) leaves the range of float64 the variance is 0, which is what
    the exact value (below 1e-307) rounds to.

    Examples
    --------
    >>> import numpy as np
    >>> dirichlet_variance(np.array([[1.0, 1.0], [3.0, 1.0]]))
    array([0.08333333, 0.0375    ])
    """
    single = not isinstance(x, (list, tuple))
    xs: Sequence[Any] = x if isinstance(x, (list, tuple)) else [x]
    if single and weights is not None:
        raise UsageError("weights: expected a sequence of modalities beside them, got one array")
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
    given = evidential.gather(xs, **options)
    if not single:
        m = len(xs)
        w = np.full(m, 1.0 / m) if weights is None else weights
        given = replace(given, weights=evidential.simplex_weights(w, given.rows, m))
    modality, fused = (_cpu if name == "cpu" else reference.dirichlet_variance)(given)
    if single:
        return arrays.like(modality[:, 0], xs[0])
    assert fused is not None
    return DirichletVariance(arrays.like(fused, xs[0]), arrays.like(modality, xs[0]))
