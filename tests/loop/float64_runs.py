"""Runs whose networks compute in float64, as float64.py says why; as a script, the command line."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "training"))

from float64 import in_float64

from rlmba.loop import network, trained


def networks_in_float64(patch):
    """Have runs of this process build and load such networks; ``patch`` is a ``pytest.MonkeyPatch``."""
    for module in (network, trained):
        patch.setattr(module, "build_classifier", _built(module.build_classifier))


def _built(build):
    return lambda *given, **options: in_float64(build(*given, **options))


if __name__ == "__main__":
    from rlmba.cli import main

    network.build_classifier = _built(network.build_classifier)
    sys.exit(main())
