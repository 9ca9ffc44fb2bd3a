"""Experiment trackers: TensorBoard, MLflow, Weights & Biases and Trackio.

Each tracker runs in a separate process, so a library that hangs, prints, or ends its process does not
affect the run.
"""

from __future__ import annotations

from rlmba.tracking.trackers import Trackers, require_trackers

__all__ = ["Trackers", "require_trackers"]
