from __future__ import annotations

import torch

from rlmba import kernels
from rlmba.kernels.min_distance import triton_impl


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for capability in ((8, 0), (9, 0)):
        triton_impl._capability = lambda device, c=capability: c
        for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
            for width in (24, 64):
                x = torch.zeros(300, width, dtype=dtype)
                for precision in ("exact", "tf32", "bf16"):
                    kernels.min_distance(x, x, precision=precision, backend=backend)
                kernels.min_distance(x, x.float(), backend=backend)
