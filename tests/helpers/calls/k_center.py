from __future__ import annotations

import torch

from rlmba import kernels
from rlmba.kernels.common import device


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    device.capturing = lambda where: True  # what no kernel has written is not looked at
    for rows, width, dtype in (
        (3000, 512, torch.float32),
        (3000, 512, torch.bfloat16),
        (50, 3, torch.float64),
        (1, 1, torch.float64),
    ):
        x = torch.zeros(rows, width, dtype=dtype)
        kernels.k_center(x, min(rows, 2), backend=backend)
        kernels.k_center(
            x, min(rows, 2), labeled=torch.zeros(200, width, dtype=dtype), backend=backend
        )
