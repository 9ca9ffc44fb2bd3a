"""The sources of a run's configuration, and the errors about them.

In ascending order of precedence, they are the schema's defaults, a preset (that of the data set, or one
given by name), a YAML file, command-line flags, and ``--set KEY=VALUE``. Mappings are merged key by key;
all other values are replaced. A source may set ``strategy`` to the name of a strategy preset, which stands
for a strategy with its own options and settings.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rlmba.config import yaml12
from rlmba.config.describe import expected, field_at, keys
from rlmba.config.earlier import with_present_keys
from rlmba.config.schema import BUDGET_KEYS, RunConfig
from rlmba.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = [
    "dump_config",
    "load_config",
    "parse_settings",
    "preset_names",
    "strategy_preset",
    "strategy_preset_names",
]

# A name, and the options that belong to it.
_OWNED = (("dataset", "dataset_options"), ("strategy", "strategy_options"))


@dataclass(frozen=True)
class _ConfigSource:
    name: str
    values: dict[str, Any]


def _presets() -> Traversable:
    return resources.files("rlmba.config") / "presets"


def preset_names() -> tuple[str, ...]:
    """Names of all presets, sorted. A data set's default preset has its name; others name the data set."""
    return _yaml_names(_presets())


def _yaml_names(folder: Traversable) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


def strategy_preset_names() -> tuple[str, ...]:
    """Names of the presets that stand for a strategy with its own settings, sorted."""
    return _yaml_names(_presets() / "strategies")


def strategy_preset(name: str) -> dict[str, Any]:
    """The settings that the strategy preset ``name`` stands for: ``strategy``, ``label`` and others.

    Wherever a source sets ``strategy`` to the name of such a preset, it gets these settings.
    """
    source = f"preset strategies/{name}.yaml"
    text = (_presets() / "strategies" / f"{name}.yaml").read_text(encoding="utf-8")
    return {"label": name, **_mapping(yaml12.parse(text, source), source)}


def _with_strategy_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Expand the name of a strategy preset; other settings of the same source take precedence."""
    name = values.get("strategy")
    if name not in strategy_preset_names():
        return values
    own = {k: v for k, v in values.items() if k != "strategy"}
    return _merge(strategy_preset(name), own)


def _mapping(values: Any, source: str) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"{source}: expected keys and values (`rounds: 8`), got a {type(values).__name__}"
        )
    return values


def _from_file(file: Path) -> _ConfigSource:
    try:
        values = yaml12.read(file)
    except OSError as error:
        raise UsageError(
            f"{file}: cannot read the configuration file ({error.strerror}); check the path"
        ) from error
    return _ConfigSource(str(file), _mapping(values, str(file)))


def _nested(key: str, value: Any, into: dict[str, Any], given: str) -> None:
    steps = key.split(".")
    if not all(step and step == step.strip() for step in steps):
        raise UsageError(
            f"{given!r}: expected KEY=VALUE with KEY like rounds or amcb.tau, got {key!r}"
        )
    for step in steps[:-1]:
        inner = into.get(step)
        if not isinstance(inner, dict):
            inner = into[step] = {}
        into = inner
    into[steps[-1]] = value


def _from_settings(settings: Sequence[str]) -> _ConfigSource:
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not text.strip():
            raise UsageError(
                f"{setting!r}: expected KEY=VALUE, such as rounds=5; KEY=null for no value"
            )
        _nested(key.strip(), yaml12.parse(text, f"--set {setting!r}"), values, setting)
    return _ConfigSource("--set", values)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` settings into nested mappings, as ``--set`` does; later ones take precedence.

    Raises
    ------
    UsageError
        If a setting is malformed. :func:`load_config` checks the keys.

    Examples
    --------
    >>> parse_settings(["amcb.tau=5e-1", "rounds=3"])
    {'amcb': {'tau': 0.5}, 'rounds': 3}
    """
    return _from_settings(settings).values


def _from_layer(name: str, layer: Mapping[str, Any]) -> _ConfigSource:
    values: dict[str, Any] = {}
    for key, value in layer.items():
        _nested(key, copy.deepcopy(value), values, f"{name}: {key}")
    return _ConfigSource(name, values)


