from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(40, 9, dtype=dtype)
        d = torch.zeros(40, dtype=dtype)
        there = torch.ones((40, 2), dtype=torch.bool)
        kernels.fused_score([x, x], [0.5, 0.5], distances=d, backend=backend)
        kernels.fused_score([x, x], [0.5, 0.5], present=there, backend=backend)
