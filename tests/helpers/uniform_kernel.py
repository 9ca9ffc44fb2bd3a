from __future__ import annotations

import triton
import triton.language as tl

from rlmba.kernels.common.triton_device import uniform01


@triton.jit
def uniforms(seed, start, out):
    """128 draws of a seed from a number on."""
    index = tl.arange(0, 128)
    tl.store(out + index, uniform01(tl.load(seed), tl.load(start) + index))
