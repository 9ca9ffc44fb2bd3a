"""Runs whose networks compute in float64, as float64.py says why; as a script, the command line."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from rlmba.errors import CheckpointError
from rlmba.learner import network, trained
from tests.helpers.float64 import in_float64


def networks_in_float64(patch):
    """Have runs of this process build and load such networks; ``patch`` is a ``pytest.MonkeyPatch``."""
    for module in (network, trained):
        patch.setattr(module, "build_classifier", _built(module.build_classifier))
    patch.setattr(trained, "assign_tensors", _loaded(trained.assign_tensors))


def _built(build):
    return lambda *given, **options: in_float64(build(*given, **options))


def _loaded(load):
    """Weights of a run in float32 too, whose type a checkpoint's reader does not change by itself."""

    def loaded(path, model, tensors):
        try:
            load(path, model, tensors)
        except CheckpointError:
            load(path, model.float(), tensors)
            model.double()

    return loaded


if __name__ == "__main__":
    from rlmba.cli import main

    network.build_classifier = _built(network.build_classifier)
    sys.exit(main())
