"""The plugin of FiftyOne's App; the operator is in :mod:`rlmba.adapters.fiftyone_operator`."""

from typing import Any


def register(plugin: Any) -> None:
    """Called by FiftyOne, which is imported only then."""
    from rlmba.adapters.fiftyone_operator import SelectSamples

    plugin.register(SelectSamples)
