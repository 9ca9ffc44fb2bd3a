"""``plain``: the plain torch implementations that ours are compared with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

__all__ = ["plain"]

_FILE = Path(__file__).parents[2] / "python" / "rlmba" / "experiments" / "selection" / "plain.py"


def _load() -> ModuleType:
    # Loaded by its file, because it needs only torch, while the packages around it need pydantic
    # and more, which a GPU machine may lack.
    spec = importlib.util.spec_from_file_location("rlmba_plain", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = _load()
