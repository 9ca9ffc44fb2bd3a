"""Curves of baseline runs for the relative reward (Eq 8)."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

from rlmba.config import RunConfig
from rlmba.errors import UsageError
from rlmba.loop.store import read_run

__all__ = ["baseline_curves"]

_PROTOCOL = ("dataset", "data", "fusion", "predictor", "epochs", "validation_fraction")


def baseline_curves(config: RunConfig) -> list[dict[int, float]]:
    """Top-1 on V by number of labels, one curve a baseline strategy, averaged over its runs.

    Parameters
    ----------
    config : RunConfig
        Resolved; ``reward.curves`` names the run folders.

    Raises
    ------
    UsageError
        If a run followed another protocol than ``config``.
    RunFolderError
        If a folder is no run.
    """
    by_strategy: dict[str, list[dict[int, float]]] = defaultdict(list)
    for path in config.reward.curves:
        view = read_run(path)
        for key in _PROTOCOL:
            ours, theirs = getattr(config, key), getattr(view.config, key)
            if ours != theirs:
                raise UsageError(
                    f"reward.curves: {path} was run with {key}={theirs}, this run has {key}={ours}; "
                    "rerun the baseline under the same protocol"
                )
        by_strategy[view.config.strategy].append(
            {r.labels: r.validation.mm.top1 for r in view.records}
        )
    curves = []
    for runs in by_strategy.values():
        shared = set.intersection(*(set(c) for c in runs))
        curves.append({n: fmean(c[n] for c in runs) for n in sorted(shared)})
    return curves
