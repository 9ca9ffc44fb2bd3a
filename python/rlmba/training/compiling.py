"""Compiled encoders."""

from __future__ import annotations

import torch

from rlmba.errors import UsageError
from rlmba.models.classifier import MultimodalClassifier

__all__ = ["compile_encoders"]


def compile_encoders(model: MultimodalClassifier) -> None:
    """Compile a model's encoders with torch.compile, in place; names of weights stay.

    A trifle is compiled at once, so that a machine that cannot is found out before any work is done;
    the encoders are when they first run.

    Raises
    ------
    UsageError
        If nothing can be compiled here.
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
