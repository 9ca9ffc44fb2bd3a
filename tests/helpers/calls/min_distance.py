from __future__ import annotations

import contextlib

import torch

from rlmba import kernels
from rlmba.errors import DataError
from rlmba.kernels.min_distance import triton_impl


def call(*arrays, **options):
    # Nothing is computed: distances are what memory held, and may count as an overflow.
    with contextlib.suppress(DataError):
        kernels.min_distance(*arrays, **options)


def calls(backend):
    """Launches that together meet every kernel of the operation, as small as they can be."""
    for capability in ((8, 0), (9, 0)):
        triton_impl._capability = lambda device, c=capability: c
        x = torch.zeros(300, 64)
        call(x, x, backend=backend)
        call(x, x, precision="tf32", backend=backend)
    half = x.bfloat16()
    call(half, half, backend=backend)
    call(half, x, backend=backend)
    call(x.double()[:, :24], x.double()[:, :24], precision="bf16", backend=backend)
