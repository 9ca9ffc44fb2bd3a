"""What may be asked of a table that becomes a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlmba.data.manifest.measures import SMALLEST
from rlmba.data.media.content import Recipe
from rlmba.errors import UsageError

__all__ = ["MEDIA", "LabelOptions", "Options", "crop_of", "set_option"]

MEDIA = ("text", "image", "video", "audio")
"""Modalities that come from files or texts, in the order a data set has them."""

_LARGEST_CROP = 224


@dataclass(frozen=True)
class LabelOptions:
    """What is read of labels; see :func:`rlmba.data.load_manifest` for each."""

    label: str = "label"
    split: str = "split"
    classes: tuple[str, ...] | None = None
    unlabeled: str = "keep"

    @classmethod
    def checked(
        cls, label: str, split: str, classes: Sequence[Any] | None, unlabeled: str
    ) -> LabelOptions:
        """Options as they came, checked.

        Raises
        ------
        UsageError
            If one is not what it can be.
        """
        if unlabeled not in ("keep", "drop"):
            raise UsageError(f'option unlabeled: expected "keep" or "drop", got {unlabeled!r}')
        names = None if classes is None else _class_names(classes)
        return cls(_column("label", label), _column("split", split), names, unlabeled)


@dataclass(frozen=True)
class Options:
    """What is read of samples; see :func:`rlmba.data.load_manifest` for each.

    ``columns`` maps modality to column, None for a modality that is not wanted; ``seconds``,
    ``image_side`` and ``tokens`` None mean measured.
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

    @classmethod
    def checked(
        cls,
        *,
        id: str,  # noqa: A002 - the option's name
        columns: Mapping[str, str | None] | None,
        features: Sequence[str] | None,
        root: str | Path | None,
        sound: bool,
        tokenizer: str,
        image_side: int | None,
        frames: int,
        seconds: float | None,
        sample_rate: int,
        tokens: int | None,
    ) -> Options:
        """Options as they came, checked.

        Raises
        ------
        UsageError
            If one is not what it can be.
        """
        if columns is not None and not isinstance(columns, Mapping):
            raise UsageError(
                f"option columns: expected modalities and their columns, such as "
                f"{{image: photo, text: caption}}, got {columns!r}"
            )
        for modality, column in (columns or {}).items():
            if not isinstance(modality, str) or not isinstance(column, str | None):
                raise UsageError(
                    f"option columns: expected the name of a column for each modality, null for "
                    f"none, got {modality!r}: {column!r}"
                )
        if features is not None and (
            isinstance(features, str) or not all(isinstance(f, str) for f in features)
        ):
            raise UsageError(
                f"option features: expected a list of columns, [] for none, got {features!r}"
            )
        if not isinstance(sound, bool):
            raise UsageError(f"option sound: expected true or false, got {sound!r}")
        side = SMALLEST if image_side is None else image_side
        numbers = {"image_side": side, "frames": frames, "sample_rate": sample_rate}
        least = {"image_side": SMALLEST, "frames": 2, "sample_rate": 1000, "tokens": 1}
        length = 1 if tokens is None else tokens
        for name, value in {**numbers, "tokens": length}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least[name]:
                raise UsageError(
                    f"option {name}: expected an integer >= {least[name]}, got {value!r}"
                )
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
            tokenizer=tokenizer,
        )
        return cls(
            id=_column("id", id),
            columns=dict(columns or {}),
            features=None if features is None else tuple(features),
            root=None if root is None else Path(root),
            sound=sound,
            recipe=recipe,
            seconds=None if seconds is None else float(seconds),
            image_side=image_side,
            tokens=tokens,
        )


def crop_of(image_side: int) -> int:
    """Side of the square that is cut from images: seven eighths of the shorter side, 224 at most."""
    return min(_LARGEST_CROP, round(image_side * 7 / 8))


def set_option(key: str, value: str) -> str:
    """How an option is given on the command line, for messages."""
    return f"`--set dataset_options.{key}={value}`"


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
    return names
