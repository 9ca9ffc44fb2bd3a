"""Estimates of the time and memory of a selection before it runs: a model of each strategy's work.

Work is counted in three units (:class:`Work`). A short measurement of the machine (:class:`Machine`)
converts each of them to seconds. The counts follow from the algorithms; their few constants were fitted
to measured runs, and tests compare estimates with real time and memory.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from rlmba import kernels
from rlmba.method.herding import TARGETS
from rlmba.method.input_space import COMPONENTS
from rlmba.plugins import origin
from rlmba.strategies.base import Strategy

if TYPE_CHECKING:
    from rlmba.strategies.dropquery import DropQuery
    from rlmba.strategies.gcnal import Gcnal
    from rlmba.strategies.probcover import ProbCover
    from rlmba.strategies.rlmba import Rlmba
    from rlmba.strategies.rlmba_h import RlmbaH
    from rlmba.strategies.rlmba_x import RlmbaX
    from rlmba.strategies.tcm import Tcm
    from rlmba.strategies.typiclust import TypiClust

__all__ = ["COSTS", "Estimate", "Machine", "Work", "Workload", "estimate", "measure_machine"]


_LLOYD_STEPS = 25
"""Lloyd steps, on average, until no sample changes its cluster."""


@dataclass(frozen=True)
class Workload:
    """The size of a selection.

    ``samples`` N in the pool, ``batch`` n, ``classes`` C, ``width`` D of the fused features,
    ``modalities`` M, ``labeled`` L, ``passes`` K of dropout, ``itemsize`` the bytes of a number,
    ``made`` the bytes of arrays that are made from the input (fused features, the unlabeled rows,
    logarithms), ``incomplete`` the number of samples that lack a modality, ``input_width`` the sum of the
    widths of the modalities' input features (0: as the fused ones).
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
    input_width: int = 0


@dataclass(frozen=True)
class Work:
    """Work and memory of one selection.

    ``products``: floating-point operations in compiled matrix products and distances. ``moved``: bytes
    read by compiled row-wise kernels. ``plain``: array elements processed by a NumPy softmax and
    similar operations. ``memory``: bytes at the peak, in addition to the arrays passed.
    """

    products: float = 0.0
    moved: float = 0.0
    plain: float = 0.0
    memory: float = 0.0

    def __add__(self, other: Work) -> Work:
        # Memory adds up as well: what one part allocated may not be freed when the next one runs.
        return Work(
            self.products + other.products,
            self.moved + other.moved,
            self.plain + other.plain,
            self.memory + other.memory,
        )


@dataclass(frozen=True)
class Machine:
    """What this machine does per second: product operations, bytes copied, plain elements."""

    products: float
    moved: float
    plain: float


@dataclass(frozen=True)
class Estimate:
    """Seconds of the selection, and bytes at its peak in addition to the arrays passed."""

    seconds: float
    memory: float


def _pool(w: Workload) -> Work:
    """Checks of the arrays and the ids, for every strategy."""
    return Work(
        moved=3.0 * w.made, plain=70.0 * w.samples, memory=w.made + 200.0 * w.samples + 2**20
    )


def _completing(w: Workload, strategy: Strategy) -> Work:
    """Completing incomplete samples from the nearest others: :mod:`rlmba.strategies.absent`."""
    if not w.incomplete or not strategy.needs & {"features", "input_features"}:
        return Work()
    bytes_ = float(w.samples) * w.width * w.itemsize
    return Work(
        products=2.0 * w.incomplete * (w.samples - w.incomplete) * w.width,
        moved=6.0 * w.modalities * bytes_,
        memory=2.0 * bytes_ + 2**26,
    )


def _of_inputs(w: Workload, strategy: Strategy) -> tuple[Workload, Work]:
    """Preparing input features for a strategy that needs them, and the workload with their width."""
    if "input_features" not in strategy.needs:
        return w, Work()
    rows = float(w.samples + w.labeled)
    given = w.input_width or w.width
    width = min(given, COMPONENTS * w.modalities)
    # The input is read four times in float64, and once more for the covariance of a wide modality.
    preparing = Work(
        products=2.0 * rows * given * (given / w.modalities if given > width else 1),
        moved=64.0 * rows * given,
        memory=8.0 * rows * width + 3 * 2**26,
    )
    return replace(w, width=width), preparing


def _softmax(w: Workload, copies: float) -> Work:
    elements = float(w.samples) * w.classes
    return Work(plain=1.6 * elements, memory=copies * 8 * elements)


def _kmeans(samples: float, batch: int, width: int, steps: int) -> Work:
    # A pass over a few centers takes as long as one over about a hundred.
    seeding = 2.0 * (batch + 90)
    return Work(
        products=2.0 * samples * width * (seeding + steps * (batch + 100)),
        memory=128.0 * samples + 24.0 * batch * width + 2**22,
    )


def _random(w: Workload, _: Strategy) -> Work:
    return Work(plain=20.0 * w.samples, memory=100.0 * w.samples)


def _uncertainty(w: Workload, _: Strategy) -> Work:
    return _softmax(w, copies=5)


