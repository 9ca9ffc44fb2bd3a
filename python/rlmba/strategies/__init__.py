"""Query strategies: one contract, and one file for each strategy.

They read :class:`~rlmba.types.PoolOutputs` and :class:`~rlmba.types.QueryContext`, which hold arrays
only, so that any active-learning code can call them:

>>> import numpy as np
>>> from rlmba.strategies import create
>>> from rlmba.types import PoolOutputs, QueryContext
>>> rng = np.random.default_rng(0)
>>> z, f = rng.normal(size=(50, 3)), rng.normal(size=(50, 8))
>>> pool = PoolOutputs(ids=np.arange(50).astype(str), features={"image": f}, logits={"image": z},
...                    fused_features=f, fused_logits=z)
>>> len(create("rlmba").query(pool, QueryContext(rng=rng), 5))
5
"""

from __future__ import annotations

from rlmba.strategies.base import NEEDS, Choice, Feedback, Stages, Strategy
from rlmba.strategies.registry import create, describe, names, options

__all__ = [
    "NEEDS",
    "Choice",
    "Feedback",
    "Stages",
    "Strategy",
    "create",
    "describe",
    "names",
    "options",
]
