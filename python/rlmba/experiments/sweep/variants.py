"""A strategy on a data set under a fusion and predictor, and the configuration that its seeds share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba.config import RunConfig, flat, load_config
from rlmba.errors import UsageError
from rlmba.experiments.sweep.ablations import BASELINES
from rlmba.experiments.sweep.schema import DatasetEntry, StrategyEntry, SweepConfig
from rlmba.plugins import short_name
from rlmba.runfolder.code import code_of

if TYPE_CHECKING:
    from rlmba.data import MultimodalDataset

__all__ = [
    "LoadedDatasets",
    "PlannedRun",
    "Variant",
    "code_of_sweep",
    "dataset_name",
    "measured_against",
]

_ROUND0 = "round 0"
# Settings that another part of the comparison decides.
_OWNED = {
    "dataset": "datasets",
    "data": "datasets",
    "data_root": "datasets",
    "strategy": "strategies",
    "label": "strategies",
    "fusion": "fusions",
    "predictor": "predictors",
    "seed": "seeds",
    "round0": "the comparison itself",
}


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes
    ----------
    name : str
        Its folder relative to the comparison's, such as ``cells/digits/amcb/badge/seed0``.
    dataset, model, label : str
        The folder names of the data set, the fusion (with the predictor, unless it is "fused") and the
        strategy.
    config : RunConfig
        Resolved.
    folder : path
        Its run folder, absolute.
    needs : tuple of str
        Names of the runs that must be complete before it starts.
    """

    name: str
    dataset: str
    model: str
    label: str
    config: RunConfig
    folder: Path
    needs: tuple[str, ...] = ()

    @property
    def is_round0(self) -> bool:
        """Whether it is a shared round 0 instead of a run of a strategy."""
        return self.label == _ROUND0

    @property
    def variant(self) -> str:
        """The part of the name that all seeds have in common."""
        return self.name.rpartition("/")[0]

    @property
    def rounds(self) -> int:
        """Number of lines in its log when it is complete; round 0 counts."""
        return int(self.config.last_round or 0) + 1


@dataclass
class Variant:
    """A strategy (None: the shared round 0) on a data set under one fusion and predictor."""

    output: Path
    entry: DatasetEntry
    strategy: StrategyEntry | None
    fusion: str
    predictor: str
    baselines: tuple[str, ...] = field(default=(), init=False)

    @property
    def dataset_name(self) -> str:
        """See :func:`dataset_name`."""
        return dataset_name(self.entry)

    @property
    def model(self) -> str:
        """The fusion, and the predictor unless it is "fused"."""
        return self.fusion if self.predictor == "fused" else f"{self.fusion}-{self.predictor}"

    @property
    def path(self) -> str:
        """The folder of its seeds, relative to the comparison's."""
        if self.strategy is None:
            return f"round0/{self.dataset_name}/{self.fusion}"
        return f"cells/{self.dataset_name}/{self.model}/{self.strategy.name}"

    def load(self, config: SweepConfig) -> RunConfig:
        """Load the configuration that its seeds share, unresolved."""
        entry, strategy = self.entry, self.strategy or StrategyEntry(strategy="random")
        layers: list[tuple[str, Mapping[str, Any]]] = [
            ("settings", config.settings),
            (f"settings of data set {self.dataset_name}", entry.settings),
            (f"settings of strategy {strategy.name}", strategy.settings),
            ("--set", config.overrides),
        ]
        keys: dict[str, Any] = {}
        for name, layer in layers:
            _refuse_owned(name, given := flat(layer))
            keys |= given
        own: dict[str, Any] = {
            "strategy": strategy.strategy,
            "strategy_options": strategy.options,
            "label": None if strategy.name == strategy.strategy else strategy.name,
            "fusion": self.fusion,
            "predictor": self.predictor,
        }
        against = measured_against(keys)
        if self.strategy is None or strategy.name in (*BASELINES, *against):
            own["reward"] = {"kind": "absolute", "curves": []}
        elif against:
            self.baselines = against
            own["reward.curves"] = ["."]  # replaced for each seed
        # The data set comes first: a later source that renames it would drop its options.
        data = {
            k: v for k in ("dataset", "data", "data_root") if (v := getattr(entry, k)) is not None
        }
        layers = [("datasets", data), *layers, ("comparison", own)]
        shared = load_config(preset=entry.preset, layers=layers)
        if self.strategy is not None:
            return shared
        # Every run has its own line for round 0 in the trackers.
        return shared.round0_only().model_copy(update={"tracking": []})

    def planned_run(
        self,
        base: RunConfig,
        dataset: MultimodalDataset,
        seed: int,
        round0: PlannedRun | None = None,
    ) -> PlannedRun:
        """Make the run of one seed, resolved; it starts from ``round0`` if its own would be the same."""
        from rlmba.learner.round0 import round0_identity
        from rlmba.learner.settings import resolve

        changes: dict[str, Any] = {"seed": seed}
        needs: list[str] = []
        if self.baselines:
            needs += [
                f"cells/{self.dataset_name}/{self.model}/{name}/seed{seed}"
                for name in self.baselines
            ]
            curves = [self.output / name for name in needs]
            changes["reward"] = base.reward.model_copy(update={"curves": curves})
        resolved, _ = resolve(base.model_copy(update=changes), dataset)
        if round0 is not None and round0_identity(resolved) == round0_identity(round0.config):
            needs.insert(0, round0.name)
            resolved = resolved.model_copy(update={"round0": round0.folder})
        name = f"{self.path}/seed{seed}"
        return PlannedRun(
            name=name,
            dataset=self.dataset_name,
            model=self.model,
            label=_ROUND0 if self.strategy is None else self.strategy.name,
            config=resolved,
            folder=self.output / name,
            needs=tuple(needs),
        )


