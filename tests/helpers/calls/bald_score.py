from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x = torch.full((3, 40, 9), 1 / 9, dtype=dtype)
        for kind in ("logits", "probabilities"):
            kernels.bald_score(x, kind=kind, backend=backend)
