"""Compiled encoders."""

from __future__ import annotations

import torch

from rlmba.errors import UsageError
from rlmba.models.classifier import MultimodalClassifier

__all__ = ["compile_encoders"]


def compile_encoders(model: MultimodalClassifier) -> None:
    """Compile a model's encoders in place with torch.compile; the names of weights are unchanged.

    A tiny function is compiled at once, so that a machine that cannot compile fails before any work
    is done. The encoders are compiled when they first run.

    Raises
    ------
    UsageError
        If torch.compile does not work on this machine.
    """
    try:
        torch.compile(_trifle)(torch.ones(8, device=model.device))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(
            "training.compile: expected a machine that torch.compile works on, which needs a C++ "
            f"compiler (g++ or $CXX) and, for a GPU, Triton, got: {(lines or [repr(error)])[0][:200]}; "
            "install what is missing or set training.compile=false"
        ) from error
    for encoder in model.encoders:
        encoder.compile()


def _trifle(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) + 1