def _rlmba(w: Workload, strategy: Rlmba) -> Work:
    scoring = Work(
        moved=4.0 * w.modalities * w.samples * w.classes * w.itemsize,
        plain=10.0 * w.samples + 100.0 * strategy.kappa * w.batch,
        memory=60.0 * w.samples * (1 + w.modalities),
    )
    if not strategy.efda:
        scoring += _softmax(w, copies=5)
    elif strategy.uncertainty != "variance":
        measures = 2 if strategy.uncertainty == "vacuity+conflict" else 1
        each = _softmax(w, copies=2.0 * w.modalities + 3.0)
        scoring += replace(each, plain=3.0 * measures * w.modalities * each.plain)
    if not strategy.diversity:
        return scoring
    return scoring + _kmeans(w.samples, w.batch, w.width, strategy.lloyd_steps)


def _rlmba_x(w: Workload, strategy: RlmbaX) -> Work:
    candidates = min(w.samples, strategy.kappa * w.batch)
    copied = Work(memory=float(candidates) * w.width * w.itemsize)
    clusters = _kmeans(candidates, w.batch, w.width, strategy.lloyd_steps)
    rule = _softmax(w, copies=5) + copied + clusters
    if strategy.policy == "none":
        return rule
    margins = Work(
        plain=1.6 * float(w.samples) * w.classes * w.modalities + 600.0 * candidates,
        memory=24.0 * w.samples * (1 + w.modalities) + 2000.0 * candidates,
    )
    return rule + margins


def _herding(samples: float, targets: float, batch: float, labeled: float, width: float) -> Work:
    # One pass for the first gains; then 3 to 80 rows are evaluated again for a pick.
    rows = samples + labeled + 40.0 * batch
    return Work(
        products=2.0 * targets * rows * width,
        plain=0.5 * targets * rows / 8,
        memory=200.0 * samples + 2**24,
    )


def _rlmba_h(w: Workload, strategy: RlmbaH) -> Work:
    batch = w.batch * (1 if strategy.policy == "none" else strategy.kappa)
    targets = min(w.samples, TARGETS)
    return _softmax(w, copies=5) + _herding(w.samples, targets, batch, w.labeled, w.width)


def _bald(w: Workload, _: Strategy) -> Work:
    return Work(plain=0.13 * w.passes * w.samples * w.classes, memory=100.0 * w.samples)


def _deepfool(w: Workload, _: Strategy) -> Work:
    elements = float(w.samples) * w.classes
    return Work(
        products=2.0 * w.classes * w.classes * w.width,
        moved=4.0 * elements * w.itemsize,
        memory=elements + 100.0 * w.samples + 8.0 * w.classes * w.classes,
    )


def _k_center(samples: float, width: int, centers: float) -> Work:
    # Lazy evaluation: on features without structure, the worst case, about 60 % are computed.
    return Work(products=1.2 * samples * width * centers, memory=100.0 * samples + 2**22)


def _coreset(w: Workload, _: Strategy) -> Work:
    return _k_center(w.samples, w.width, w.batch + w.labeled)


def _gcnal(w: Workload, strategy: Gcnal) -> Work:
    rows = float(w.samples + w.labeled)
    epochs, hidden = strategy.epochs, strategy.hidden
    training = Work(
        products=4.6 * rows * w.width * hidden * epochs,
        plain=0.2 * rows * hidden * epochs,
        memory=rows * (2.0 * w.width * w.itemsize + 16.0 * hidden),
    )
    column = strategy.embedding == "hidden+logit"
    return training + _k_center(w.samples, hidden + column, w.batch + w.labeled)


def _gradients(w: Workload, width: float) -> Work:
    # A pass over a few drawn rows takes as long as one over about a hundred.
    return Work(
        products=2.0 * w.samples * (w.classes + width) * (w.batch + 100),
        moved=2.0 * w.samples * (w.classes + width) * w.itemsize,
        memory=32.0 * w.samples + 4.0 * 512 * (w.classes + width) * w.itemsize + 2**22,
    )


def _badge(w: Workload, _: Strategy) -> Work:
    return _softmax(w, copies=0.5 * w.itemsize) + _gradients(w, w.width)


def _bmmal(w: Workload, _: Strategy) -> Work:
    width = float(w.width) * w.modalities
    contributions = Work(
        products=4.0 * w.samples * w.classes * width,
        plain=0.3 * 2.0 ** min(w.modalities, 8) * w.samples * w.classes,
        memory=float(w.samples) * w.classes * (w.modalities + 1) * w.itemsize
        + 100.0 * w.samples * w.modalities,
    )
    return _softmax(w, copies=0.5 * w.itemsize) + contributions + _gradients(w, width)


def _maxherding(w: Workload, _: Strategy) -> Work:
    rows = float(w.samples + w.labeled)
    unit = Work(moved=10.0 * rows * w.width * w.itemsize, memory=3.0 * rows * w.width * w.itemsize)
    return unit + _herding(w.samples, w.samples, w.batch, w.labeled, w.width)


