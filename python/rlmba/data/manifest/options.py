"""Options of the data sets ``manifest`` and ``huggingface``, checked."""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlmba.cells import one_line
from rlmba.data.manifest.measures import SMALLEST
from rlmba.data.manifest.values import DECIMALS
from rlmba.data.media.content import Recipe
from rlmba.errors import UsageError

__all__ = [
    "MEDIA",
    "SOUND_FORMS",
    "LabelOptions",
    "Options",
    "checked_options",
    "crop_of",
    "set_option",
]

MEDIA = ("text", "image", "video", "audio")
"""Modalities that come from files or texts, in the order they have in a data set."""

SOUND_FORMS = ("spectrogram", "waveform")
"""What the modality audio can be."""

_LARGEST_CROP = 224


@dataclass(frozen=True)
class LabelOptions:
    """Options about labels and splits; :func:`rlmba.data.load_manifest` explains each."""

    label: str = "label"
    split: str = "split"
    splits: Mapping[str, str | None] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    unlabeled: str = "keep"
    no_label: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """Options about samples; :func:`rlmba.data.load_manifest` explains each.

    ``columns`` maps each modality to its column, or to None if the modality is not wanted. If
    ``seconds``, ``image_side`` or ``tokens`` is None, it is measured on the data. ``shown_only`` and
    ``hidden`` are the options ``shown_columns`` and ``hidden_columns``.
    """

    id: str
    columns: Mapping[str, str | None]
    features: tuple[str, ...] | None
    root: Path | None
    sound: bool
    recipe: Recipe
    seconds: float | None
    image_side: int | None
    tokens: int | None
    audio: str = "spectrogram"
    encoding: str | None = None
    shown_only: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    decimal: str | None = None


def checked_options(
    *,
    id: str = "id",  # noqa: A002 - the name of the column, as people write it
    label: str = "label",
    split: str = "split",
    splits: Mapping[str, str | None] | None = None,
    columns: Mapping[str, str | None] | None = None,
    features: Sequence[str] | None = None,
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
    unlabeled: str = "keep",
    sound: bool = False,
    audio: str = "spectrogram",
    tokenizer: str | None = None,
    image_side: int | None = None,
    frames: int = 10,
    seconds: float | None = None,
    sample_rate: int = 16_000,
    tokens: int | None = None,
    encoding: str | None = None,
    no_label: Sequence[str | int | float] = (),
    shown_columns: Sequence[str] = (),
    hidden_columns: Sequence[str] = (),
    decimal: str | None = None,
) -> tuple[Options, LabelOptions]:
    """Check the options of a data set that is a table; :func:`rlmba.data.load_manifest` explains each.

    Raises
    ------
    UsageError
        If an option has a value that it cannot have.
    """
    _check_columns(columns, features)
    _check_names("shown_columns", shown_columns)
    _check_names("hidden_columns", hidden_columns)
    if decimal not in (None, *DECIMALS):
        raise UsageError(f"option decimal: expected point, comma or null, got {decimal!r}")
    if not isinstance(sound, bool):
        raise UsageError(f"option sound: expected true or false, got {sound!r}")
    if unlabeled not in ("keep", "drop"):
        raise UsageError(f'option unlabeled: expected "keep" or "drop", got {unlabeled!r}')
    if audio not in SOUND_FORMS:
        raise UsageError(
            f"option audio: expected {' or '.join(map(repr, SOUND_FORMS))}, got {audio!r}"
        )
    side = SMALLEST if image_side is None else image_side
    length = 1 if tokens is None else tokens
    _check_integer("image_side", side, SMALLEST)
    _check_integer("frames", frames, 2)
    _check_integer("sample_rate", sample_rate, 1000)
    _check_integer("tokens", length, 1)
    if seconds is not None and (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not math.isfinite(seconds)
        or seconds <= 0
    ):
        raise UsageError(f"option seconds: expected a number above 0 or null, got {seconds!r}")
    recipe = Recipe(
        image_side=side,
        frames=frames,
        sample_rate=sample_rate,
        tokens=length,
        tokenizer=tokenizer or "",
    )
    options = Options(
        id=_column("id", id),
        columns=dict(columns or {}),
        features=None if features is None else tuple(features),
        root=None if root is None else Path(root),
        sound=sound,
        recipe=recipe,
        seconds=None if seconds is None else float(seconds),
        image_side=image_side,
        tokens=tokens,
        audio=audio,
        encoding=_known_encoding(encoding),
        shown_only=tuple(shown_columns),
        hidden=tuple(hidden_columns),
        decimal=decimal,
    )
    names = None if classes is None else _class_names(classes)
    return options, LabelOptions(
        _column("label", label),
        _column("split", split),
        _meanings(splits),
        names,
        unlabeled,
        _label_values(no_label),
    )


def _meanings(splits: Any) -> dict[str, str | None]:
    if not isinstance(splits, Mapping | None) or not all(
        isinstance(k, str) and isinstance(v, str | None) for k, v in (splits or {}).items()
    ):
        raise UsageError(
            "option splits: expected names of splits and what they mean, such as "
            f"{{holdout: test, old: null}}, got {splits!r}"
        )
    return dict(splits or {})


def _label_values(values: Any) -> tuple[str, ...]:
    right = isinstance(values, list | tuple) and all(
        isinstance(v, str | int | float) and not isinstance(v, bool) for v in values
    )
    if not right:
        raise UsageError(
            f"option no_label: expected a list of the values that mean no label, such as [-1], got {values!r}"
        )
    return tuple(str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values)


def _known_encoding(name: Any) -> str | None:
    if name is None:
        return None
    try:
        return codecs.lookup(name).name
    except (LookupError, TypeError) as error:
        raise UsageError(
            f"option encoding: expected the name of an encoding, such as gb18030, or null, got {name!r}"
        ) from error


def crop_of(image_side: int) -> int:
    """Side of the square that is cut from an image: 7/8 of the shorter side, at most 224 pixels."""
    return min(_LARGEST_CROP, round(image_side * 7 / 8))


def set_option(key: str, value: str) -> str:
    """The command-line setting of a data set option, for messages."""
    return f"`--set dataset_options.{key}={value}`"


def _check_columns(columns: Any, features: Any) -> None:
    if columns is not None and not isinstance(columns, Mapping):
        raise UsageError(
            f"option columns: expected modalities and their columns, such as "
            f"{{image: photo, text: caption}}, got {columns!r}"
        )
    for modality, column in (columns or {}).items():
        if not isinstance(modality, str) or not isinstance(column, str | None):
            raise UsageError(
                f"option columns: expected the name of a column for each modality, or null for "
                f"none, got {modality!r}: {column!r}"
            )
    if features is not None:
        _check_names("features", features)


def _check_names(option: str, names: Any) -> None:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"option {option}: expected a list of columns, or [] for none, got {names!r}"
        )


def _check_integer(option: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"option {option}: expected an integer >= {least}, got {value!r}")


def _column(option: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise UsageError(f"option {option}: expected the name of a column, got {name!r}")
    return name


def _class_names(classes: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(classes, str) or not all(
        isinstance(c, str | int) and not isinstance(c, bool) for c in classes
    ):
        raise UsageError(f"option classes: expected a list of class names, got {classes!r}")
    names = tuple(str(c).strip() for c in classes)
    if not names or not all(names) or len(set(names)) != len(names):
        raise UsageError(f"option classes: expected distinct, non-empty names, got {list(classes)}")
    for name in names:
        if problem := one_line(name):
            raise UsageError(f"option classes: class {name[:80]!r}: {problem}; rename it")
    return names
