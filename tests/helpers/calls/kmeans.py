from __future__ import annotations

import torch

from rlmba.kernels.common import device
from rlmba.kernels.kmeans import on_device


def calls(backend):
    """Launches that together meet every kernel of the Lloyd steps, as small as they can be."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x = torch.zeros(300, 24, dtype=dtype)
        wide = device.result_dtype(x)
        clusters = on_device.Clusters(
            torch.zeros(4, 24, dtype=wide),
            torch.zeros(300, dtype=torch.float64),
            torch.zeros(300, dtype=torch.int64),
        )
        rows = device.Rows([x], x.device)
        on_device.lloyd(rows, dtype, clusters, 2, precision="exact", bad=device.flag(x.device))
