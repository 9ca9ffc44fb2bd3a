"""The trackers that a run's configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlmba.config import RunConfig, flat
from rlmba.tracking import Trackers

__all__ = ["tracked"]


def tracked(
    folder: Path, config: RunConfig, classes: Sequence[str] = (), *, name: str | None = None
) -> Trackers:
    """Return the trackers of a run, as a context manager. They get the configuration.

    The section ``project`` is left out, because it may contain texts for annotators, and options with
    secrets.

    Parameters
    ----------
    folder : path
        The run folder, open for writing.
    config : RunConfig
    classes : sequence of str [C]
    name : str or None
        The displayed name of the run; None: its data set, strategy and seed.

    Raises
    ------
    DataError
        If the folder's file about its trackers is damaged.
    """
    values = config.model_dump(mode="json", exclude={"project"})
    return Trackers(
        folder,
        config.tracking,
        name=name or f"{config.dataset}-{config.label or config.strategy}-seed{config.seed}",
        config=flat(values),
        classes=classes,
    )
