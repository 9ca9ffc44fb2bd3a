"""The numbers that the paper prints, which tables show next to the measured ones.

Accuracies are in [0, 1], seconds are wall time of one round on one workstation GPU.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BUDGET", "DATASETS", "SECONDS", "TABLE1", "TABLE2", "seconds_of", "top1_of"]

DATASETS = ("food101", "kineticssound", "vggsound")
"""The data sets of the paper's Tables 1 and 2, in their order."""

BUDGET = 3_000
"""Number of labels in the paper's Tables 1 and 2."""

TABLE1: Mapping[str, tuple[float, float, float]] = {
    "random": (0.8470, 0.4650, 0.2173),
    "entropy": (0.8480, 0.4650, 0.2043),
    "gcnal": (0.8510, 0.4600, 0.2033),
    "coreset": (0.8422, 0.4600, 0.2013),
    "deepfool": (0.8500, 0.4680, 0.1973),
    "bald": (0.8450, 0.4550, 0.1993),
    "badge": (0.8420, 0.4700, 0.2023),
    "bmmal": (0.8609, 0.4745, 0.2053),
    "rlmba": (0.8650, 0.4841, 0.2223),
}
"""Table 1, multimodal Top-1 by strategy, in the order of :data:`DATASETS`."""

TABLE2: Mapping[str, tuple[float, float, float]] = {
    "bmmal": TABLE1["bmmal"],
    "amcb-only": (0.8621, 0.4771, 0.2059),
    "efda-only": (0.8637, 0.4802, 0.2177),
    "rlmba": TABLE1["rlmba"],
}
"""Table 2, the ablation: Top-1 by variant, in the order of :data:`DATASETS`."""

SECONDS: Mapping[str, Mapping[str, float]] = {
    "gcnal": {
        "predict": 450.15, "select": 700.54, "train": 639.16, "validate": 56.11, "policy": 0.0,
    },
    "deepfool": {"predict": 263.12, "select": 1273.25},
    "bald": {"predict": 519.21, "select": 0.44},
    "badge": {"predict": 162.10, "select": 312.84},
    "bmmal": {"predict": 146.00, "select": 310.12},
    "rlmba": {"predict": 155.41, "select": 33.48, "policy": 0.23},
}  # fmt: skip
"""Table 3, seconds of a round on Food101 by strategy and stage; stages that it does not list are absent."""


def _own_name(dataset: str) -> str:
    """The data set's registered name: ``food101:folder`` is ``food101``."""
    return dataset.split(":", 1)[0]


def top1_of(dataset: str, strategy: str, *, ablation: bool = False) -> float | None:
    """Top-1 at :data:`BUDGET` labels in the paper; None if it prints none.

    Parameters
    ----------
    dataset : str
        Its name in reports; a colon and what follows it are ignored.
    strategy : str
    ablation : bool
        Whether to read Table 2 instead of Table 1.
    """
    row = (TABLE2 if ablation else TABLE1).get(strategy)
    name = _own_name(dataset)
    return None if row is None or name not in DATASETS else row[DATASETS.index(name)]


def seconds_of(dataset: str, strategy: str, stage: str) -> float | None:
    """Seconds per round of a stage in the paper; None if it prints none."""
    if _own_name(dataset) != "food101":
        return None
    return SECONDS.get(strategy, {}).get(stage)
