"""What a selection will cost, before it runs: one model of each strategy's work and memory.

A strategy's work is counted in three currencies (:class:`Work`), each worth seconds on a machine
(:class:`Machine`) that is measured in a fraction of a second. Counts come from the algorithms; the few
constants in them were fitted to measured runs, and tests hold estimates against real time and memory.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax

from rlmba import kernels
from rlmba.strategies.base import Strategy

__all__ = ["COSTS", "Estimate", "Machine", "Work", "Workload", "estimate", "measure_machine"]


@dataclass(frozen=True)
class Workload:
    """The size of a selection.

    ``samples`` N in the pool, ``batch`` n, ``classes`` C, ``width`` D of the fused features,
    ``modalities`` M, ``labeled`` L, ``passes`` K of dropout, ``itemsize`` bytes of a number, ``made``
    bytes of arrays that must be made on the way in (fused features, the unlabeled rows, logarithms),
    ``incomplete`` samples that lack a modality.
    """

    samples: int
    batch: int
    classes: int = 0
    width: int = 0
    modalities: int = 1
    labeled: int = 0
    passes: int = 0
    itemsize: int = 4
    made: int = 0
    incomplete: int = 0


@dataclass(frozen=True)
class Work:
    """Work and memory of one selection.

    ``products`` floating-point operations in compiled products of matrices and distances, ``moved``
    bytes streamed by compiled row-wise kernels, ``plain`` array elements taken through a NumPy
    softmax and what goes with it, ``memory`` bytes at the peak beyond the arrays passed.
    """

    products: float = 0.0
    moved: float = 0.0
    plain: float = 0.0
    memory: float = 0.0

    def __add__(self, other: Work) -> Work:
        # Parts run one after another; what one allocated may not yet be returned when the next runs.
        return Work(
            self.products + other.products,
            self.moved + other.moved,
            self.plain + other.plain,
            self.memory + other.memory,
        )


@dataclass(frozen=True)
class Machine:
    """What this machine does in a second: product operations, bytes copied, plain elements."""

    products: float
    moved: float
    plain: float


@dataclass(frozen=True)
class Estimate:
    """Seconds of the selection and bytes at its peak beyond the arrays passed."""

    seconds: float
    memory: float


def _pool(w: Workload) -> Work:
    """Checks of the arrays and the ids, whatever the strategy."""
    return Work(
        moved=3.0 * w.made, plain=70.0 * w.samples, memory=w.made + 200.0 * w.samples + 2**20
    )


def _completing(w: Workload, strategy: Strategy) -> Work:
    """Nearest complete samples of incomplete ones: :mod:`rlmba.strategies.absent`."""
    if not w.incomplete or "features" not in strategy.needs:
        return Work()
    bytes_ = float(w.samples) * w.width * w.itemsize
    return Work(
        products=2.0 * w.incomplete * (w.samples - w.incomplete) * w.width,
        moved=6.0 * w.modalities * bytes_,
        memory=2.0 * bytes_ + 2**26,
    )


def _softmax(w: Workload, copies: float) -> Work:
    elements = float(w.samples) * w.classes
    return Work(plain=1.6 * elements, memory=copies * 8 * elements)


def _kmeans(samples: float, batch: int, width: int, steps: int) -> Work:
    # A pass over few centers costs as much as one over about a hundred.
    seeding = 2.0 * (batch + 90)
    return Work(
        products=2.0 * samples * width * (seeding + steps * (batch + 100)),
        memory=128.0 * samples + 24.0 * batch * width + 2**22,
    )


def _option(strategy: Strategy, name: str, default: int) -> int:
    return int(getattr(strategy, name, default))


def _random(w: Workload, strategy: Strategy) -> Work:
    del strategy
    return Work(plain=20.0 * w.samples, memory=100.0 * w.samples)


def _uncertainty(w: Workload, strategy: Strategy) -> Work:
    del strategy
    return _softmax(w, copies=5)


def _rlmba(w: Workload, strategy: Strategy) -> Work:
    scoring = Work(
        moved=4.0 * w.modalities * w.samples * w.classes * w.itemsize,
        plain=10.0 * w.samples + 100.0 * _option(strategy, "kappa", 5) * w.batch,
        memory=60.0 * w.samples * (1 + w.modalities),
    )
    if not getattr(strategy, "efda", True):
        scoring += _softmax(w, copies=5)
    if not getattr(strategy, "diversity", True):
        return scoring
    return scoring + _kmeans(w.samples, w.batch, w.width, _option(strategy, "lloyd_steps", 5))


def _rlmba_x(w: Workload, strategy: Strategy) -> Work:
    candidates = min(w.samples, _option(strategy, "kappa", 5) * w.batch)
    copied = Work(memory=float(candidates) * w.width * w.itemsize)
    clusters = _kmeans(candidates, w.batch, w.width, _option(strategy, "lloyd_steps", 5))
    rule = _softmax(w, copies=5) + copied + clusters
    if getattr(strategy, "policy", "none") == "none":
        return rule
    margins = Work(
        plain=1.6 * float(w.samples) * w.classes * w.modalities + 600.0 * candidates,
        memory=24.0 * w.samples * (1 + w.modalities) + 2000.0 * candidates,
    )
    return rule + margins


def _bald(w: Workload, strategy: Strategy) -> Work:
    del strategy
    return Work(plain=0.13 * w.passes * w.samples * w.classes, memory=100.0 * w.samples)


def _deepfool(w: Workload, strategy: Strategy) -> Work:
    del strategy
    elements = float(w.samples) * w.classes
    return Work(
        products=2.0 * w.classes * w.classes * w.width,
        moved=4.0 * elements * w.itemsize,
        memory=elements + 100.0 * w.samples + 8.0 * w.classes * w.classes,
    )


def _k_center(samples: float, width: int, centers: float) -> Work:
    # Lazy: on features without structure, the hard case, about six distances in ten are computed.
    return Work(products=1.2 * samples * width * centers, memory=100.0 * samples + 2**22)


def _coreset(w: Workload, strategy: Strategy) -> Work:
    del strategy
    return _k_center(w.samples, w.width, w.batch + w.labeled)


def _gcnal(w: Workload, strategy: Strategy) -> Work:
    rows = float(w.samples + w.labeled)
    epochs, hidden = _option(strategy, "epochs", 200), _option(strategy, "hidden", 128)
    training = Work(
        products=4.6 * rows * w.width * hidden * epochs,
        plain=0.2 * rows * hidden * epochs,
        memory=rows * (2.0 * w.width * w.itemsize + 16.0 * hidden),
    )
    column = getattr(strategy, "embedding", "hidden") == "hidden+logit"
    return training + _k_center(w.samples, hidden + column, w.batch + w.labeled)


def _gradients(w: Workload, width: float) -> Work:
    # A pass over few drawn rows costs as much as one over about a hundred.
    return Work(
        products=2.0 * w.samples * (w.classes + width) * (w.batch + 100),
        moved=2.0 * w.samples * (w.classes + width) * w.itemsize,
        memory=32.0 * w.samples + 4.0 * 512 * (w.classes + width) * w.itemsize + 2**22,
    )


def _badge(w: Workload, strategy: Strategy) -> Work:
    del strategy
    return _softmax(w, copies=0.5 * w.itemsize) + _gradients(w, w.width)


def _bmmal(w: Workload, strategy: Strategy) -> Work:
    del strategy
    width = float(w.width) * w.modalities
    contributions = Work(
        products=4.0 * w.samples * w.classes * width,
        plain=0.3 * 2.0 ** min(w.modalities, 8) * w.samples * w.classes,
        memory=float(w.samples) * w.classes * (w.modalities + 1) * w.itemsize
        + 100.0 * w.samples * w.modalities,
    )
    return _softmax(w, copies=0.5 * w.itemsize) + contributions + _gradients(w, width)


COSTS: Mapping[str, Callable[[Workload, Strategy], Work]] = {
    "badge": _badge,
    "bald": _bald,
    "bmmal": _bmmal,
    "coreset": _coreset,
    "deepfool": _deepfool,
    "entropy": _uncertainty,
    "gcnal": _gcnal,
    "margin": _uncertainty,
    "random": _random,
    "rlmba": _rlmba,
    "rlmba-x": _rlmba_x,
}
"""Work by the name of a strategy; of others it is unknown."""


def estimate(
    strategy: Strategy, workload: Workload, machine: Machine | None = None
) -> Estimate | None:
    """Seconds and peak memory of a selection, or None for a strategy without an entry in ``COSTS``.

    Parameters
    ----------
    strategy : Strategy
        With its options, which may change the work.
    workload : Workload
    machine : Machine, optional
        Default: this one, measured now (0.2 s) and remembered.

    Notes
    -----
    The time is that of the query alone, on data in memory, and meant to a factor of about three.
    """
    count = COSTS.get(strategy.name)
    if count is None:
        return None
    m = measure_machine() if machine is None else machine
    w = _pool(workload) + _completing(workload, strategy) + count(workload, strategy)
    seconds = w.products / m.products + w.moved / m.moved + w.plain / m.plain
    return Estimate(seconds=seconds, memory=w.memory)


@functools.cache
def measure_machine() -> Machine:
    """Measure this machine with the threads the kernels may use now; once a process, about 0.2 s."""
    # Fixed numbers: what they are does not matter, only that they are neither equal nor denormal.
    points = np.sin(np.arange(8192 * 256, dtype=np.float32)).reshape(8192, 256)
    source = np.ones(2**22, dtype=np.float32)
    target = np.zeros_like(source)

    def entropies() -> Any:
        lp = log_softmax(np.asarray(points[:4096], dtype=np.float64), axis=1)
        return -(np.exp(lp) * lp).sum(axis=1)

    return Machine(
        products=2.0
        * points.size
        * 256
        / _best(lambda: kernels.min_distance(points, points[:256])),
        moved=2.0 * source.nbytes / _best(lambda: np.copyto(target, source)),
        plain=points.size / 2 / _best(entropies, repeats=2),
    )


def _best(call: Callable[[], Any], repeats: int = 4) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
