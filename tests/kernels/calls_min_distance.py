from __future__ import annotations

import torch

from rlmba import kernels
from rlmba.kernels.min_distance import triton_impl


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for capability in ((8, 0), (9, 0)):
        triton_impl._capability = lambda device, c=capability: c
        x = torch.zeros(300, 64)
        kernels.min_distance(x, x, backend=backend)
        kernels.min_distance(x, x, precision="tf32", backend=backend)
    half = x.bfloat16()
    kernels.min_distance(half, half, backend=backend)
    kernels.min_distance(half, x, backend=backend)
    kernels.min_distance(x.double()[:, :24], x.double()[:, :24], precision="bf16", backend=backend)
