"""Groups of runs that may be averaged, and the curves of each group.

Two runs belong to one group if they differ only by their seed: the data set, strategy, fusion, predictor,
all other options that affect the results, and the numbers of labels are the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rlmba.config import FREE_KEYS, flat, is_among
from rlmba.errors import RunFolderError, UsageError
from rlmba.experiments.group import METRICS, STAGES, Array, Group
from rlmba.experiments.protocol import say_differences, say_seeds, say_versions
from rlmba.types import MULTIMODAL, Evaluation, HeadMetrics, RoundRecord

if TYPE_CHECKING:
    from rlmba.runfolder.store import RunView

__all__ = ["STAGES", "Array", "Group", "dataset_label", "group_runs"]

_PER_MODALITY = ("contributions", "weights", "fusion_weights")
# Options that may differ within a group. `rounds` is reflected in the numbers of labels.
_FREE = {
    *FREE_KEYS,
    "seed",
    "rounds",
    "device",
    "data",
    "data_root",
    "training.predict_batch_size",
}
_NAMED = {"dataset", "fusion", "predictor"}
# Each seed may have its own baselines.
_SEED_IN_PATH = re.compile(r"seed[-_=]?\d+")


def dataset_label(run: RunView) -> str:
    """Name the data set of a run, with its file or folder if it is read from one."""
    source = run.config.data or run.config.data_root
    return run.config.dataset if source is None else f"{run.config.dataset}:{source.stem}"


def group_runs(runs: Sequence[RunView], *, strict: bool = False) -> list[Group]:
    """Group runs and compute their curves.

    Parameters
    ----------
    runs : sequence of RunView
        Read run folders, finished or not.
    strict : bool
        Raise an error instead of adding a note: for an unfinished run, several versions of the code, or
        strategies on one data set and fusion under different conditions or with different seeds.

    Returns
    -------
    list of Group
        Ordered by data set, then by first appearance. Runs with different options or numbers of labels
        are in different groups, whose ``variant`` states the difference. The ``notes`` of a group list
        its unfinished runs, and the versions of the code if there are several.

    Raises
    ------
    UsageError
        If there is no run, if two runs of a group have the same seed, or because of ``strict``.
    RunFolderError
        If a run has no complete round, if its rounds have different modalities, or if one of its
        accuracies is not a number.
    """
    if not runs:
        raise UsageError("expected at least one run folder, got none")
    buckets: dict[tuple[Any, ...], list[RunView]] = {}
    for run in runs:
        if not run.records:
            raise RunFolderError(
                f"{run.path} has no complete round yet; wait for round 0, or leave the run out"
            )
        buckets.setdefault((*_names(run), _fingerprint(run), _grid(run)), []).append(run)
    for members in buckets.values():
        _refuse_repeats(members)
    groups = [(members, _group(members)) for members in buckets.values()]
    named = [
        replace(group, variant=_variant(members[0], _rivals(members, buckets.values())))
        for members, group in groups
    ]
    named.sort(key=lambda group: group.dataset)
    if strict:
        _refuse_doubts(named)
    return named


def _names(run: RunView) -> tuple[str, str, str, str]:
    c = run.config
    return dataset_label(run), c.label or c.strategy, c.fusion, c.predictor


def _options(run: RunView) -> dict[str, str]:
    found = {k: str(v) for k, v in flat(run.config.model_dump(mode="json")).items() if v != {}}
    found["reward.curves"] = _SEED_IN_PATH.sub("seed*", found["reward.curves"])
    if run.config.initial_ids is not None:
        found["initial_ids"] = "given"
    if "fingerprint" in run.info:
        found["data checksum"] = str(run.info["fingerprint"])[:12]
    return {k: v for k, v in found.items() if not is_among(k, _FREE | _NAMED)}


def _fingerprint(run: RunView) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_options(run).items()))


def _grid(run: RunView) -> tuple[str, tuple[int, ...]]:
    return _measured_on(run.records), tuple(record.labels for record in run.records)


def _measured_on(records: Iterable[RoundRecord]) -> Literal["test", "validation"]:
    return "test" if all(record.test is not None for record in records) else "validation"


def _rivals(members: list[RunView], buckets: Iterable[list[RunView]]) -> list[RunView]:
    """List the first run of each other group with the same names."""
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
                f"seed {run.config.seed} of {', '.join(_names(run))} was found twice, in "
                f"{other.path} and {run.path}; leave one of them out"
            )


def _group(members: list[RunView]) -> Group:
    members = sorted(members, key=lambda run: run.config.seed)
    on = _measured_on(members[0].records)
    heads = _common_heads(members, on)
    modalities = [head for head in heads if head != MULTIMODAL]
    for run in members:
        _refuse_nan(run, on)

    def stack(value: Callable[[RoundRecord], float]) -> Array:
        return np.array([[value(r) for r in run.records] for run in members], dtype=np.float64)

    def figure(head: str, name: str) -> Array:
        return stack(lambda r: _number(getattr(_evaluation(r, on).heads[head], name, None)))

    names = _numeric_figures(_evaluation(members[0].records[0], on).heads[heads[0]])
    metrics = {head: {name: figure(head, name) for name in names} for head in heads}
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
        top1={head: metrics[head]["top1"] for head in heads},
        top1_macro={head: metrics[head]["top1_macro"] for head in heads},
        **per_modality,
        seconds={s: np.array([_seconds(run.records, s) for run in members]) for s in STAGES},
        metrics=metrics,
        fused_top1={
            m: stack(lambda r, m=m: _number(_evaluation(r, on).fused_top1(m)))  # type: ignore[misc]
            for m in modalities
        },
        majority=stack(lambda r: _number(_evaluation(r, on).majority)),
        raw_reward=stack(lambda r: _number(r.raw_reward)),
        options=_options(members[0]),
        versions=_versions(members),
        notes=tuple(_notes(members)),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _numeric_figures(head: HeadMetrics) -> list[str]:
    others = [f.name for f in fields(head) if isinstance(getattr(head, f.name), (int, float))]
    return list(dict.fromkeys([*METRICS, *others]))


def _refuse_nan(run: RunView, on: str) -> None:
    for record in run.records:
        for head, figures in _evaluation(record, on).heads.items():
            for name in ("top1", "top1_macro"):
                value = getattr(figures, name)
                if not math.isfinite(_number(value)):
                    raise RunFolderError(
                        f"{run.path}, round {record.round}: expected {name} of head {head!r} to be a number "
                        f"in [0, 1], got {value}; repeat the run, or leave it out"
                    )


def _versions(members: Sequence[RunView]) -> tuple[str, ...]:
    return tuple(sorted({str(run.info["rlmba"]) for run in members if "rlmba" in run.info}))


def _notes(members: Sequence[RunView]) -> Iterator[str]:
    """Notes on the runs of a group: unfinished ones, several versions of rlmba."""
    dataset, strategy, fusion, _ = _names(members[0])
    where = f"{strategy} on {dataset} under {fusion} fusion"
    done = len(members[0].records) - 1
    unfinished: dict[int, list[int]] = {}
    for run in members:
        last = run.config.last_round
        if last is not None and done < last:
            unfinished.setdefault(last, []).append(run.config.seed)
    for rounds, seeds in sorted(unfinished.items()):
        yield f"{where}: {say_seeds(seeds)} not finished, {done} of {rounds} rounds so far"
    if len(_versions(members)) > 1:
        yield f"{where}: runs of several versions of rlmba: {', '.join(_versions(members))}"


def _refuse_doubts(groups: Sequence[Group]) -> None:
    doubts = [note for group in groups for note in group.notes]
    for dataset, fusion in dict.fromkeys((g.dataset, g.fusion) for g in groups):
        members = [g for g in groups if (g.dataset, g.fusion) == (dataset, fusion)]
        found = [say_differences(members)]
        if len({g.versions for g in members}) > 1:
            found.append(say_versions(members))
        if len({g.seeds for g in members}) > 1:
            found.append("seeds differ: " + ", ".join(f"{g.name} {list(g.seeds)}" for g in members))
        doubts += [f"{dataset} under {fusion} fusion: {what}" for what in found if what]
    if doubts:
        raise UsageError(
            "expected finished runs of one version, under the same conditions and with the same seeds; "
            "found:\n  " + "\n  ".join(doubts) + "\nleave these runs out, or report without strict"
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
                    f"{first.path}, found {found}; report runs with different modalities separately"
                )
    return heads


def _seconds(records: Sequence[RoundRecord], stage: str) -> float:
    queried = [record for record in records if record.round > 0] or records
    return float(np.mean([record.seconds.get(stage, 0.0) for record in queried]))
