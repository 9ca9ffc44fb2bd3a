from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x = torch.zeros(3000, 3, dtype=dtype)
        kernels.minmax(x, backend=backend)
        kernels.minmax(x, mask=torch.ones(3000, 3, dtype=torch.bool), backend=backend)
    kernels.minmax(torch.zeros(3000), mask=torch.ones(3000, dtype=torch.bool), backend=backend)
