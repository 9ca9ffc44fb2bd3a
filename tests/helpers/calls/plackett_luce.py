from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        kernels.plackett_luce(torch.zeros(3000, dtype=dtype), 1500, rng=0, backend=backend)
    for n in (0, 1):
        kernels.plackett_luce(torch.zeros(1), n, rng=1, backend=backend)