def _from_flags(overrides: Mapping[str, Any]) -> _ConfigSource:
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        if value is not None:
            _nested(key, value, values, key)
    return _ConfigSource("command line", values)


def _with_encoder_names(values: dict[str, Any]) -> dict[str, Any]:
    """Expand ``encoders: {image: cnn}`` to ``encoders: {image: {name: cnn}}``."""
    model = values.get("model")
    if isinstance(model, dict) and isinstance(model.get("encoders"), dict):
        encoders = {
            m: {"name": e} if isinstance(e, str) else e for m, e in model["encoders"].items()
        }
        return {**values, "model": {**model, "encoders": encoders}}
    return values


def _renamed(base: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    return key in new and new[key] != base.get(key)


def _replaced_budgets(new: Mapping[str, Any]) -> Iterator[str]:
    """Keys of lower sources that say in another way how many labels a run has."""
    given = [keys for keys in BUDGET_KEYS if any(new.get(key) is not None for key in keys)]
    if given:  # two ways in one source are an error, whose message must not name lower sources
        yield from (k for keys in BUDGET_KEYS if keys not in given or len(given) > 1 for k in keys)


def _merge(
    base: dict[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    merged = dict(base)
    if not path:
        for name, options in _OWNED:
            if _renamed(base, new, name):
                merged.pop(options, None)
        for key in _replaced_budgets(new):
            merged.pop(key, None)
    elif path[:-1] == ("model", "encoders") and _renamed(base, new, "name"):
        merged = {}
    for key, value in new.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            merged[key] = _merge(old, value, (*path, key))
        else:
            merged[key] = value
    return merged


def load_config(
    *,
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    preset: str | None = None,
    layers: Sequence[tuple[str, Mapping[str, Any]]] = (),
    base: tuple[str, Mapping[str, Any]] | None = None,
) -> RunConfig:
    """Merge all sources of configuration and check the result.

    Options belong to a name. So if a source changes ``dataset``, ``strategy`` or the ``name`` of an
    encoder, the ``dataset_options``, ``strategy_options`` or encoder options of the sources below it are
    dropped. In the same way, ``budgets`` or ``budgets_per_class`` drops ``rounds``, ``batch_size`` and
    ``initial_labels`` of the sources below it, and the other way round.

    Parameters
    ----------
    file : Path or None
        A YAML file (``--config``). Relative paths in it are relative to the working folder.
    overrides : mapping of dotted key to value
        Command-line flags; None means that a flag was not given.
    settings : sequence of str
        ``KEY=VALUE`` (``--set``); later ones take precedence. KEY may be dotted. VALUE is YAML 1.2: bare
        words are text, ``[a, b]`` is a list, ``null`` is no value, ``1e-3`` is a number.
    preset : str or None
        One of :func:`preset_names` (``--preset``), instead of the default preset of the data set. It also
        sets the data set, which no other source may change.
    layers : sequence of (str, mapping)
        Sources between the file and the flags; later ones take precedence. Each is a name for error
        messages, and values by dotted or nested key.
    base : (str, mapping) or None
        A name and a complete configuration, which replaces the defaults and the default preset.

    Returns
    -------
    RunConfig
        The checked, frozen configuration.

    Raises
    ------
    UsageError
        With one line per problem: an unknown key (with the nearest valid one), a value of the wrong type
        or out of range, a malformed setting, an unreadable or malformed file, an unknown preset, or a
        preset of another data set.

    Examples
    --------
    >>> config = load_config(overrides={"seed": 3}, settings=["amcb.tau=5e-1"])
    >>> config.seed, config.amcb.tau
    (3, 0.5)
    """
    given = [] if base is None else [_from_layer(*base)]
    given += [] if file is None else [_from_file(file)]
    given += [_from_layer(*layer) for layer in layers]
    given += [_from_flags(overrides or {}), _from_settings(settings)]
    named = [s for s in given if "dataset" in s.values]
    if preset is None and base is not None:
        sources = given
    elif preset is None:
        default = RunConfig.model_fields["dataset"].default
        sources = [*_preset_of(named[-1].values["dataset"] if named else default), *given]
    else:
        chosen = _preset(preset)
        _check_same_dataset(preset, chosen, named)
        sources = [chosen, *given]
    merged: dict[str, Any] = {name: RunConfig.model_fields[name].default for name, _ in _OWNED}
    for source in sources:
        merged = _merge(merged, _with_encoder_names(_with_strategy_preset(source.values)))
    text = json.dumps(with_present_keys(merged), default=str, ensure_ascii=False)
    _require_text(text)
    try:
        # Strict JSON mode keeps the types that YAML has given, and still reads paths from text.
        return RunConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        problems = [_explain(dict(e), sources) for e in error.errors(include_url=False)]
        raise UsageError("\n".join(problems)) from error


def _require_text(text: str) -> None:
    """Raise if a value, such as the name of a file, is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 30) : error.end + 20]
        raise UsageError(
            f"expected settings in UTF-8, got other bytes in {near!a}; rename the file, or give its "
            "folder by a link with another name"
        ) from error


def _preset(name: str) -> _ConfigSource:
    known = preset_names()
    if name not in known:
        raise UsageError(f"preset: expected one of {', '.join(known)}, got {name!r}")
    source = f"preset {name}.yaml"
    text = (_presets() / f"{name}.yaml").read_text(encoding="utf-8")
    values = _mapping(yaml12.parse(text, source), source)
    return _ConfigSource(source, {"dataset": name, **values})


def _preset_of(dataset: Any) -> Iterator[_ConfigSource]:
    """The default preset of a data set, which has its name, unless it is for another data set."""
    if dataset in preset_names():
        source = _preset(dataset)
        if source.values["dataset"] == dataset:
            yield source


def _check_same_dataset(preset: str, base: _ConfigSource, named: Sequence[_ConfigSource]) -> None:
    for source in named:
        if source.values["dataset"] != base.values["dataset"]:
            raise UsageError(
                f"preset {preset!r} is for data set {base.values['dataset']!r}, "
                f"got {source.values['dataset']!r} ({source.name}); drop one of them"
            )


def _origin(location: Sequence[str | int], sources: Sequence[_ConfigSource]) -> str:
    for source in reversed(sources):
        value: Any = source.values
        for step in location:
            if not isinstance(value, Mapping) or step not in value:
                break
            value = value[step]
        else:
            return f" ({source.name})"
        if not isinstance(value, Mapping) and value is not source.values:
            return f" ({source.name})"
    return ""


def _explain(error: dict[str, Any], sources: Sequence[_ConfigSource]) -> str:
    location: tuple[str | int, ...] = error["loc"]
    key = ".".join(map(str, location))
    origin = _origin(location, sources)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}{origin}{_nearest(location)}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    found = field_at(location)
    wanted = expected(*found) if found is not None else str(error["msg"])
    return f"{key}: expected {wanted}, got {error['input']!r}{origin}"


def _nearest(location: Sequence[str | int]) -> str:
    section = ".".join(map(str, location[:-1]))
    prefix = f"{section}." if section else ""
    every = [key.name for key in keys()]
    here = sorted({n[len(prefix) :].split(".")[0] for n in every if n.startswith(prefix)})
    wrong = str(location[-1])
    close = [prefix + n for n in difflib.get_close_matches(wrong, here, n=1)]
    # A key of another section, such as `tau` for `amcb.tau`.
    close += [n for n in every if n.rpartition(".")[2] == wrong]
    close += [n for n in difflib.get_close_matches(prefix + wrong, every, n=1) if n not in close]
    guess = f"; did you mean {close[0]!r}?" if close else "."
    where = f"keys of {section}" if section else "keys"
    return f"{guess} {where[0].upper()}{where[1:]}: {', '.join(here)}"


def dump_config(config: RunConfig) -> str:
    """The whole configuration as YAML, in the order of the schema.

    :func:`load_config` reads an equal configuration from it, and equal configurations give the same text.
    """
    return yaml12.dump(_plain(config.model_dump()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
