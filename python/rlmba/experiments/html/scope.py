"""What a table, a row, a column or a figure is about: one data set, one fusion, or more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlmba.experiments.content import TableData

__all__ = ["Names", "Scope", "columns_of", "rows_of"]

_DATASET_HEADINGS = {"data set", "dataset"}
_FUSION_HEADINGS = {"fusion"}


@dataclass(frozen=True)
class Scope:
    """Positions of a data set and of a fusion among the report's; None: of none in particular."""

    dataset: int | None = None
    fusion: int | None = None


@dataclass(frozen=True)
class Names:
    """The data sets and fusions of a report, in order."""

    datasets: tuple[str, ...]
    fusions: tuple[str, ...]

    def scope(self, key: str, title: str) -> Scope:
        """Scope of a table or figure: from the parts of its key, else from its title.

        A key such as ``figure5_digits_uniform`` names both, with what is not fit for a file's name
        written as "-". A title names a data set where it begins with it, a fusion as "<name> fusion".
        """
        dataset = _in_key(key, self.datasets)
        if dataset is None:
            dataset = _beginning(title, self.datasets)
        fusion = _in_key(key, self.fusions)
        if fusion is None:
            said = [i for i, name in enumerate(self.fusions) if _found(f"{name} fusion", title)]
            fusion = said[0] if len(said) == 1 else None
        return Scope(dataset, fusion)


def rows_of(table: TableData, names: Names) -> list[Scope]:
    """Scope of each row [R], by the columns that are headed "data set" and "fusion"."""
    headings = [column.strip().lower() for column in table.columns]

    def position(row: int, headed: set[str], known: Sequence[str]) -> int | None:
        for column, heading in enumerate(headings):
            if heading in headed and table.rows[row][column].text in known:
                return known.index(table.rows[row][column].text)
        return None

    return [
        Scope(
            position(row, _DATASET_HEADINGS, names.datasets),
            position(row, _FUSION_HEADINGS, names.fusions),
        )
        for row in range(len(table.rows))
    ]


def columns_of(table: TableData, names: Names) -> list[Scope]:
    """Scope of each column [K]: of a data set or a fusion where its heading begins with that name."""
    return [
        Scope(_beginning(heading, names.datasets), _beginning(heading, names.fusions))
        for heading in table.columns
    ]


def _found(name: str, text: str) -> bool:
    return re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", text) is not None


def _in_key(key: str, names: Sequence[str]) -> int | None:
    slugs = [re.sub(r"[^\w.-]+", "-", name) for name in names]
    found = [i for i, slug in enumerate(slugs) if _found(slug, key)]
    # "digits" is also found in the key of "digits-2".
    longest = [i for i in found if not any(slugs[i] in slugs[j] for j in found if j != i)]
    return longest[0] if len(longest) == 1 else None


def _beginning(text: str, names: Sequence[str]) -> int | None:
    found = [
        i for i, name in enumerate(names) if re.match(rf"{re.escape(name)}(?:$|[\s,:;(])", text)
    ]
    return max(found, key=lambda i: len(names[i]), default=None)
