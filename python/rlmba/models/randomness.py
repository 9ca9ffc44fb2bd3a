"""Seeding of torch's global generators within a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["seeded"]


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block with torch's global generators of the CPU and of ``device`` set to ``seed``.

    Initial weights and dropout can only use torch's global generators. Their states are restored at
    the end of the block, also after an exception.
    """
    place = torch.device(device)
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield
