"""A second table, read by what was kept of reading the first."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.manifest.columns import FEATURES, Columns, find_id, named
from rlmba.data.manifest.options import MEDIA, Options
from rlmba.data.manifest.scale import Scale
from rlmba.data.manifest.values import RaggedError, numbers_of, vectors_of
from rlmba.data.media.content import Recipe
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning, UsageError

__all__ = ["Again"]


class Again:
    """What :meth:`~rlmba.data.MultimodalDataset.reading` of a data set says about reading another.

    Parameters
    ----------
    reading : mapping

    Attributes
    ----------
    modalities : tuple of str
    recipe : Recipe
    scales : mapping of modality to Scale
    text_is_file, sound : bool

    Raises
    ------
    UsageError
        If it is not such a mapping.
    """

    def __init__(self, reading: Mapping[str, Any]) -> None:
        try:
            recipe = dict(reading["recipe"])
            recipe["frame_size"] = tuple(recipe["frame_size"])
            self.recipe = Recipe(**recipe)
            self.modalities = tuple(reading["modalities"])
            self.scales = {m: Scale.from_dict(s) for m, s in reading["scales"].items()}
            self.text_is_file, self.sound = bool(reading["text_is_file"]), bool(reading["sound"])
            self._id = str(reading["id"])
            self._columns = dict(reading["columns"])
            self._numbers = tuple(reading["numbers"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"option reading: expected what the data set of a manifest says of itself ({error!r} is "
                "amiss); take it from that data set"
            ) from error

    def columns(self, table: Table, options: Options) -> Columns:
        """Which column of another table is what; what it lacks is absent from all of its rows.

        Raises
        ------
        DataError
            If it has no ids, none of the modalities, or other values than it should.
        """
        names = {**self._columns, **{m: c for m, c in options.columns.items() if c is not None}}
        media: dict[str, str] = {}
        vectors: dict[str, tuple[str, NDArray[np.float64]]] = {}
        lacking = []
        for modality in self.modalities:
            if modality == FEATURES and self._numbers:
                continue
            if modality == "audio" and self.sound:
                continue
            name = names[modality]
            column = named(table, name)
            if column is None:
                lacking.append(name)
            if modality not in self.scales:
                if column is not None:
                    media[modality] = column
                continue
            width = len(self.scales[modality].mean)
            empty = np.full((len(table), width), np.nan)
            array = empty if column is None else _vectors(table, column, width)
            vectors[modality] = (name, array)
        numbers, without = self._read_numbers(table)
        lacking += without
        found = bool(media) or any(not np.isnan(a).all() for _, a in vectors.values())
        if not found and len(without) == len(self._numbers):
            raise DataError(
                f"{table.path}: expected columns {lacking}, as the data had that was learned from, got "
                f"{list(table.columns)}; rename them, or say with the option columns which is which"
            )
        if lacking:
            warnings.warn(
                f"{table.path} lacks the columns {lacking} that the data had which was learned from; "
                "what they held counts as absent from every row",
                RlmbaWarning,
                stacklevel=5,
            )
        name = options.id if options.id != "id" or named(table, self._id) is None else self._id
        return Columns(
            id=find_id(table, name),
            media={m: media[m] for m in MEDIA if m in media},
            numbers=numbers,
            vectors=vectors,
        )

    def _read_numbers(self, table: Table) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
        """Columns of single numbers, NaN where there is no such column; and which these are."""
        numbers: dict[str, NDArray[np.float64]] = {}
        lacking = []
        for name in self._numbers:
            column = named(table, name)
            if column is None:
                lacking.append(name)
                numbers[name] = np.full(len(table), np.nan)
                continue
            try:
                numbers[name] = numbers_of(table.columns[column])
            except RaggedError as error:
                row, problem = error.args
                raise DataError(
                    f"{table.place(row)}: column {column!r} {problem}, expected a number or nothing"
                ) from None
        return numbers, lacking


def _vectors(table: Table, column: str, width: int) -> NDArray[np.float64]:
    values = table.columns[column]
    try:
        array = vectors_of(values)
    except RaggedError as error:
        row, problem = error.args
        raise DataError(f"{table.place(row)}: column {column!r} {problem}") from None
    if array is None and all(v is None for v in values):
        return np.full((len(table), width), np.nan)
    got = "something else" if array is None else f"lists of {array.shape[1]}"
    if array is None or array.shape[1] != width:
        raise DataError(
            f"{table.path}: expected lists of {width} numbers in column {column!r}, as the data had that was "
            f"learned from, got {got}"
        )
    return array
