from __future__ import annotations

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of their own would only wait for each other. Read by libraries
    # when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def shared_data_dir() -> Path | None:
    """Real multimodal arrays beside the checkout (or RLMBA_TEST_DATA); None where they are absent."""
    named = os.environ.get("RLMBA_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = shared_data_dir()
    if folder is None:
        pytest.skip(
            "real data sets are not beside this checkout; set RLMBA_TEST_DATA to use a copy"
        )
    return folder
