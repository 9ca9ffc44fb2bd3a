"""Read a new table in the same way as the table that a network was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.manifest.columns import FEATURES, Columns, find_id, named
from rlmba.data.manifest.options import MEDIA, SOUND_FORMS, Options
from rlmba.data.manifest.scale import Scale
from rlmba.data.manifest.values import (
    DECIMALS,
    PLAIN,
    Notation,
    RaggedError,
    notation_of,
    numbers_of,
    vectors_of,
)
from rlmba.data.media.content import Recipe
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning, UsageError

__all__ = ["Reading"]


class Reading:
    """How a table was read: the content of :meth:`~rlmba.data.MultimodalDataset.reading`.

    Parameters
    ----------
    reading : mapping

    Attributes
    ----------
    modalities : tuple of str
    recipe : Recipe
    scales : mapping of modality to Scale
    text_is_file, sound : bool
    audio : str
        One of :data:`~rlmba.data.manifest.options.SOUND_FORMS`.

    Raises
    ------
    UsageError
        If the mapping is not the ``reading()`` of such a data set.
    """

    def __init__(self, reading: Mapping[str, Any]) -> None:
        try:
            recipe = dict(reading["recipe"])
            recipe["frame_size"] = tuple(recipe["frame_size"])
            self.recipe = Recipe(**recipe)
            self.modalities = tuple(reading["modalities"])
            self.scales = {m: Scale.from_dict(s) for m, s in reading["scales"].items()}
            self.text_is_file, self.sound = bool(reading["text_is_file"]), bool(reading["sound"])
            # Stored by earlier versions without this entry.
            self.audio = str(reading.get("audio", "spectrogram"))
            if self.audio not in SOUND_FORMS:
                raise ValueError(f"audio: {self.audio}")
            self._id = str(reading["id"])
            self._columns = dict(reading["columns"])
            self._numbers = tuple(reading["numbers"])
            # Folders of earlier versions have no notations.
            self._notations = {c: Notation(**n) for c, n in reading.get("notations", {}).items()}
            if not {n.decimal for n in self._notations.values()} <= {"", *DECIMALS}:
                raise ValueError("an unknown decimal sign")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"option reading: expected the reading() of a data set that was a table, got a mapping "
                f"that lacks or damages a part ({error!r}); take it from that data set"
            ) from error

    def columns(self, table: Table, options: Options) -> Columns:
        """Identify the columns of a new table. All rows lack a modality that has no column.

        Raises
        ------
        DataError
            If the table has no ids or none of the modalities, or a column holds other values.
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
                f"{table.path}: expected columns {lacking}, as in the training data, got "
                f"{list(table.columns)}; rename them, or match them with the option columns"
            )
        if lacking:
            warnings.warn(
                f"{table.path} lacks the columns {lacking} of the training data; they count as missing in "
                "every row",
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
        """Columns of single numbers, with NaN for a column that is not there; and those names."""
        numbers: dict[str, NDArray[np.float64]] = {}
        lacking = []
        for name in self._numbers:
            column = named(table, name)
            if column is None:
                lacking.append(name)
                numbers[name] = np.full(len(table), np.nan)
                continue
            numbers[name] = self._numbers_of(table, column, self._notations.get(name, PLAIN))
        return numbers, lacking

    @staticmethod
    def _numbers_of(table: Table, column: str, before: Notation) -> NDArray[np.float64]:
        """The numbers of a column, in the notation of the training data, or in one that cannot be doubted."""
        cells = table.columns[column]
        try:
            return numbers_of(cells, before)
        except RaggedError as error:
            first = error
        with suppress(RaggedError):
            now = notation_of(cells)
            if now.percent == before.percent:
                return numbers_of(cells, now)
        row, problem = first.args
        raise DataError(
            f"{table.place(row)}: column {column!r} {problem}, expected a number"
            f"{' with a percent sign' * before.percent} or an empty cell, written as in the training data"
        )


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
            f"{table.path}: expected lists of {width} numbers in column {column!r}, as in the training "
            f"data, got {got}"
        )
    return array
