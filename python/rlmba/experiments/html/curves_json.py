"""The curves of groups as JSON for the chart of the page."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.experiments.curves import Array, Group
from rlmba.experiments.palette import COLOURS, other_colour, strategy_colour

__all__ = ["curves_json", "line_names"]

_METRICS = {
    "top1": "Top-1 accuracy",
    "top1_macro": "macro Top-1 accuracy",
    "f1": "F1",
    "auroc": "AUROC",
    "nll": "negative log-likelihood (nats)",
    "ece": "expected calibration error",
    "contributions": "Shapley contribution",
    "weights": "AMCB weight (scoring)",
    "fusion_weights": "weight in the fusion",
    "fairness_gap": "fairness gap (best minus worst modality)",
    "balance": "balance of the contributions",
    "raw_reward": "reward",
}
"""Metrics of the chart, in this order; others follow under their own names."""

Known = NDArray[np.bool_]

_PER_MODALITY = ("contributions", "weights", "fusion_weights")
_PER_ROUND = ("fairness_gap", "balance", "raw_reward")


def line_names(groups: Sequence[Group]) -> list[str]:
    """Give each group's line a short name that is unique within its data set and fusion.

    A name consists of the strategy, the predictor if the groups have several, and the variant. Equal names
    are numbered.

    Returns
    -------
    list of str [len(groups)]
    """
    predictors = {group.predictor for group in groups}
    seen: Counter[tuple[str, str, str]] = Counter()
    names = []
    for group in groups:
        name = f"{group.strategy} ({group.predictor})" if len(predictors) > 1 else group.strategy
        if group.variant:
            name += f" [{group.variant}]"
        seen[group.dataset, group.fusion, name] += 1
        number = seen[group.dataset, group.fusion, name]
        names.append(name if number == 1 else f"{name} #{number}")
    return names


def curves_json(
    groups: Sequence[Group], datasets: Sequence[str], fusions: Sequence[str]
) -> dict[str, Any]:
    """Reduce groups to means and standard deviations over seeds, as JSON values.

    A point that is not finite in all seeds is null, because a mean over fewer seeds would not be
    comparable. Means have five significant digits, standard deviations (n - 1) have three.

    Parameters
    ----------
    groups : sequence of Group
        ``metrics`` and the figures of rounds are optional.
    datasets, fusions : sequence of str
        All names in the groups, which refer to them by position.

    Returns
    -------
    dict
        ``datasets``, ``fusions``, ``metrics`` (labels by name), ``names`` of lines, ``groups``.

    Raises
    ------
    UsageError
        If a figure of a group does not have one value for each seed and number of labels.
    """
    names = line_names(groups)
    distinct = list(dict.fromkeys(names))
    written: list[dict[str, Any]] = [
        {
            "dataset": datasets.index(group.dataset),
            "fusion": fusions.index(group.fusion),
            "name": distinct.index(name),
            "on": group.on,
            "seeds": list(group.seeds),
            "labels": [int(n) for n in group.labels],
            "curves": _curves(group),
        }
        for group, name in zip(groups, names, strict=True)
    ]
    found = dict.fromkeys(metric for group in written for metric in group["curves"])
    known = [metric for metric in _METRICS if metric in found]
    return {
        "datasets": list(datasets),
        "fusions": list(fusions),
        "metrics": {m: _METRICS.get(m, m) for m in dict.fromkeys([*known, *found])},
        "names": distinct,
        "colours": _colours(groups, names),
        "groups": written,
    }


def _colours(groups: Sequence[Group], names: Sequence[str]) -> list[int]:
    """The place in the palette of each distinct name: its strategy's color, as in the figures."""
    strategies = {name: group.strategy for group, name in zip(groups, names, strict=True)}
    numbers = itertools.count()
    colours = {
        s: strategy_colour(s) or other_colour(next(numbers))
        for s in dict.fromkeys(strategies.values())
    }
    return [COLOURS.index(colours[s]) for s in strategies.values()]


def _curves(group: Group) -> dict[str, dict[str, Any]]:
    """Means and standard deviations by metric and head ("" if it has none), without unknown ones."""
    curves: dict[str, dict[str, Any]] = {}
    for metric, head, values in _figures(group):
        expected = (len(group.seeds), len(group.labels))
        if values.shape != expected:
            raise UsageError(
                f"{group.dataset}, {group.name}: expected {metric} of {head or 'the run'} with shape "
                f"{expected} (seeds, numbers of labels), got {values.shape}"
            )
        known: Known = np.logical_and.reduce(np.isfinite(values), axis=0)
        if not known.any():
            continue
        where = np.where(known, values, 0.0)
        curve = {"mean": _numbers(where.mean(axis=0), known, 5)}
        if len(values) > 1:
            curve["sd"] = _numbers(where.std(axis=0, ddof=1), known, 3)
        curves.setdefault(metric, {})[head] = curve
    return curves


def _figures(group: Group) -> Iterator[tuple[str, str, Array]]:
    metrics: Mapping[str, Mapping[str, Array]] = getattr(group, "metrics", None) or {
        head: {"top1": group.top1[head], "top1_macro": group.top1_macro[head]}
        for head in group.top1
    }
    for head, by_metric in metrics.items():
        for metric, values in by_metric.items():
            yield metric, head, np.asarray(values, dtype=np.float64)
    for metric in _PER_MODALITY:
        for modality, values in getattr(group, metric).items():
            yield metric, modality, np.asarray(values, dtype=np.float64)
    for metric in _PER_ROUND:
        if getattr(group, metric, None) is not None:
            yield metric, "", np.asarray(getattr(group, metric), dtype=np.float64)


def _numbers(values: Array, known: Known, digits: int) -> list[float | None]:
    return [
        float(f"{value:.{digits}g}") if is_known else None
        for value, is_known in zip(values, known, strict=True)
    ]
