"""Code compiled for one instruction set must not be what another one, or the bindings, run.

The linker keeps one copy of each weak function. If an object compiled for AVX-512 defines one outside
its own namespace (an instance of a std:: template over plain types), that copy may be called on a CPU
without AVX-512.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "build"
ISAS = ["generic", "avx2", "avx512"]


def shared_functions(nm_output: str, isa: str) -> list[str]:
    """Functions that other objects can see and that lie outside rlmba::<isa>."""
    found = []
    for line in nm_output.splitlines():
        kind, _, name = line[17:].partition(" ")
        if kind in ("W", "T", "u", "i") and f"rlmba::{isa}::" not in name:
            found.append(name)
    return found


@pytest.mark.parametrize("isa", ISAS)
def test_objects_define_no_function_outside_their_namespace(isa):
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not installed")
    objects = sorted(BUILD.glob(f"*/CMakeFiles/rlmba_cpu_{isa}.dir/**/*.o"))
    if not objects:
        pytest.skip(f"no {isa} objects under {BUILD}: not an editable install from this checkout")
    for path in objects:
        out = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True).stdout
        assert f"rlmba::{isa}::" in out
        assert shared_functions(out, isa) == [], path


def test_a_shared_template_would_be_found():
    lines = [
        "0000000000000000 W void std::sort<float*>(float*, float*)",
        "0000000000000000 W void std::sort<rlmba::avx512::Entry*>(rlmba::avx512::Entry*)",
        "0000000000000000 V DW.ref.__gxx_personality_v0",
        "                 U rlmba::max_threads()",
    ]
    expected = ["void std::sort<float*>(float*, float*)"]
    assert shared_functions("\n".join(lines), "avx512") == expected
