"""Curves of baseline runs for the relative reward (Eq 8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rlmba.config import RELATIVE_TO, RunConfig, differing, identity
from rlmba.errors import UsageError
from rlmba.method.reward import quality
from rlmba.runfolder.store import RunView, read_run

__all__ = ["baseline_curves"]

_SOURCE = ("dataset", "data", "data_root", "dataset_options", "fusion", "predictor")
"""Keys that identify a table of a comparison; below a folder, runs of other tables are skipped."""
_PROTOCOL = (
    *_SOURCE,
    "batch_size",
    "initial_labels",
    "budgets",
    "initial_sampling",
    "initial_ids",
    "validation_fraction",
    "epochs",
    "model",
    "training",
)
_WITH_FUSION = {"amcb": "amcb", "adaptive": "adaptive_penalty"}
"""Keys that affect a baseline's curve with one kind of fusion only."""


def _make(names: Iterable[str]) -> str:
    """What a user can do if curves are missing."""
    return (
        f"create them with `rlmba compare --strategies {','.join(names)} --output DIR` and this run's "
        "settings, then set reward.curves=[DIR]"
    )


def baseline_curves(config: RunConfig) -> list[dict[int, float]]:
    """What ``reward.measure`` says, by number of labels: one curve per baseline, averaged over its runs.

    Parameters
    ----------
    config : RunConfig
        Resolved. ``reward.curves`` names run folders, or folders that contain run folders, such as
        `rlmba compare` creates. Below a folder, only runs of ``reward.baselines`` with this run's data,
        fusion and predictor are used. Copies of round 0 are ignored.

    Raises
    ------
    UsageError
        If one of ``reward.baselines`` has no such run, a named run folder belongs to none of them, a
        run used a protocol that differs from ``config``, a folder contains no usable run, or a curve
        has no point at a number of labels that this run will reach.
    RunFolderError
        If a path does not exist, or a run is damaged.
    """
    by_strategy: dict[str, list[RunView]] = defaultdict(list)
    for path in config.reward.curves:
        for view in _views(path, config):
            by_strategy[_name(view)].append(view)
    _check_all_there(config, by_strategy)
    curves = []
    for name, views in by_strategy.items():
        measure = config.reward.measure
        runs = [{r.labels: quality(r.validation, measure) for r in v.records} for v in views]
        shared = sorted(set.intersection(*(set(c) for c in runs)))
        _check_reach(config, name, shared, views)
        curves.append({n: fmean(c[n] for c in runs) for n in shared})
    return curves


def _name(view: RunView) -> str:
    """The name of a run among the baselines."""
    return view.config.label or view.config.strategy


def _wanted(config: RunConfig) -> Sequence[str]:
    return RELATIVE_TO if config.reward.baselines is None else config.reward.baselines


def _listed(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"


def _check_all_there(config: RunConfig, found: Mapping[str, list[RunView]]) -> None:
    """Raise unless every baseline has a curve: a mean over fewer would change the reward (Eq 9)."""
    wanted = config.reward.baselines
    if wanted is None and found:
        return
    missing = [name for name in _wanted(config) if name not in found]
    if not missing:
        return
    subset = f"; to use only the baselines found, set reward.baselines={_listed([*found])}"
    raise UsageError(
        f"reward.curves: expected runs of {', '.join(_wanted(config))}, found none of "
        f"{', '.join(missing)}; {_make(missing)} in addition to the present entries"
        f"{subset if found else ''}"
    )


def _views(path: Path, config: RunConfig) -> Iterator[RunView]:
    """The runs of baselines that a path names or contains."""
    if (path / "run.json").exists() or not path.is_dir():
        view = read_run(path)
        wanted = config.reward.baselines
        if wanted is not None and _name(view) not in wanted:
            raise UsageError(
                f"reward.curves: {path} is a run of {_name(view)}, and reward.baselines is "
                f"{_listed(wanted)}; remove it, or add its strategy to reward.baselines"
            )
        _refuse(view, _differences(view.config, config, _PROTOCOL))
        yield view
        return
    found = [read_run(folder) for folder in _runs_below(path)]
    if not found:
        raise UsageError(
            f"reward.curves: {path} is not a run folder and contains none; {_make(_wanted(config))}"
        )
    here = [v for v in found if not _differences(v.config, config, _SOURCE)]
    ours = [v for v in here if _name(v) in _wanted(config)]
    if not ours:
        seen = sorted({_name(v) for v in here})
        why = (
            f"of {', '.join(seen)}"
            if here
            else "; ".join(_differences(found[0].config, config, _SOURCE))
        )
        raise UsageError(
            f"reward.curves: expected runs of {', '.join(_wanted(config))} below {path}, found {len(found)} "
            f"runs {'' if here else 'with other data or fusion: '}{why}; {_make(_wanted(config))}"
        )
    for view in ours:
        _refuse(view, _differences(view.config, config, _PROTOCOL))
        yield view


def _runs_below(path: Path) -> list[Path]:
    """Run folders below a folder, sorted, without copies of round 0."""
    folders = (file.parent for file in path.rglob("run.json"))
    return sorted(f for f in folders if "round0" not in f.relative_to(path).parts)


def _differences(theirs: RunConfig, ours: RunConfig, keys: tuple[str, ...]) -> list[str]:
    """The settings that make a baseline incomparable, one text per key."""
    if (extra := _WITH_FUSION.get(ours.fusion)) is not None and keys is _PROTOCOL:
        keys = (*keys, extra)
    a, b = identity(theirs), identity(ours)
    if (a.get("budgets") or [])[: len(b.get("budgets") or [])] == b.get("budgets"):
        a["budgets"] = b["budgets"]  # a baseline may go on after this run's last round
    found = differing({k: a[k] for k in keys if k in a}, {k: b[k] for k in keys if k in b})
    return [f"{k}={x} there and {y} here" for k, (x, y) in found.items()]


def _refuse(view: RunView, differences: list[str]) -> None:
    if differences:
        raise UsageError(
            f"reward.curves: {view.path} used another protocol: {'; '.join(differences)}; rerun the "
            f"baseline with this run's settings: {_make([_name(view)])}"
        )


def _check_reach(config: RunConfig, name: str, shared: list[int], views: list[RunView]) -> None:
    wanted = config.label_counts[1:]
    missing = [n for n in wanted if n not in shared]
    if missing:
        shortest = min(views, key=lambda v: len(v.records))
        raise UsageError(
            f"reward.curves: not all {len(views)} runs of {name} have a point at {missing[0]} labels "
            f"({shortest.path} has {len(shortest.records)} rounds, this run will have {len(wanted) + 1}); "
            "finish the baselines with at least as many rounds"
        )
