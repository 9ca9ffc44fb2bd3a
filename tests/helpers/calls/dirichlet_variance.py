from __future__ import annotations

import torch

from rlmba import kernels


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for dtype in (torch.bfloat16, torch.float64):
        x = torch.zeros(40, 309, dtype=dtype)
        kernels.dirichlet_variance([x, x], kind="logits", backend=backend)
    x = torch.ones(40, 9)
    kernels.dirichlet_variance(x, kind="logits", backend=backend)
    kernels.dirichlet_variance([x] * 3, kind="logits", backend=backend)
    for evidence in ("exp", "relu"):
        kernels.dirichlet_variance(
            [x, x], kind="logits", evidence=evidence, temperature=0.7, backend=backend
        )
    kernels.dirichlet_variance([x, x], weights=torch.full((40, 2), 0.5), backend=backend)
