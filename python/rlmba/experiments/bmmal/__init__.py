"""Run folders of BMMAL's own code, in the tables and curves of ours.

"Towards Balanced Active Learning for Multimodal Classification" (ACM MM 2023) leaves a folder
``<data set>-<strategy>-<seed>`` with a ``version_<r>`` a round: ``label.txt``, all ids labeled so far,
sorted; ``al_metrics.csv``, a row ``round k`` for each round so far; ``hparams.yaml``, its settings.
"""

from __future__ import annotations

from rlmba.experiments.bmmal.folder import BmmalRun, is_bmmal_run, read_bmmal_run
from rlmba.experiments.bmmal.groups import group_bmmal, read_groups

__all__ = ["BmmalRun", "group_bmmal", "is_bmmal_run", "read_bmmal_run", "read_groups"]
