from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(p.stem for p in HERE.glob("calls_*.py")))
def test_kernels_compile_to_machine_code_without_a_gpu(module):
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "compile_triton.py", module],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for architecture in ("sm_80", "sm_90"):
        assert architecture in done.stdout
