"""Send the report of a comparison to experiment trackers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlmba.config import flat
from rlmba.experiments.sweep.plan import SweepPlan
from rlmba.tracking import Trackers

__all__ = ["track_report"]


def track_report(plan: SweepPlan, output: Path, report: Path, files: Sequence[Path]) -> None:
    """Send the report of a comparison to the trackers of its runs. There, the report is a separate run.

    Parameters
    ----------
    plan : SweepPlan
    output : path
        The comparison's folder, in which the id of the separate run is stored.
    report : path
        The report's folder.
    files : sequence of path
        Files of the report.
    """
    names = dict.fromkeys(name for run in plan.runs for name in run.config.tracking)
    values = flat(plan.config.model_dump(mode="json"))
    name = f"comparison-{output.absolute().name}"
    with Trackers(output, list(names), name=name, config=values) as trackers:
        trackers.report(0, report, files)
