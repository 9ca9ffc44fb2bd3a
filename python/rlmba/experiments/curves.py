"""Runs grouped into what may be averaged, and the curves of each group.

Two runs belong to one group when nothing but their seed can tell their figures apart: same data
set, strategy, fusion, predictor, every other option that matters, and the same numbers of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import RunFolderError, UsageError
from rlmba.types import MULTIMODAL, Evaluation, RoundRecord

if TYPE_CHECKING:
    from rlmba.loop.store import RunView

__all__ = ["STAGES", "Group", "dataset_label", "group_runs"]

STAGES = ("predict", "select", "train", "validate", "policy")
"""Stages of a round in the order of tables."""

_PER_MODALITY = ("contributions", "weights", "fusion_weights")
# What may differ within a group. `rounds` shows in the numbers of labels.
_FREE = {
    "seed",
    "rounds",
    "device",
    "tensorboard",
    "data",
    "data_root",
    "training.predict_batch_size",
}
_NAMED = {"dataset", "strategy", "fusion", "predictor"}

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Group:
    """Runs over S seeds with figures at the same T numbers of labels.

    Attributes
    ----------
    dataset, strategy, fusion, predictor : str
        What the runs have in common; a data set read from a file is named with it.
    variant : str
        The options that tell this group from others of the same names; empty where none are needed.
    on : {"test", "validation"}
        Which samples Top-1 was measured on: test wherever every round has it.
    seeds : tuple of int [S]
    labels : int64 array [T]
        Labeled samples after each round.
    top1, top1_macro : mapping of head to float array [S, T]
        Accuracy in [0, 1], micro and macro; the fused head is "mm".
    contributions, weights, fusion_weights : mapping of modality to float array [S, T]
        As in :class:`~rlmba.types.RoundRecord`; NaN in rounds that have none.
    seconds : mapping of stage to float array [S]
        Mean wall time per round with a query (of round 0 where there was no other).
    """

    dataset: str
    strategy: str
    fusion: str
    predictor: str
    variant: str
    on: Literal["test", "validation"]
    seeds: tuple[int, ...]
    labels: NDArray[np.int64]
    top1: Mapping[str, Array]
    top1_macro: Mapping[str, Array]
    contributions: Mapping[str, Array]
    weights: Mapping[str, Array]
    fusion_weights: Mapping[str, Array]
    seconds: Mapping[str, Array]

    @property
    def name(self) -> str:
        """Strategy, fusion and predictor, and the variant if there is one."""
        name = f"{self.strategy}, {self.fusion} fusion, {self.predictor} predictor"
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names in their fixed order."""
        return tuple(head for head in self.top1 if head != MULTIMODAL)

    @property
    def aubc(self) -> Array:
        """Area under the budget curve [S]: the fused head's mean Top-1 over rounds."""
        means: Array = self.top1[MULTIMODAL].mean(axis=1)
        return means


def dataset_label(run: RunView) -> str:
    """Name the data set of a run; one that is a file or folder is named with it."""
    source = run.config.data or run.config.data_root
    return run.config.dataset if source is None else f"{run.config.dataset}:{source.stem}"


def group_runs(runs: Sequence[RunView]) -> list[Group]:
    """Group runs and compute their curves.

    Parameters
    ----------
    runs : sequence of RunView
        Read run folders, finished or not.

    Returns
    -------
    list of Group
        Ordered by data set, then as first met. Runs whose options or numbers of labels differ are
        in groups of their own, with a ``variant`` that says what differs.

    Raises
    ------
    UsageError
        If there is no run, or two runs of one group have the same seed.
    RunFolderError
        If a run has no complete round, or its rounds disagree on the modalities.
    """
    if not runs:
        raise UsageError("expected at least one run folder, got none")
    buckets: dict[tuple[Any, ...], list[RunView]] = {}
    for run in runs:
        if not run.records:
            raise RunFolderError(
                f"{run.path} has no complete round yet; wait for round 0 or leave it out"
            )
        buckets.setdefault((*_names(run), _fingerprint(run), _grid(run)), []).append(run)
    for members in buckets.values():
        _refuse_repeats(members)
    groups = [(members, _group(members)) for members in buckets.values()]
    named = [
        replace(group, variant=_variant(members[0], _rivals(members, buckets.values())))
        for members, group in groups
    ]
    return sorted(named, key=lambda group: group.dataset)


