from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = sorted(p.stem for p in (ROOT / "tests/helpers/calls").glob("[!_]*.py"))


@pytest.mark.thorough
def test_kernels_compile_to_machine_code_without_a_gpu():
    """In one process: importing torch and Triton takes as long as compiling many a kernel."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.compile_triton", *CALLS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    operations = {path.parent.name for path in ROOT.glob("kernels/*/triton_*.py")}
    for operation in operations:
        for architecture in ("sm_80", "sm_90"):
            assert any(f".{operation}." in x and f" {architecture} " in x for x in lines), (
                operation,
                architecture,
            )
