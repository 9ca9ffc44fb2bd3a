"""Statistics of learning curves: areas, paired tests, wins, ranks.

Functions on arrays first (:func:`aubc`, :func:`labels_to_reach`, :func:`paired`, :func:`holm`), then on
:class:`~rlmba.experiments.Group` (:func:`compare_to`, :func:`win_matrix`, :func:`rank`). Comparisons are
always under one fusion, and of runs tried under the same conditions; what they leave out or cut, they say
in their ``notes``.
"""

from __future__ import annotations

from rlmba.experiments.protocol import protocol_differences
from rlmba.experiments.statistics.comparable import Measure
from rlmba.experiments.statistics.comparing import (
    ALL_SETS,
    Comparison,
    Comparisons,
    compare_to,
)
from rlmba.experiments.statistics.measures import (
    AubcRule,
    aubc,
    deepal_summary,
    labels_to_reach,
)
from rlmba.experiments.statistics.ranking import (
    Ranking,
    WinMatrix,
    critical_difference,
    rank,
    win_matrix,
)
from rlmba.experiments.statistics.significance import (
    PairedTest,
    holm,
    paired,
    signed_rank,
)

__all__ = [
    "ALL_SETS",
    "AubcRule",
    "Comparison",
    "Comparisons",
    "Measure",
    "PairedTest",
    "Ranking",
    "WinMatrix",
    "aubc",
    "compare_to",
    "critical_difference",
    "deepal_summary",
    "holm",
    "labels_to_reach",
    "paired",
    "protocol_differences",
    "rank",
    "signed_rank",
    "win_matrix",
]
