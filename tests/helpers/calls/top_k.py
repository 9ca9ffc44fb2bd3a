from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        kernels.top_k(torch.zeros(3000, dtype=dtype), 20, backend=backend)
    kernels.top_k(torch.zeros(3000), 2000, backend=backend)
    kernels.top_k(torch.zeros(1), 1, backend=backend)