class LoadedDatasets:
    """Loads each data set once."""

    def __init__(self) -> None:
        self._loaded: dict[str, MultimodalDataset] = {}
        self.fingerprints: dict[str, str] = {}

    def load(self, config: RunConfig, name: str) -> MultimodalDataset:
        """Load the data set of a configuration; ``name`` is its name in the comparison."""
        from rlmba.learner.settings import load_source, source_options
        from rlmba.training.processes import usable_device

        key = json.dumps([name, source_options(config)], default=str)
        if key not in self._loaded:
            usable_device(config.device)
            self._loaded[key] = load_source(config)
            self.fingerprints.setdefault(name, self._loaded[key].fingerprint())
        return self._loaded[key]


def code_of_sweep(config: SweepConfig) -> list[str]:
    """What the runs of a comparison ask to run, as :mod:`rlmba.trust` keeps it; nothing is loaded.

    Raises
    ------
    UsageError
        If a setting is wrong.
    """
    pairs = product(config.datasets, config.strategies)
    model = config.fusions[0], config.predictors[0]
    runs = (Variant(Path(), entry, strategy, *model).load(config) for entry, strategy in pairs)
    return list(dict.fromkeys(chain.from_iterable(map(code_of, runs))))


def dataset_name(entry: DatasetEntry) -> str:
    """Name of a data set's folder."""
    if entry.name:
        return entry.name
    return entry.data.stem if entry.data is not None else short_name(entry.dataset)


def measured_against(keys: Mapping[str, Any]) -> tuple[str, ...]:
    """Baselines that a comparison must run for these settings, given by dotted key.

    Empty unless the settings request a relative reward without naming its curves.
    """
    if keys.get("reward.kind") != "relative" or keys.get("reward.curves"):
        return ()
    return tuple(keys.get("reward.baselines") or BASELINES)


def _refuse_owned(layer: str, keys: Mapping[str, Any]) -> None:
    for key in keys:
        owner = _OWNED.get(key) or (
            "options of strategies" if key.startswith("strategy_opt") else None
        )
        if owner:
            raise UsageError(f"{layer}: {key!r} is decided by {owner}; remove it from the settings")
