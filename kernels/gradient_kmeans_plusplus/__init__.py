"""D^2 sampling of gradient embeddings that are never materialized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.gradient_kmeans_plusplus import reference, spec
from rlmba.kernels.gradient_kmeans_plusplus.checks import check
from rlmba.kernels.gradient_kmeans_plusplus.reference import Factors

__all__ = ["GradientKMeansPlusPlus", "gradient_kmeans_plusplus"]


class GradientKMeansPlusPlus(NamedTuple):
    """Rows drawn by D^2 sampling.

    ``indices`` int64 [n] in drawn order; ``distances`` [n], the Euclidean distance of each drawn
    row to the nearest row drawn before it. For the first row it is the norm.
    """

    indices: Any
    distances: Any


_Drawn = tuple[NDArray[np.int64], NDArray[np.float64]]


def draw(
    factors: Factors,
    n: int,
    seed: int,
    first: int | None,
    *,
    max_memory: int | None = None,
    block_min: int = spec.BLOCK_MIN,
    block_max: int = spec.BLOCK_MAX,
) -> _Drawn:
    """Run the compiled kernel and return positions [n] and squared distances [n]."""
    core = dispatch.require_core()
    scratch = distances.UNBOUNDED
    if max_memory is not None:
        width = sum(z.shape[1] for z in factors.features)
        least = int(core.gradient_scratch(factors.residuals, width))
        scratch = arrays.as_count(max_memory, "max_memory", low=least)
    indices = np.empty(n, dtype=np.int64)
    at_draw = np.empty(n)
    status = core.gradient_kmeans_plusplus(
        factors.residuals,
        list(factors.features),
        factors.scales,
        seed,
        -1 if first is None else first,
        block_min,
        block_max,
        scratch,
        indices,
        at_draw,
    )
    if status == core.kmeans_overflow:
        raise distances.overflow("features")
    if status >= 0:
        require_finite(factors)
        raise distances.overflow("features")  # finite numbers with an infinite product
    return indices, at_draw


def _reference(
    factors: Factors, n: int, seed: int, first: int | None, *, max_memory: int | None
) -> _Drawn:
    del max_memory
    require_finite(factors)
    return reference.gradient_kmeans_plusplus(factors, n, seed, first)


def require_finite(factors: Factors) -> None:
    """Raise :class:`NonFiniteError` for the first row of the first array that is not finite."""
    arrays.require_finite(factors.residuals, "residuals")
    for m, z in enumerate(factors.features):
        name = "features" if len(factors.features) == 1 else f"features[{m}]"
        arrays.require_finite(z, name)
    if factors.scales is not None:
        arrays.require_finite(factors.scales, "scales")


def gradient_kmeans_plusplus(
    residuals: arrays.ArrayLike,
    features: arrays.ArrayLike | Sequence[arrays.ArrayLike],
    n: int,
    *,
    rng: Rng,
    scales: arrays.ArrayLike | None = None,
    first: int | None = None,
    max_memory: int | None = None,
    backend: str = "auto",
) -> GradientKMeansPlusPlus:
    """Draw ``n`` distinct rows of gradient embeddings by exact k-means++ sampling (BADGE, BMMAL).

    Row i is the outer product residuals[i] (x) features[i], whose C x D values are never
    materialized. For a linear head trained with cross-entropy, and ``residuals`` the softmax minus
    the one-hot label, it is the gradient of the loss with respect to the head's weight.

    Parameters
    ----------
    residuals : array [N, C]
        Finite real numbers, C >= 1.
    features : array [N, D], or a sequence of arrays [N, d_m]
        Finite real numbers. A sequence stands for the concatenation of its parts, which is not
        materialized either.
    n : int
        Number of rows to draw, 0 <= n <= N.
    rng : int, numpy.random.Generator, torch.Generator or None
        Source of one 64-bit seed: an int is the seed itself, a generator is advanced by one draw,
        and None takes fresh entropy.
    scales : array [N, M], optional
        Factor of each part in each row, rounded to the computation dtype; 1 by default.
    first : int, optional
        Position of the first row. By default the row with the largest norm, the lowest position on
        ties.
    max_memory : int, optional
        Bytes of scratch memory for packed rows and products, in addition to the input, copies of
        512 rows and 24 bytes per row (compiled backend); on a GPU, bytes of device memory for
        copies of rows stored in host memory. The result does not depend on it.
    backend : {"auto", "triton", "cpu", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    GradientKMeansPlusPlus
        ``indices`` int64 [n], distinct positions in drawn order, and ``distances`` [n] in the
        computation dtype.

    Raises
    ------
    UsageError
        If n is not within 0..N, ``first`` is not within 0..N-1, or ``max_memory`` is too small.
    ShapeError
        If the shapes do not agree, or there are no columns.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such row.
    DataError
        If a squared norm or the sum of squared distances overflows.

    Notes
    -----
    Each row after the first is drawn with probability proportional to D^2, its squared distance to
    the nearest row drawn before. Once every row duplicates a drawn row, the remaining draws are
    uniform without replacement among the rows not drawn yet.

    Rows are proposed in blocks from the distribution at the start of the block and accepted with
    probability D^2 now / D^2 then. This is exactly the distribution of drawing one row at a time. A
    block costs one pass over the data: two matrix products whose entries are multiplied, since <a
    (x) z, b (x) w> = <a, b> <z, w>. These products only preselect pairs, whose distances are then
    computed in float64. D^2 therefore has a relative error of about 1e-13 and is exactly 0 for
    duplicates. Randomness is a pure function of the seed, specified in
    ``kernels/common/d2_sampling.py`` and ``spec.py``. A seed gives the same rows on every backend
    and number of threads, except where a uniform number falls within that rounding error of a
    boundary.

    O(N n (C + D)) time. On a GPU a block takes four launches, and the host waits for the draws once
    or a few times, so the operation cannot be captured in a CUDA graph. Several or scaled parts are
    concatenated there once, which takes N D values.

    References
    ----------
    Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds", ICLR 2020
    (BADGE); Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[0.5, -0.5], [0.5, -0.5], [-0.1, 0.1]])
    >>> z = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> gradient_kmeans_plusplus(a, z, 2, rng=0).indices
    array([0, 2])
    """
    name = dispatch.choose(
        "gradient_kmeans_plusplus",
        backend,
        arrays.device_of(residuals),
        ("triton", "cpu", "reference"),
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.gradient_kmeans_plusplus import on_device

        return GradientKMeansPlusPlus(
            *on_device.gradient_kmeans_plusplus(
                residuals, features, n, rng, scales, first, max_memory
            )
        )
    a, z, s, n, first = check(
        distances.as_rows, arrays.as_float, residuals, features, n, scales, first, max_memory
    )
    seed = seed_from(rng)
    dtype = np.result_type(a, *z)
    if n == 0:
        indices, squared = np.empty(0, dtype=np.int64), np.empty(0)
    else:
        factors = Factors(
            a.astype(dtype, copy=False),
            [part.astype(dtype, copy=False) for part in z],
            None if s is None else np.ascontiguousarray(arrays.cast(s, dtype, "scales")),
        )
        implementation = draw if name == "cpu" else _reference
        indices, squared = implementation(factors, n, seed, first, max_memory=max_memory)
    return GradientKMeansPlusPlus(
        arrays.like(indices, residuals),
        arrays.like(distances.root(squared, dtype), residuals),
    )
