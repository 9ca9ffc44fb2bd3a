from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        parts = [torch.zeros(40, 9, dtype=dtype)] * 2
        labels = torch.zeros(40, dtype=torch.int64)
        kernels.shapley_contributions(parts, labels, backend=backend)
        there = torch.ones((40, 2), dtype=torch.bool)
        kernels.shapley_contributions(parts, labels, present=there, backend=backend)
