"""Readers of run folders that other programs wrote, which reports show next to ours.

``bmmal`` and ``bmmal_groups`` read those of the code of "Towards Balanced Active Learning for Multimodal
Classification" (ACM MM 2023). That code leaves a folder ``<data set>-<strategy>-<seed>`` with one folder
``version_<r>`` per round: ``label.txt``, the sorted ids of all labeled samples; ``al_metrics.csv``, one
row ``round k`` for each round so far; and ``hparams.yaml``, the settings.
"""

from __future__ import annotations

from rlmba.experiments.foreign.bmmal import BmmalRun, is_bmmal_run, read_bmmal_run
from rlmba.experiments.foreign.bmmal_groups import group_bmmal

__all__ = ["BmmalRun", "group_bmmal", "is_bmmal_run", "read_bmmal_run"]
