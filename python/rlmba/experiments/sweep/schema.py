"""The schema of a comparison, and reading it from a file or from values."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rlmba.config import strategy_preset, strategy_preset_names, yaml12
from rlmba.errors import UsageError
from rlmba.experiments.sweep.ablations import ABLATIONS
from rlmba.plugins import short_name

__all__ = ["DatasetEntry", "StrategyEntry", "SweepConfig", "load_sweep", "read_sweep_file"]


class _SweepSection(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class DatasetEntry(_SweepSection):
    """A data set of the comparison. A plain string is its ``dataset``, or its ``data`` if it ends in .npz."""

    dataset: str = "features"
    """A registered data set."""
    name: str | None = None
    """The name of its folder; null: the name of the file without its suffix, or ``dataset``."""
    data: Path | None = None
    """The file of the data set, for data sets that are read from a file."""
    data_root: Path | None = None
    """The folder of the data set, for data sets that are read from a folder."""
    preset: str | None = None
    """A preset to use instead of the data set's own."""
    settings: dict[str, Any] = {}
    """Settings of all runs on it; they override the common ones."""


class StrategyEntry(_SweepSection):
    """A strategy of the comparison.

    A plain string is its ``strategy``, or the name of an ablation or of a strategy preset.
    """

    strategy: str
    """A registered strategy."""
    label: str | None = None
    """Its name in tables, figures and folders; null: ``strategy``."""
    options: dict[str, Any] = {}
    """Options of the strategy; `rlmba strategies` lists them."""
    settings: dict[str, Any] = {}
    """Settings of all runs of it; they override those of the data set."""

    @property
    def name(self) -> str:
        """Its label, or the strategy's name, of module:Class the class alone."""
        return self.label or short_name(self.strategy)


def _entry(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return {"data": value} if value.endswith(".npz") else {"dataset": value}


def _variant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value in strategy_preset_names():
        settings = strategy_preset(value)
        return {
            "strategy": settings.pop("strategy"),
            "label": settings.pop("label"),
            "options": settings.pop("strategy_options", {}),
            "settings": settings,
        }
    if value not in ABLATIONS:
        return {"strategy": value}
    ablation = ABLATIONS[value]
    return {
        "strategy": "rlmba",
        "label": value,
        "options": dict(ablation.options),
        "settings": dict(ablation.settings),
    }


_MOST_SEEDS = 10_000


def _seeds(value: Any) -> Any:
    if isinstance(value, int):
        return [value]
    if not isinstance(value, str):
        return value
    seeds: list[int] = []
    for part in value.split(","):
        span = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if last < first:
            raise ValueError(
                f"expected numbers and ascending ranges such as 0-7 or 0,2,5-7, got {value!r}"
            )
        if last - first >= _MOST_SEEDS:
            raise ValueError(f"expected ranges of at most {_MOST_SEEDS:,} seeds, got {part!r}")
        seeds += range(first, last + 1)
    return seeds


def _list(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping)) else value


class SweepConfig(_SweepSection):
    """A comparison: all strategies on all data sets, with all fusions, predictors and seeds."""

    datasets: Annotated[
        list[Annotated[DatasetEntry, BeforeValidator(_entry)]], BeforeValidator(_list)
    ] = Field([DatasetEntry(dataset="digits")], min_length=1)
    """Data sets: names, .npz files, or mappings with their own settings."""
    strategies: Annotated[
        list[Annotated[StrategyEntry, BeforeValidator(_variant)]], BeforeValidator(_list)
    ] = []
    """Strategies and ablations: names, or mappings with their own label, options and settings."""
    fusions: Annotated[
        list[Literal["amcb", "adaptive", "uniform", "concat"]], BeforeValidator(_list)
    ] = Field(["amcb"], min_length=1)
    """Fusions; strategies are compared within each."""
    predictors: Annotated[list[Literal["fused", "pooled"]], BeforeValidator(_list)] = Field(
        ["fused"], min_length=1
    )
    """Predictors; strategies are compared within each."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_seeds)] = Field(
        [0, 1, 2, 3, 4], min_length=1
    )
    """Seeds: a list, or ranges such as "0-7"."""
    ablations: bool = False
    """Add every built-in ablation of ``rlmba``, and ``rlmba`` itself."""
    settings: dict[str, Any] = {}
    """Settings of all runs, by dotted or nested key."""
    overrides: dict[str, Any] = {}
    """Settings that override those of data sets and strategies, such as the command line's ``--set``."""


def read_sweep_file(file: Path) -> dict[str, Any]:
    """Read a YAML file of a comparison without checking its values.

    Raises
    ------
    UsageError
        If it cannot be read, is not YAML, or is not a mapping.
    """
    try:
        values = yaml12.read(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}); check the path") from error
    if values is not None and not isinstance(values, dict):
        raise UsageError(
            f"{file}: expected keys and values (`seeds: 0-7`), got a {type(values).__name__}"
        )
    return values or {}


def load_sweep(values: Mapping[str, Any]) -> SweepConfig:
    """Check the values of a comparison.

    Raises
    ------
    UsageError
        With one line per problem.

    Examples
    --------
    >>> sweep = load_sweep({"strategies": ["random", "greedy"], "seeds": "0-2,7"})
    >>> [(s.name, s.strategy) for s in sweep.strategies], sweep.seeds
    ([('random', 'random'), ('greedy', 'rlmba')], [0, 1, 2, 7])
    """
    try:
        return SweepConfig.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        lines = [_explain(dict(e)) for e in error.errors(include_url=False)]
        raise UsageError("\n".join(lines)) from error


_SECTIONS: Mapping[str, type[BaseModel]] = {"datasets": DatasetEntry, "strategies": StrategyEntry}


def _explain(error: Mapping[str, Any]) -> str:
    location = [step for step in error["loc"] if not str(step).startswith("function-")]
    key = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        section = _SECTIONS.get(str(location[0]), SweepConfig) if location[1:] else SweepConfig
        known = list(section.model_fields)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else "."
        return f"comparison: unknown key {key!r}{guess} Keys: {', '.join(known)}"
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}"
    wanted = str(error["msg"]).replace("Input should be", "expected")
    return f"{key}: {wanted}, got {error['input']!r}"
