"""Distance of each sample to the decision boundary of a linear head."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays
from rlmba.kernels.deepfool_distance import reference

__all__ = ["DeepFoolDistance", "deepfool_distance"]


class DeepFoolDistance(NamedTuple):
    """Nearest other class: ``distances`` float64 [N] to it and ``classes`` int64 [N]."""

    distances: Any
    classes: Any


def _cpu(
    logits: arrays.Float, weight: arrays.Float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    n, c = logits.shape
    distances = np.empty(n)
    classes = np.empty(n, dtype=np.int64)
    norms = np.empty((c, c))
    bad = dispatch.require_core().deepfool_distance(logits, weight, norms, distances, classes)
    if bad >= 0:
        raise arrays.non_finite(logits, "logits", bad)
    return distances, classes


def _scaled(weight: arrays.Float) -> tuple[arrays.Float, float]:
    """Divide the weight by a power of two so that no square overflows; return both."""
    largest = float(np.abs(weight).max(initial=0.0))
    if weight.dtype == np.float32 or largest == 0 or 1e-100 < largest < 1e100:
        return weight, 1.0
    scale = float(2.0 ** np.frexp(largest)[1])
    return weight / scale, scale


def require_shapes(logits: tuple[int, ...], weight: tuple[int, ...]) -> None:
    """Raise :class:`ShapeError` unless the shapes are [N, C] and [C, D] with C >= 1 and D >= 1."""
    if logits[1] < 1 or weight[0] != logits[1] or weight[1] < 1:
        raise ShapeError(
            "expected logits [N, C] and a weight [C, D] with C >= 1 and D >= 1, "
            f"got {logits} and {weight}"
        )


def deepfool_distance(
    logits: arrays.ArrayLike,
    weight: arrays.ArrayLike,
    *,
    max_memory: int | None = None,
    backend: str = "auto",
) -> DeepFoolDistance:
    """The smallest change of a linear head's input that changes its class, in closed form.

    For f = W z + b and y = argmax f(z): min over k != y of (f_y - f_k) / ||w_k - w_y||_2, the l2 distance
    from z to the nearest boundary between y and another class.

    Parameters
    ----------
    logits : array [N, C]
        Finite values f(z) of each sample, C >= 1. Rows may be strided.
    weight : array [C, D]
        Finite weight W. The bias is already part of the logits.
    max_memory : int, optional
        Bytes of GPU memory for copies of logits stored in host memory. The result does not depend
        on it. It has no effect on the CPU.
    backend : {"auto", "cpu", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    DeepFoolDistance
        ``distances`` float64 [N], >= 0, in the unit of z, and ``classes`` int64 [N], the class k
        across that boundary. Ties go to the lowest class, also for y. If y ties with another class,
        the distance is 0. A class with the same weights as y can never overtake it and is ignored
        unless it ties. Where no class is left, including C = 1, or where the distance exceeds the
        range of float64, the distance is infinite and the class is -1.

    Raises
    ------
    ShapeError, UsageError
        If the shapes of the arrays do not agree, or an option is invalid.
    NonFiniteError
        If a logit or weight is NaN or infinite; ``.row`` is the first such row.

    Notes
    -----
    For a linear classifier, DeepFool's iteration reaches this point in one step. The norms are
    computed in float64 from the differences w_k - w_y themselves. Their table of C x C numbers is
    the only memory used in addition to the results. O(C^2 D + N C) time.

    References
    ----------
    Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural
    networks", CVPR 2016, section 3; Ducoffe and Precioso, "Adversarial active learning for deep networks:
    a margin based approach", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> weight = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0]])
    >>> z = np.array([[2.0, 0.0], [1.0, 1.0]])
    >>> found = deepfool_distance(z @ weight.T, weight)
    >>> found.distances.round(3), found.classes
    (array([0.632, 0.632]), array([2, 0]))
    """
    name = dispatch.choose(
        "deepfool_distance",
        backend,
        "cuda" if "cuda" in (arrays.device_of(logits), arrays.device_of(weight)) else "cpu",
        ("triton", "cpu", "reference"),
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.deepfool_distance import on_device

        return DeepFoolDistance(*on_device.deepfool_distance(logits, weight, max_memory))
    f = arrays.as_float(logits, "logits", ndim=2)
    w = arrays.as_float(weight, "weight", ndim=2)
    require_shapes(f.shape, w.shape)
    arrays.require_finite(w, "weight")
    dtype = np.result_type(f, w)
    w, scale = _scaled(w.astype(dtype, copy=False))
    run = _cpu if name == "cpu" else reference.deepfool_distance
    distances, classes = run(f.astype(dtype, copy=False), w)
    with np.errstate(over="ignore"):
        distances /= scale
    classes[np.isinf(distances)] = -1
    return DeepFoolDistance(arrays.like(distances, logits), arrays.like(classes, logits))
