"""A block whose torch draws come from a seed and leave no trace outside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["seeded"]


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block with torch's global generators of the CPU and of ``device`` set to ``seed``.

    Initial weights and dropout draw from torch's global generators and cannot be handed another;
    their states are put back on leaving, also by an exception.
    """
    place = torch.device(device)
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield
