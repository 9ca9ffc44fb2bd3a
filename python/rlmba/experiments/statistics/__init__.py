"""Statistics of learning curves: areas, paired tests, wins, ranks.

:func:`aubc`, :func:`labels_to_reach`, :func:`paired` and :func:`holm` work on arrays. :func:`compare_to`,
:func:`win_matrix` and :func:`rank` work on :class:`~rlmba.experiments.Group`. These compare only runs with
the same fusion and under the same conditions; their ``notes`` list what was left out or truncated.
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