def _uherding(w: Workload, strategy: Strategy) -> Work:
    radius = Work(plain=0.3 * w.labeled**2 * w.width, memory=32.0 * w.labeled * w.width)
    return _softmax(w, copies=5) + radius + _maxherding(w, strategy)


def _typiclust(w: Workload, strategy: TypiClust) -> Work:
    rows = w.samples + w.labeled
    clusters = min(w.labeled + w.batch, strategy.max_clusters)
    # One neighbor search in a cluster of average size for each sample of the batch; most of its time is
    # the overhead of the call.
    search = Work(products=6.0 * w.batch * (rows / clusters) ** 2 * w.width, plain=2e4 * w.batch)
    copies = Work(
        moved=10.0 * rows * w.width * w.itemsize, memory=3.0 * rows * w.width * w.itemsize
    )
    return _kmeans(rows, clusters, w.width, _LLOYD_STEPS) + search + copies


def _tcm(w: Workload, strategy: Tcm) -> Work:
    first = w.labeled < strategy.labels_per_class * w.classes
    return _typiclust(w, strategy) if first else _softmax(w, copies=5)


def _probcover(w: Workload, strategy: ProbCover) -> Work:
    rows = float(w.samples + w.labeled)
    # Every sample is compared with all others about twice at most, in float64.
    cover = Work(
        products=8.0 * w.samples**2 * w.width,
        plain=0.5 * w.samples**2,
        moved=20.0 * rows * w.width * w.itemsize,
        memory=4.0 * rows * w.width * w.itemsize + 8.0 * w.samples * w.width + 2**27,
    )
    if strategy.delta is not None:
        return cover
    classes = min(w.classes, w.samples)
    radius = Work(products=2.0 * rows**2 * w.width * (1 - 1 / max(classes, 1)))
    return cover + _kmeans(rows, classes, w.width, _LLOYD_STEPS) + radius


def _dropquery(w: Workload, strategy: DropQuery) -> Work:
    passes = Work(
        products=4.0 * strategy.passes * w.samples * w.width * w.classes,
        plain=0.3 * strategy.passes * w.samples * w.width,
        memory=2.0 * w.samples * w.width * w.itemsize + 2**25,
    )
    return passes + _kmeans(w.samples, w.batch, w.width, _LLOYD_STEPS)


def _alfa_mix(w: Workload, _: Strategy) -> Work:
    ratios = Work(
        products=8.0 * w.samples * w.classes * (w.classes + w.width),
        plain=5.0 * w.samples * w.classes,
        moved=10.0 * w.samples * w.width * w.itemsize,
        memory=60.0 * w.samples * w.classes + 2.0 * w.samples * w.width * (w.itemsize + 8),
    )
    # The number of candidates depends on the model; a few times the batch is usual.
    return ratios + _kmeans(min(w.samples, 4 * w.batch), w.batch, w.width, _LLOYD_STEPS)


def _galaxy(w: Workload, _: Strategy) -> Work:
    rows = float(w.samples + w.labeled)
    orders = Work(
        plain=8.0 * rows * min(w.batch, w.classes) + 20.0 * w.batch * (w.labeled + w.batch),
        memory=16.0 * rows * min(w.batch, w.classes) + 200.0 * rows,
    )
    return _softmax(w, copies=5) + orders


COSTS: Mapping[str, Callable[[Workload, Any], Work]] = {
    "alfa-mix": _alfa_mix,
    "badge": _badge,
    "bald": _bald,
    "bmmal": _bmmal,
    "coreset": _coreset,
    "deepfool": _deepfool,
    "dropquery": _dropquery,
    "entropy": _uncertainty,
    "galaxy": _galaxy,
    "gcnal": _gcnal,
    "margin": _uncertainty,
    "maxherding": _maxherding,
    "probcover": _probcover,
    "random": _random,
    "rlmba": _rlmba,
    "rlmba-h": _rlmba_h,
    "rlmba-x": _rlmba_x,
    "tcm": _tcm,
    "typiclust": _typiclust,
    "uherding": _uherding,
}
"""Work by the name of a strategy of this package; that of others is unknown."""


def estimate(
    strategy: Strategy, workload: Workload, machine: Machine | None = None
) -> Estimate | None:
    """Seconds and peak memory of a selection, or None for a strategy without an entry in ``COSTS``.

    Parameters
    ----------
    strategy : Strategy
        Its options may change the work.
    workload : Workload
    machine : Machine, optional
        Default: this machine, measured once (0.2 s).

    Notes
    -----
    The time is that of the query alone, on data in memory, and accurate to a factor of about three.
    """
    count = COSTS.get(strategy.name)
    if count is None or origin(type(strategy)):
        return None
    m = measure_machine() if machine is None else machine
    size, inputs = _of_inputs(workload, strategy)
    w = _pool(workload) + inputs + _completing(size, strategy) + count(size, strategy)
    seconds = w.products / m.products + w.moved / m.moved + w.plain / m.plain
    return Estimate(seconds=seconds, memory=w.memory)


@functools.cache
def measure_machine() -> Machine:
    """Measure this machine with the threads that kernels may use; once per process, about 0.2 s."""
    # Any numbers serve, as long as they are not all equal and not denormal.
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
