from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of herding and tile_radius."""
    for rows, width, given, dtype in (
        (300, 24, 70, torch.float32),
        (300, 24, 70, torch.bfloat16),
        (50, 3, 1, torch.float64),
        (1, 1, 1, torch.float32),
    ):
        x = {"a": torch.zeros(rows, width, dtype=dtype), "b": torch.zeros(rows, 8, dtype=dtype)}
        labeled = {name: part[:given] for name, part in x.items()}
        kernels.tile_radius(x, 3, backend=backend)
        for present in (None, torch.arange(2 * rows).reshape(rows, 2) % 3 > 0):
            kernels.herding(x, 1, radius=1.0, labeled=labeled, present=present, backend=backend)
