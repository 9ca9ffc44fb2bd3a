"""The overview of a report, with one row per group, and all curves in long form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rlmba.experiments.content import Cell, Subject, TableData
from rlmba.experiments.curves import STAGES, Array, Group
from rlmba.experiments.scope import slug
from rlmba.experiments.tables.cells import mean_sd, number, seconds, spread, text
from rlmba.tables import csv_text
from rlmba.types import MULTIMODAL

__all__ = ["compact", "curves_csv", "overview", "table_csv"]

_NAMES = ("strategy", "fusion", "predictor", "variant")
_NOTE = (
    "Accuracies: mean ± s.d. over seeds. AUBC: mean Top-1 of the fused head over rounds. Largest class: "
    "its share of the samples that Top-1 is measured on, which is the Top-1 of a prediction that ignores "
    "them. Seconds: mean per round."
)


def _by_dataset(groups: Sequence[Group]) -> Iterator[tuple[str, list[Group]]]:
    """Iterate over data sets with their groups, best AUBC first (unknown last)."""
    for dataset in dict.fromkeys(g.dataset for g in groups):
        members = [g for g in groups if g.dataset == dataset]
        yield dataset, sorted(members, key=lambda g: -float(np.nan_to_num(g.aubc.mean(), nan=-1.0)))


def _title(dataset: str, groups: Sequence[Group]) -> str:
    return f"{dataset}: Top-1 on {' and '.join(sorted({g.on for g in groups}))}"


def _title_with_largest(dataset: str, groups: Sequence[Group]) -> str:
    """The title, with the share of the largest class where it is known."""
    shares = sorted({f"{x:.3f}" for g in groups if not np.isnan(x := _largest(g))})
    shown = (
        f" (largest class {' to '.join(dict.fromkeys((shares[0], shares[-1])))})" if shares else ""
    )
    return _title(dataset, groups) + shown


def _accuracies(group: Group) -> tuple[Array, Array, Array]:
    last = group.top1[MULTIMODAL][:, -1], group.top1_macro[MULTIMODAL][:, -1]
    return (*last, group.aubc)


def _largest(group: Group) -> float:
    """Mean over seeds of the share of the largest class in the last round; NaN if unknown."""
    return float(group.majority[:, -1].mean())


def overview(groups: Sequence[Group]) -> list[TableData]:
    """Final accuracy, AUBC and seconds of all groups, one table per data set, best AUBC first.

    Accuracies are mean ± sample standard deviation over seeds; seconds are means per round.
    """
    built = []
    for dataset, members in _by_dataset(groups):
        names = [n for n in _NAMES if n != "variant" or any(g.variant for g in members)]
        built.append(
            TableData(
                key=f"table_{slug(dataset)}",
                title=_title(dataset, members),
                columns=(
                    *names, "seeds", "labels", "final Top-1", "final macro Top-1", "largest class", "AUBC",
                    *(f"{stage} s" for stage in STAGES),
                ),
                rows=tuple(
                    (
                        *(text(getattr(g, n)) for n in names),
                        text(len(g.seeds)), text(int(g.labels[-1])),
                        *(spread(values) for values in _accuracies(g)[:2]),
                        number(_largest(g)), spread(g.aubc),
                        *_seconds(g),
                    )
                    for g in members
                ),
                notes=(_NOTE, *_notes(members)),
                subject=Subject(dataset),
                row_subjects=tuple(Subject(fusion=g.fusion) for g in members),
            )
        )  # fmt: skip
    return built


def _notes(groups: Sequence[Group]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for g in groups for note in g.notes))


def _seconds(group: Group) -> list[Cell]:
    return [number(seconds(group, stage), ".3g") for stage in STAGES]


def compact(groups: Sequence[Group]) -> list[TableData]:
    """The overview for a terminal of eighty columns: separate tables of accuracies and seconds."""
    built = []
    for dataset, members in _by_dataset(groups):
        variants = list(dict.fromkeys(g.variant for g in members if g.variant))
        notes = tuple(f"[{i}] {variant}" for i, variant in enumerate(variants, start=1))
        names = [
            (
                text(g.strategy + (f" [{variants.index(g.variant) + 1}]" if g.variant else "")),
                text(f"{g.fusion}/{g.predictor}"),
            )
            for g in members
        ]
        accuracies = [
            (
                *name, text(len(g.seeds)), text(int(g.labels[-1])),
                *(spread(values, 3, space="") for values in _accuracies(g)),
            )
            for name, g in zip(names, members, strict=True)
        ]  # fmt: skip
        timed = [(*name, *_seconds(g)) for name, g in zip(names, members, strict=True)]
        headings = ("strategy", "model", "seeds", "labels", "Top-1", "macro", "AUBC")
        built += [
            TableData(
                "accuracy",
                _title_with_largest(dataset, members),
                headings,
                tuple(accuracies),
                (*notes, *_notes(members)),
            ),
            TableData(
                "seconds",
                f"{dataset}: seconds per round",
                ("strategy", "model", *STAGES),
                tuple(timed),
                notes,
            ),
        ]
    return built


def table_csv(groups: Sequence[Group]) -> str:
    """Format the overview as CSV, unrounded, with one row per group; unknown values are empty."""
    figures = ("top1", "top1_macro", "aubc")
    header = ["dataset", *_NAMES, "on", "seeds", "labels"]
    header += [f"{f}_{part}" for f in figures for part in ("mean", "sd")]
    header.append("largest_class")
    header += [f"{stage}_seconds" for stage in STAGES]
    rows = (
        [
            g.dataset, *(getattr(g, n) for n in _NAMES), g.on, len(g.seeds), g.labels[-1],
            *(part for values in _accuracies(g) for part in mean_sd(values)), _largest(g),
            *(seconds(g, stage) for stage in STAGES),
        ]
        for g in groups
    )  # fmt: skip
    return csv_text(header, rows)


def _quantities(group: Group) -> Iterator[tuple[str, str, Array]]:
    """Iterate over all curves of a group: quantity, head or modality ("" for the run), values [S, T]."""
    for name in next(iter(group.metrics.values())):
        yield from ((name, head, figures[name]) for head, figures in group.metrics.items())
    shares: tuple[tuple[str, Mapping[str, Array]], ...] = (
        ("contributions", group.contributions),
        ("weights", group.weights),
        ("fusion_weights", group.fusion_weights),
    )
    for quantity, curves in shares:
        yield from ((quantity, name, values) for name, values in curves.items())
    yield "largest_class", "", group.majority
    yield "fairness_gap", "", group.fairness_gap
    yield "balance", "", group.balance
    yield "raw_reward", "", group.raw_reward


def curves_csv(groups: Sequence[Group]) -> str:
    """Format all curves as CSV in long form: one row per group, quantity, name and number of labels.

    Rounds in which a seed has no figure are left out.
    """
    header = ["dataset", *_NAMES, "on", "seeds", "quantity", "name", "labels", "mean", "sd"]

    def rows() -> Iterator[Sequence[object]]:
        for g in groups:
            names = [g.dataset, *(getattr(g, n) for n in _NAMES), g.on, len(g.seeds)]
            for quantity, name, values in _quantities(g):
                for t, labels in enumerate(g.labels):
                    if not np.isnan(values[:, t]).any():
                        yield [*names, quantity, name, labels, *mean_sd(values[:, t])]

    return csv_text(header, rows())
