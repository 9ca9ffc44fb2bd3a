"""The table of a report: one row a group, as Markdown, CSV and for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlmba.experiments.curves import STAGES, Array, Group
from rlmba.types import MULTIMODAL

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["curves_csv", "markdown", "mean_sd", "rich_tables", "table_csv"]

_NAMES = ("strategy", "fusion", "predictor", "variant")


def mean_sd(values: Array) -> tuple[float, float | None]:
    """Mean over seeds and sample standard deviation; None where one seed leaves it undefined."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd


def _shown(values: Array, digits: int, space: str = " ") -> str:
    mean, sd = mean_sd(values)
    spread = "" if sd is None else f"{space}±{space}{sd:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _columns(groups: Sequence[Group]) -> list[str]:
    names = [n for n in _NAMES if n != "variant" or any(g.variant for g in groups)]
    return [
        *names, "seeds", "labels", "final Top-1", "final macro Top-1", "AUBC",
        *(f"{stage} s" for stage in STAGES),
    ]  # fmt: skip


def _cells(group: Group, columns: Sequence[str]) -> list[str]:
    values = {
        **{n: str(getattr(group, n)) for n in _NAMES},
        "seeds": str(len(group.seeds)),
        "labels": str(group.labels[-1]),
        "final Top-1": _shown(group.top1[MULTIMODAL][:, -1], 4),
        "final macro Top-1": _shown(group.top1_macro[MULTIMODAL][:, -1], 4),
        "AUBC": _shown(group.aubc, 4),
        **{f"{stage} s": f"{group.seconds[stage].mean():.3g}" for stage in STAGES},
    }
    return [values[c] for c in columns]


def _by_dataset(groups: Sequence[Group]) -> Iterator[tuple[str, list[Group]]]:
    for dataset in dict.fromkeys(g.dataset for g in groups):
        yield dataset, [g for g in groups if g.dataset == dataset]


def _title(dataset: str, groups: Sequence[Group]) -> str:
    return f"{dataset}: Top-1 on {' and '.join(sorted({g.on for g in groups}))}"


def markdown(groups: Sequence[Group]) -> str:
    """Write one Markdown table a data set, best AUBC first.

    Accuracies are mean ± sample standard deviation over seeds; seconds are means per round.
    """
    parts = []
    for dataset, members in _by_dataset(groups):
        columns = _columns(members)
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += [
            "| " + " | ".join(c.replace("|", "\\|") for c in _cells(g, columns)) + " |"
            for g in _ranked(members)
        ]
        parts.append(f"## {_title(dataset, members)}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts) + f"\n{_NOTE}\n"


_NOTE = (
    "Accuracies: mean ± s.d. over seeds. AUBC: mean Top-1 of the fused head over rounds. "
    "Seconds: mean per round."
)


def _ranked(groups: Sequence[Group]) -> list[Group]:
    return sorted(groups, key=lambda g: -float(g.aubc.mean()))


def rich_tables(groups: Sequence[Group]) -> list[Table]:
    """Build tables for a terminal: accuracies and seconds of each data set, variants as notes."""
    built = []
    for dataset, members in _by_dataset(groups):
        ranked = _ranked(members)
        variants = list(dict.fromkeys(g.variant for g in ranked if g.variant))
        names = [
            (
                g.strategy + (f" [{variants.index(g.variant) + 1}]" if g.variant else ""),
                f"{g.fusion}/{g.predictor}",
            )
            for g in ranked
        ]
        notes = [f"[{i}] {variant}" for i, variant in enumerate(variants, start=1)]
        figures = [
            (
                str(len(g.seeds)),
                str(g.labels[-1]),
                _shown(g.top1[MULTIMODAL][:, -1], 3, ""),
                _shown(g.top1_macro[MULTIMODAL][:, -1], 3, ""),
                _shown(g.aubc, 3, ""),
            )
            for g in ranked
        ]
        seconds = [tuple(f"{g.seconds[stage].mean():.3g}" for stage in STAGES) for g in ranked]
        headings = ("seeds", "labels", "Top-1", "macro", "AUBC")
        built.append(_terminal(_title(dataset, members), headings, names, figures, notes))
        built.append(_terminal(f"{dataset}: seconds per round", STAGES, names, seconds, notes))
    return built


def _terminal(
    title: str,
    headings: Sequence[str],
    names: Sequence[tuple[str, str]],
    cells: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title),
        caption=escape("\n".join(notes)) or None,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("strategy", "model"):
        table.add_column(heading, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in zip(names, cells, strict=True):
        table.add_row(*map(escape, (*name, *row)))
    return table


def _csv(header: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def table_csv(groups: Sequence[Group]) -> str:
    """Write the table as CSV, unrounded: one row a group; an undefined s.d. is empty."""
    figures = ("top1", "top1_macro", "aubc")
    header = ["dataset", *_NAMES, "on", "seeds", "labels"]
    header += [f"{f}_{part}" for f in figures for part in ("mean", "sd")]
    header += [f"{stage}_seconds" for stage in STAGES]

    def rows() -> Iterator[Sequence[object]]:
        for g in groups:
            values = (g.top1[MULTIMODAL][:, -1], g.top1_macro[MULTIMODAL][:, -1], g.aubc)
            yield [
                g.dataset, *(getattr(g, n) for n in _NAMES), g.on, len(g.seeds), g.labels[-1],
                *(part for v in values for part in mean_sd(v)),
                *(float(g.seconds[stage].mean()) for stage in STAGES),
            ]  # fmt: skip

    return _csv(header, rows())


def curves_csv(groups: Sequence[Group]) -> str:
    """Write every curve in long form: one row a group, quantity, name and number of labels."""
    header = ["dataset", *_NAMES, "on", "seeds", "quantity", "name", "labels", "mean", "sd"]
    quantities = ("top1", "top1_macro", "contributions", "weights", "fusion_weights")

    def rows() -> Iterator[Sequence[object]]:
        for g in groups:
            names = [g.dataset, *(getattr(g, n) for n in _NAMES), g.on, len(g.seeds)]
            for quantity in quantities:
                for name, values in getattr(g, quantity).items():
                    for t, labels in enumerate(g.labels):
                        if not np.isnan(values[:, t]).any():
                            yield [*names, quantity, name, labels, *mean_sd(values[:, t])]

    return _csv(header, rows())
