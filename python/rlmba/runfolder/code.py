"""Code that the files of a folder name, which runs only with the user's permission (:mod:`rlmba.trust`)."""

from __future__ import annotations

from rlmba.config import ModelConfig, RunConfig
from rlmba.plugins import is_target

__all__ = ["code_of", "encoder_code"]


def code_of(config: RunConfig) -> list[str]:
    """What a configuration asks to run: its data set, strategy and encoders of the form module:Class.

    Classes that installed packages register as entry points are not among them: the user has
    installed them. The annotator of a project is asked for by :func:`rlmba.annotators.acts`.

    Returns
    -------
    list of str
        As :mod:`rlmba.trust` keeps it.

    Examples
    --------
    >>> code_of(RunConfig(strategy="my_package:Mine")), code_of(RunConfig())
    (['run my_package:Mine'], [])
    """
    named = [f"run {name}" for name in (config.dataset, config.strategy) if is_target(name)]
    return list(dict.fromkeys([*named, *encoder_code(config.model)]))


def encoder_code(model: ModelConfig) -> list[str]:
    """The same of a network's encoders alone.

    Examples
    --------
    >>> encoders = {"a": {"name": "my_package:Net"}, "b": {"name": "torchvision:resnet18"}}
    >>> encoder_code(ModelConfig(encoders=encoders))
    ['run my_package:Net']
    """
    named = [e.name for e in model.encoders.values() if is_target(e.name)]
    if not named:
        return []
    from rlmba.models.registry import code_behind  # imports torch

    return [f"run {name}" for name in map(code_behind, named) if name]