def _names(run: RunView) -> tuple[str, str, str, str]:
    c = run.config
    return dataset_label(run), c.strategy, c.fusion, c.predictor


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat


def _options(run: RunView) -> dict[str, str]:
    flat = _flat(run.config.model_dump(mode="json"))
    return {k: v for k, v in flat.items() if k not in _FREE and k not in _NAMED}


def _fingerprint(run: RunView) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_options(run).items()))


def _grid(run: RunView) -> tuple[str, tuple[int, ...]]:
    return _measured_on(run.records), tuple(record.labels for record in run.records)


def _measured_on(records: Iterable[RoundRecord]) -> Literal["test", "validation"]:
    return "test" if all(record.test is not None for record in records) else "validation"


def _rivals(members: list[RunView], buckets: Iterable[list[RunView]]) -> list[RunView]:
    """List the first run of every other group that has the same names."""
    return [b[0] for b in buckets if b is not members and _names(b[0]) == _names(members[0])]


def _variant(run: RunView, rivals: Sequence[RunView]) -> str:
    own = _options(run)
    others = [_options(rival) for rival in rivals]
    parts = [
        f"{key}={own.get(key, 'unset')}"
        for key in sorted(set(own).union(*others))
        if any(other.get(key) != own.get(key) for other in others)
    ]
    on, labels = _grid(run)
    if any(_grid(rival)[1] != labels for rival in rivals):
        parts.append(f"labels {labels[0]} to {labels[-1]} in {len(labels)} rounds")
    if any(_grid(rival)[0] != on for rival in rivals):
        parts.append(f"on {on}")
    return ", ".join(parts)


def _refuse_repeats(members: Sequence[RunView]) -> None:
    seen: dict[int, RunView] = {}
    for run in members:
        other = seen.setdefault(run.config.seed, run)
        if other is not run:
            raise UsageError(
                f"seed {run.config.seed} of {', '.join(_names(run))} is there twice, in "
                f"{other.path} and {run.path}: a mean would count it double; leave one out"
            )


def _group(members: list[RunView]) -> Group:
    members = sorted(members, key=lambda run: run.config.seed)
    on = _measured_on(members[0].records)
    heads = _common_heads(members, on)
    modalities = [head for head in heads if head != MULTIMODAL]

    def stack(value: Callable[[RoundRecord], float]) -> Array:
        return np.array([[value(r) for r in run.records] for run in members], dtype=np.float64)

    top1 = {h: stack(lambda r, h=h: _evaluation(r, on).heads[h].top1) for h in heads}  # type: ignore[misc]
    macro = {h: stack(lambda r, h=h: _evaluation(r, on).heads[h].top1_macro) for h in heads}  # type: ignore[misc]
    per_modality = {
        name: {
            m: stack(lambda r, m=m, name=name: getattr(r, name).get(m, np.nan))  # type: ignore[misc]
            for m in modalities
        }
        for name in _PER_MODALITY
    }
    dataset, strategy, fusion, predictor = _names(members[0])
    return Group(
        dataset=dataset,
        strategy=strategy,
        fusion=fusion,
        predictor=predictor,
        variant="",
        on=on,
        seeds=tuple(run.config.seed for run in members),
        labels=np.array([r.labels for r in members[0].records], dtype=np.int64),
        top1=top1,
        top1_macro=macro,
        **per_modality,
        seconds={s: np.array([_seconds(run.records, s) for run in members]) for s in STAGES},
    )


def _evaluation(record: RoundRecord, on: str) -> Evaluation:
    return record.test if on == "test" and record.test is not None else record.validation


def _common_heads(members: Sequence[RunView], on: str) -> list[str]:
    first = members[0]
    heads = list(_evaluation(first.records[0], on).heads)
    for run in members:
        for record in run.records:
            found = list(_evaluation(record, on).heads)
            if found != heads:
                raise RunFolderError(
                    f"{run.path}, round {record.round}: expected the heads {heads} of "
                    f"{first.path}, got {found}; report runs of different modalities apart"
                )
    return heads


def _seconds(records: Sequence[RoundRecord], stage: str) -> float:
    queried = [record for record in records if record.round > 0] or records
    return float(np.mean([record.seconds.get(stage, 0.0) for record in queried]))
