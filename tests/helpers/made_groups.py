"""Groups with given curves, as if they were read from runs."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings

from rlmba.experiments import Group

LABELS = (20, 40, 80)

at_any_speed = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""Settings for property tests that may run on a busy machine."""


def make_group(
    strategy,
    top1,
    *,
    dataset="a",
    fusion="uniform",
    predictor="fused",
    seeds=None,
    labels=LABELS,
    variant="",
    on="test",
    **fields,
):
    """Group of the fused head's curves [S, T]; one number per seed stands for a flat curve."""
    top1 = np.asarray(top1, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.int64)
    if top1.ndim == 1:
        top1 = np.repeat(top1[:, None], len(labels), axis=1)
    return Group(
        dataset=dataset,
        strategy=strategy,
        fusion=fusion,
        predictor=predictor,
        variant=variant,
        on=on,
        seeds=tuple(range(len(top1)) if seeds is None else seeds),
        labels=labels,
        top1={"mm": top1},
        top1_macro={"mm": top1},
        contributions={},
        weights={},
        fusion_weights={},
        seconds={},
        **fields,
    )
