"""Apply the normalized affinity graph of a set of rows without building it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.graph_propagate import reference, spec

__all__ = ["GraphPropagate", "graph_propagate"]


class GraphPropagate(NamedTuple):
    """Result of applying a graph to values.

    ``values`` of the input's shape, ``degrees`` float64 [N], and the ``affinity`` that was used.
    """

    values: Any
    degrees: Any
    affinity: str


class Graph(NamedTuple):
    """With the features, all that defines A: 1/|f_i| (0 for a row of zeros), d and the affinity."""

    inverse_norms: NDArray[np.float64]
    degrees: NDArray[np.float64]
    affinity: str

    @property
    def shifted(self) -> bool:
        """Whether the affinity is (1 + cosine) / 2."""
        return self.affinity == "shifted"

    @property
    def inverse_degrees(self) -> NDArray[np.float64]:
        """1/d, and 0 for isolated rows."""
        return reference.inverse(self.degrees)


def build(features: arrays.Float, affinity: str) -> Graph:
    """Compute norms and degrees with the compiled extension: O(N D) time, O(N + D) memory."""
    core = dispatch.require_core()
    n, width = features.shape
    inverse_norms, sums = np.empty(n), np.empty(width)
    bad, nonnegative = core.graph_norms(features, inverse_norms, sums)
    if bad >= 0:
        raise arrays.non_finite(features, "features", bad)
    cosine = np.empty(n)
    core.graph_degrees(features, inverse_norms, sums, cosine)
    limit = spec.ISOLATED * np.sqrt((sums**2).sum())
    cosine[np.abs(cosine) <= limit] = 0
    used = affinity
    if affinity == "auto":
        safe = nonnegative or (cosine[inverse_norms > 0] >= spec.SAFE_MEAN * (n - 1)).all()
        used = "cosine" if safe else "shifted"
    if used == "shifted":
        d = (n - 1 + cosine) / 2
        d[np.abs(d) <= limit] = 0
        return Graph(inverse_norms, d, used)
    return Graph(inverse_norms, cosine, used)


def _cpu(
    features: arrays.Float, values: arrays.Float, affinity: str
) -> tuple[NDArray[Any], NDArray[np.float64], str]:
    core = dispatch.require_core()
    graph = build(features, affinity)
    if values.shape[1]:
        bad = core.first_bad_row(values)
        if bad >= 0:
            raise arrays.non_finite(values, "values", bad)
    out = np.empty(values.shape, dtype=values.dtype)
    core.graph_apply(
        features, graph.inverse_norms, graph.inverse_degrees, graph.shifted, values, out
    )
    return out, graph.degrees, graph.affinity


def check_affinity(affinity: str) -> None:
    """Raise :class:`UsageError` for an unknown affinity."""
    if affinity not in ("auto", *spec.AFFINITIES):
        raise UsageError(
            f"affinity: expected 'auto', 'cosine' or 'shifted', got {affinity!r}; see graph_propagate"
        )


def graph_propagate(
    features: arrays.ArrayLike,
    values: arrays.ArrayLike,
    *,
    affinity: str = "auto",
    backend: str = "auto",
) -> GraphPropagate:
    """Apply the normalized affinity graph of ``features`` to ``values`` without building it.

    With rows normalized to ``x_i = f_i / |f_i|``, affinities S_ij = x_i . x_j off the diagonal and 0 on
    it, and degrees d_j = sum_i S_ij, the result is A H = S diag(1/d) H + H.

    Parameters
    ----------
    features : array [N, D]
        Finite real numbers, D >= 1. N = 0 gives empty results. A row of zeros has cosine 0 to every
        other row.
    values : array [N] or [N, K]
        H: finite real numbers. Where the dtypes differ, the narrower array is converted.
    affinity : {"auto", "cosine", "shifted"}
        "cosine" is the published formula, which is meant for nonnegative features. With signed
        features, degrees may be 0 or negative, and the result is of little use. "shifted" is S_ij =
        (1 + x_i . x_j) / 2, which is never negative. "auto" is "cosine" where no feature is
        negative or every nonzero row has a mean cosine of at least 0.01 to the others, and
        "shifted" otherwise.
    backend : {"auto", "triton", "cpu", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    GraphPropagate
        ``values`` of the input's shape in the computation dtype; ``degrees`` float64 [N];
        ``affinity`` "cosine" or "shifted". A row of degree 0 (within 1e-12 of ``|sum_i x_i|``; always
        for N = 1) is isolated: other rows receive nothing from it.

    Raises
    ------
    ShapeError
        If the shapes do not agree or there are no columns.
    UsageError
        If the affinity is unknown.
    BackendError
        If features and values are on different devices, or the backend cannot serve them.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such row of the array named in the
        message.

    Notes
    -----
    Apart from its diagonal, S has rank D (D + 1 if shifted). With S' = X X^T, A H = X (X^T (H/d)) -
    diag(S') H/d + H. This takes O(N D K) time and O(N + D min(K, 128)) memory in addition to input
    and result. Norms and degrees are summed in float64. Products are computed in slices in the
    computation dtype; the slices are added in float64, in an order that does not depend on the
    number of threads. On a GPU everything is summed in float64, and features in host memory that do
    not fit are processed in chunks. During CUDA graph capture the host cannot wait for results, so
    "auto" is refused and values are not checked.

    References
    ----------
    Caramalau, Bhattarai and Kim, "Sequential graph convolutional network for active learning",
    CVPR 2021, Eq 1-2.

    Examples
    --------
    >>> import numpy as np
    >>> f = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    >>> result = graph_propagate(f, np.array([1.0, 2.0, 4.0]))
    >>> result.values, result.degrees, result.affinity
    (array([3., 3., 4.]), array([1., 1., 0.]), 'cosine')
    """
    device = arrays.device_of(features)
    name = dispatch.choose("graph_propagate", backend, device, ("triton", "cpu", "reference"))
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.graph_propagate import on_device

        check_affinity(affinity)
        return GraphPropagate(*on_device.graph_propagate(features, values, affinity))
    implementation = _cpu if name == "cpu" else reference.graph_propagate
    distances.require_same_device(values, "values", features, "features")
    check_affinity(affinity)
    f = distances.as_rows(features, "features")
    h = arrays.as_float(values, "values", ndim=(1, 2))
    if h.shape[0] != f.shape[0]:
        raise ShapeError(f"values: expected {f.shape[0]} rows as in features, got shape {h.shape}")
    dtype = np.result_type(f, h)
    columns = h[:, None] if h.ndim == 1 else h
    out, degrees, used = implementation(
        f.astype(dtype, copy=False), columns.astype(dtype, copy=False), affinity
    )
    return GraphPropagate(
        arrays.like(out.reshape(h.shape).astype(dtype, copy=False), values),
        arrays.like(degrees, values),
        used,
    )
