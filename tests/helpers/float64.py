"""Networks in float64, in which two computations agree to many digits on every processor.

In float32 the order of sums, which differs between processors, libraries, batch sizes and numbers of
threads, may change a deep or a trained network's results in their third digit.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def in_float64(network: Network) -> Network:
    """Return the network with float64 parameters and buffers; it converts float32 inputs."""
    network.double()
    network.register_forward_pre_hook(lambda _, given: _double(given))
    return network


def _double(given: Any) -> Any:
    if isinstance(given, dict):
        return {k: _double(v) for k, v in given.items()}
    if isinstance(given, tuple):
        return tuple(map(_double, given))
    return given.double() if torch.is_tensor(given) and given.is_floating_point() else given


def dot_error(x: NDArray[Any], layer: nn.Linear) -> NDArray[np.float64]:
    """Bound on the error of float32 results of a linear layer, for any order of sums.

    ``x`` is [n, d] and the result [n, C]: (d + 2) u (|x| |W|' + |b|), u half a unit in the last place.
    """
    w, b = (p.detach().double().abs().numpy() for p in (layer.weight, layer.bias))
    terms = x.shape[1] + 2
    return terms * np.finfo(np.float32).eps / 2 * (np.abs(x).astype(np.float64) @ w.T + b)
